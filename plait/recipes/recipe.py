"""A recipe: data, model, schedule and sampling settings in one object."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from plait.contract import WORDS
from plait.infer.request import GUIDANCE, STEPS, Request
from plait.train.config import TrainingConfig


class Sampling(BaseModel):
    """Fields of `Request` for the evaluation; `generate` also defaults to them, except for `max_tokens`. Unknown keys are
    errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[int, Field(ge=1)] | dict[str, Annotated[int, Field(ge=1)]] = Field(
        STEPS, description="Euler steps a block, or by modality"
    )
    guidance: Annotated[float, Field(ge=0)] | dict[str, Annotated[float, Field(ge=0)]] = Field(
        GUIDANCE, description="1: off; may be by modality"
    )
    temperature: float = Field(Request.temperature, ge=0, description="0: the likeliest id")
    max_tokens: int = Field(64, ge=1, description="bounds the answer")
    repeats: int = Field(4, ge=0, description="an answer that says the same so often in a row ends; 0: never")


class Recipe(TrainingConfig):
    """Settings of `plait train`, and of sampling from the trained model. Unknown keys are errors."""

    turns: int = Field(1, ge=1, description="questions in the longest conversation of the rows; chat remembers as many")
    sampling: Sampling = Sampling()


def of_language_model(name: str) -> Recipe:
    """The recipe that a language model of this kind has when it is imported: no data of ours, greedy answers of up to 256 tokens."""
    return Recipe(name=name, data="", modalities={WORDS: {}}, turns=16, sampling=Sampling(max_tokens=256))
