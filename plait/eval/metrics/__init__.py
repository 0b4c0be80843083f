"""Scores of answers beside exact matches and judges: one file a family of scores, looked up by name.

A task lists its scores (`GroupTask.scores`). A score is a function of an Outcome and a Bench that returns entries of
report.json. Independent models and libraries of the extra `judges` are loaded when a score first needs them; where one is
missing, the report leaves the score out and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plait.errors import ConfigError
from plait.eval.metrics import boxes, choice, embedding, media, words
from plait.eval.metrics.bench import Bench
from plait.eval.suites import Outcome

Score = Callable[[Outcome, Bench], list[dict[str, Any]]]

SCORES: dict[str, Score] = {**words.SCORES, **choice.SCORES, **boxes.SCORES, **media.SCORES, **embedding.SCORES}
OF_THE_MODEL = frozenset(
    {**choice.SCORES, **embedding.SCORES}
)  # asked of the model itself: of answers that another gave they say nothing


def score(name: str) -> Score:
    """The score `name`. Raises ConfigError."""
    if name not in SCORES:
        raise ConfigError(f"unknown score {name!r}; expected one of {', '.join(sorted(SCORES))}")
    return SCORES[name]


__all__ = ["OF_THE_MODEL", "SCORES", "Bench", "Score", "score"]
