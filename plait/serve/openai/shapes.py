"""What several of OpenAI's requests have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plait.contract import Message
from plait.infer.request import LARGEST, Request
from plait.serve.errors import unsupported

DEEPEST = 100  # objects and lists within each other
SURROGATE = re.compile("[\ud800-\udfff]")
DEFAULT_TOKENS = 512  # of an answer, where a request does not bound it


class Shape(BaseModel):
    """A JSON object whose unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Body(Shape):
    """The JSON object of a whole request: numbers are finite, texts are Unicode, and nothing is nested without end."""

    @model_validator(mode="before")
    @classmethod
    def _is_plain(cls, data: Any) -> Any:
        unchecked: list[tuple[Any, int]] = [(data, 0)]
        while unchecked:
            value, depth = unchecked.pop()
            if depth > DEEPEST:
                raise ValueError(f"nested deeper than {DEEPEST}; expected less")
            if isinstance(value, dict):
                unchecked += [(each, depth + 1) for pair in value.items() for each in pair]
            elif isinstance(value, list):
                unchecked += [(each, depth + 1) for each in value]
            elif isinstance(value, str) and SURROGATE.search(value):
                raise ValueError("half of a surrogate pair in a text; expected whole Unicode characters")
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"the number {value}; expected finite ones")
        return data


class WithoutEffect(Body):
    """Parameters that are accepted since clients send them, and change nothing here."""

    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


class Sampled(WithoutEffect):
    """How an answer is drawn. `guidance`, `steps` and `repeats` are Plait's own: plait.infer.request.Request says what they
    are; where they are not given the model's recipe decides."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    guidance: float | None = Field(None, ge=0, le=LARGEST)
    steps: int | None = Field(None, ge=1, le=1000)
    repeats: int | None = Field(None, ge=0, le=1000)

    def requests(
        self, usual: Mapping[str, Any], questions: Sequence[tuple[Message, ...]], count: int = 1, **fields: Any
    ) -> list[Request]:
        """`count` requests for each question, with seeds that follow each other. What is not given is as usual."""
        names = ("temperature", "top_p", "guidance", "steps", "repeats")
        sampling = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        options = {**usual, **sampling, **fields}
        seeds = range(self.seed or 0, (self.seed or 0) + count)
        return [Request(question, seed=seed, **options) for question in questions for seed in seeds]


class Explain(Shape):
    """What is explained, and how."""

    of: str = Field(
        "answer",
        max_length=40,
        description="answer; token, patch or frame: each by itself; token:2; layers: what each makes of the answer",
    )
    methods: list[str] = Field(default_factory=list, max_length=8, description="shapley if none is named")


def refuse(shape: BaseModel, neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ApiError for parameters of a shape whose values are not among the neutral ones; None always is."""
    for name, values in neutral.items():
        value = getattr(shape, name)
        if value is not None and value not in values:
            expected = (
                f"expected it to be left out, or {' or '.join(map(repr, values))}"
                if values
                else "expected it to be left out"
            )
            raise unsupported(name, f"got {value!r}; {expected}")


Stop = Annotated[str, Field(min_length=1, max_length=200)]
Stops = Stop | Annotated[list[Stop], Field(max_length=16)]


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """The strings that end an answer."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


__all__ = [
    "DEFAULT_TOKENS",
    "Body",
    "Explain",
    "Request",
    "Sampled",
    "Shape",
    "Stops",
    "WithoutEffect",
    "refuse",
    "stops",
]
