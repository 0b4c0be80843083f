"""A recipe: data, model, schedule and promise in one object, with overrides by dotted key."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from plait import recipes
from plait.data.loader import PackConfig
from plait.data.sequence import FlowConfig
from plait.errors import ConfigError
from plait.infer.request import Request
from plait.model.transformer import TrunkConfig, vanilla
from plait.train.optim import OptimConfig


class Sampling(BaseModel):
    """Fields of `Request` that the evaluation uses; `generate` takes all but the last from here too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(Request.steps, ge=1, description="Euler steps a block")
    guidance: float = Field(Request.guidance, ge=0, description="1: off")
    temperature: float = Field(Request.temperature, ge=0, description="0: the likeliest id")
    max_tokens: int = Field(64, ge=1, description="bounds the answer")


class Recipe(BaseModel):
    """What `plait train` needs to know. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    data: str = Field(description="folder of the data: train.jsonl and what the evaluation needs")
    hold_out: dict[str, float] = Field(
        default_factory=dict,
        description="split -> share of train.jsonl, by content; a file SPLIT.jsonl takes its place",
    )
    modalities: dict[str, dict[str, Any]] = Field(description="name -> settings of each modality")
    trunk: TrunkConfig = TrunkConfig()
    flow: FlowConfig = FlowConfig()
    pack: PackConfig = PackConfig()
    optim: OptimConfig = OptimConfig()
    weights: dict[str, float] = Field(default_factory=dict, description="task -> share of the rows")
    vary: dict[str, float] = Field(
        default_factory=dict, description="task -> share of the rows whose looked-at parts are varied"
    )
    loss_weights: dict[str, float] = Field(default_factory=dict, description="loss group -> weight, 1 if not named")

    @field_validator("trunk", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        """`trunk=vanilla` is the founding paper's Transformer at the default width and depth."""
        return vanilla() if value == "vanilla" else value

    turns: int = Field(1, ge=1, description="questions in the longest conversation of the rows; chat remembers as many")
    steps: int = Field(1000, ge=1)
    principal: int = Field(
        0, ge=0, strict=True, description="principal components of the data that flow heads know; 0: none"
    )
    seed: int = 0
    dtype: str = Field("auto", pattern="^(auto|float32|bfloat16)$", description="of the trunk's arithmetic")
    device: str = Field("auto", pattern="^(auto|cpu|cuda|mps)$", description="where the training computes")
    compile: bool = Field(False, description="torch.compile the trunk, with FlexAttention on a CUDA device")
    average: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average")
    save_every: int = Field(250, ge=1, description="steps between checkpoints")
    log_every: int = Field(10, ge=1)
    sampling: Sampling = Sampling()


def load(name: str) -> Recipe:
    """The recipe `name`, or that of a file NAME.json, such as a run's proposal.json. Raises ConfigError."""
    if not name.endswith(".json"):
        recipe = module(name).RECIPE
        assert isinstance(recipe, Recipe)
        return recipe
    try:
        return Recipe(**json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{name} is no recipe: {error}; expected a file such as a run's proposal.json") from error


def names() -> tuple[str, ...]:
    """Recipes that come with the package."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(recipes.__path__)))


def module(name: str) -> Any:
    """The recipe's module. Raises ConfigError.

    It has RECIPE, `build(folder, say)`, and either `suite(folder, known)` or TARGETS for the suite of plait.eval.own.
    """
    if name not in names():
        raise ConfigError(f"unknown recipe {name!r}; expected one of {', '.join(names())}")
    return importlib.import_module(f"plait.recipes.{name}")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def override(recipe: Recipe, overrides: list[str]) -> Recipe:
    """Apply `key=value` with dotted keys, values as JSON or plain text. Raises ConfigError for a bad one."""
    settings = recipe.model_dump()
    for entry in overrides:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"override {entry!r}; expected key=value, such as optim.lr=0.001")
        place = settings
        *path, last = key.split(".")
        for step in path:
            if not isinstance(place.get(step), dict):
                raise ConfigError(
                    f"override {entry!r}: there is no {step!r}; expected one of {', '.join(sorted(place))}"
                )
            place = place[step]
        place[last] = _value(value)
    try:
        return Recipe(**settings)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors()
        )
        raise ConfigError(f"recipe {recipe.name!r}: {problems}; expected the fields of plait.recipe.Recipe") from error
