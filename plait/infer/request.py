"""What is asked of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from plait.contract import WORDS, Message
from plait.errors import ConfigError

MOST_LOGPROBS = 20
STEPS, GUIDANCE = 12, 3.0  # where nobody says
SAYING = "say"  # the option of a modality that is told what to say
LARGEST = 1000.0  # of guidance and temperature; far beyond any use, and far below overflow


def _each(told: Any) -> tuple[Any, ...]:
    return tuple(told.values()) if isinstance(told, Mapping) else (told,)


@dataclass(frozen=True)
class Request:
    """A conversation to continue. `to` names the modality of the answer; None lets the model choose and mix.

    `options` maps a modality to the caller's wishes (image: size=(width, height)). `steps` of Euler's method a block;
    `guidance` 1 runs one stream; both may be told by modality instead of for all. `temperature` 0 takes the likeliest id, `top_p` draws among the likeliest ids that hold
    this share of the probability. `max_tokens` bounds the answer; words end before the first of the `stop` strings. With
    `choices` the answer is one of these texts, with a `grammar` (plait.infer.grammar) a text of it. An answer whose last
    tokens say the same `repeats` times in a row ends (plait.infer.decoder.goes_round); 0: it goes on. `logprobs`: log-probabilities
    of the words' tokens are told, with so many of the likeliest others; None: none.
    """

    messages: tuple[Message, ...]
    to: str | None = None
    seed: int = 0
    steps: int | Mapping[str, int] = STEPS
    guidance: float | Mapping[str, float] = GUIDANCE
    temperature: float = 0.0
    max_tokens: int = 512
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    repeats: int = 0
    grammar: str = ""
    logprobs: int | None = None

    def steps_of(self, modality: str) -> int:
        """Steps of a block of a modality."""
        return self.steps.get(modality, STEPS) if isinstance(self.steps, Mapping) else self.steps

    def guidance_of(self, modality: str) -> float:
        """Guidance of a modality."""
        return self.guidance.get(modality, GUIDANCE) if isinstance(self.guidance, Mapping) else self.guidance

    def guides(self, modalities: Iterable[str]) -> bool:
        """Whether a second stream may be needed, for one of the `modalities`."""
        return any(self.guidance_of(name) != 1.0 for name in modalities)

    def __post_init__(self) -> None:
        steps, guidances = _each(self.steps), _each(self.guidance)
        whole = all(isinstance(value, int) for value in (*steps, self.max_tokens, self.seed))
        if not whole or min(steps, default=1) < 1 or self.max_tokens < 1 or self.seed < 0:
            raise ConfigError(
                f"request: steps={self.steps}, max_tokens={self.max_tokens}, seed={self.seed}; expected whole numbers, "
                "steps and max_tokens >= 1, seed >= 0"
            )
        if not isinstance(self.repeats, int) or self.repeats < 0 or self.repeats == 1:
            raise ConfigError(
                f"request: repeats={self.repeats}; expected a whole number from 2 on, or 0 for no such end"
            )
        numbers = (*guidances, self.temperature)
        if not all(isinstance(value, Real) and 0 <= float(value) <= LARGEST for value in numbers):
            raise ConfigError(
                f"request: guidance={self.guidance}, temperature={self.temperature}; expected numbers from 0 to {LARGEST}"
            )
        if self.logprobs is not None and not (isinstance(self.logprobs, int) and 0 <= self.logprobs <= MOST_LOGPROBS):
            raise ConfigError(
                f"request: logprobs={self.logprobs}; expected a whole number from 0 to {MOST_LOGPROBS}, or None"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"request: top_p={self.top_p}; expected a share above 0, at most 1")
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise ConfigError(f"request: stop={self.stop!r}; expected strings that are not empty, such as ('END',)")
        if isinstance(self.choices, str) or not all(isinstance(text, str) and text for text in self.choices):
            raise ConfigError(
                f"request: choices={self.choices!r}; expected texts that are not empty, such as ('yes', 'no')"
            )
        if self.choices and self.to != WORDS:
            raise ConfigError(
                f"request: choices for to={self.to!r}; expected to={WORDS!r}: only words can be chosen from a list"
            )
        if self.grammar and (self.to != WORDS or self.choices):
            raise ConfigError(
                f"request: a grammar for to={self.to!r}{' beside choices' if self.choices else ''}; expected to={WORDS!r} and no "
                "choices: only words have a grammar"
            )
        values = [part.value for message in self.messages for part in message.parts]
        if all(isinstance(value, str) and not value for value in values):
            raise ConfigError("request: nothing was asked; expected a text that is not empty, a picture or a sound")
