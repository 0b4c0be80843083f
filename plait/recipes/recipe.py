"""A recipe: data, model, schedule and sampling settings in one object."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from plait.infer.request import Request
from plait.train.config import TrainingConfig


class Sampling(BaseModel):
    """Fields of `Request` for the evaluation; `generate` also defaults to them, except for `max_tokens`. Unknown keys are
    errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(Request.steps, ge=1, description="Euler steps a block")
    guidance: float = Field(Request.guidance, ge=0, description="1: off")
    temperature: float = Field(Request.temperature, ge=0, description="0: the likeliest id")
    max_tokens: int = Field(64, ge=1, description="bounds the answer")
    repeats: int = Field(4, ge=0, description="an answer that says the same so often in a row ends; 0: never")


class Recipe(TrainingConfig):
    """Settings of `plait train`, and of sampling from the trained model. Unknown keys are errors."""

    turns: int = Field(1, ge=1, description="questions in the longest conversation of the rows; chat remembers as many")
    sampling: Sampling = Sampling()
