"""Explanations as files and for pages, and what becomes of an answer without some of what was given."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from plait.api.model import Model
from plait.contract import WORDS, Message, Part
from plait.errors import ConfigError
from plait.explain.explanation import ANSWER, DEFAULT, Explanation, target_named
from plait.explain.lens import Lens
from plait.explain.lens_view import lens_view
from plait.explain.methods import METHODS
from plait.explain.page import described, page
from plait.explain.patching import Patching
from plait.explain.patching_view import patching_view
from plait.explain.scorer import Scorer, flow_of
from plait.explain.units import taken_out, with_part
from plait.explain.view import View

__all__ = [
    "Explanation",
    "Lens",
    "Patching",
    "View",
    "as_json",
    "described",
    "instead",
    "methods",
    "page",
    "scores",
    "view_of",
    "without",
]
ALL = "all"
LAYERS = "layers"  # what is asked of a lens


def methods(asked: Sequence[str], of: str = ANSWER) -> list[str]:
    """Names of methods: the default if none is asked for, every one for `all`. Raises ConfigError for an unknown one, and for any where
    what is explained is what layers make."""
    if of == LAYERS and asked:
        raise ConfigError(f"got the method {asked[0]} of {of}; expected none: no method weighs what layers make")
    if of != LAYERS:
        target_named(of)
    names = list(METHODS) if ALL in asked else list(dict.fromkeys(asked)) or [DEFAULT]
    if unknown := [name for name in asked if name not in METHODS and name != ALL]:
        raise ConfigError(f"got the method {unknown[0]!r}; expected one of {', '.join(METHODS)}, or {ALL}")
    return names


def as_json(explanations: Sequence[Explanation]) -> str:
    """All numbers, one entry a method."""
    return json.dumps([one.as_dict() for one in explanations], ensure_ascii=False, indent=1) + "\n"


def view_of(model: Model, outcome: Lens | Patching, check: Callable[[], object] = lambda: None) -> View:
    """A lens, or what comes back by patching, as tables for pages. `check` is called now and then; what it raises ends the work."""
    if isinstance(outcome, Patching):
        return patching_view(outcome)
    return lens_view(outcome, model.network.vocabulary.modalities[outcome.answer.parts[outcome.part].type], check)


def instead(message: Message, *parts: Part) -> Message:
    """The message with other parts in the places of its only ones of their kinds. Raises ConfigError."""
    if (kinds := Counter(part.type for part in parts)) and kinds.most_common(1)[0][1] > 1:
        kind, count = kinds.most_common(1)[0]
        raise ConfigError(f"got a counterfactual with {count} parts of {kind}; expected one of a kind")
    for part in parts:
        if part.type == WORDS and not str(part.value).strip():
            raise ConfigError(
                "got an empty counterfactual; expected other words, or a file, that differ from the question's"
            )
        places = [place for place, other in enumerate(message.parts) if other.type == part.type]
        if len(places) != 1:
            raise ConfigError(
                f"got a counterfactual of {part.type} for a question with {len(places)} parts of that kind; expected one, whose place it takes"
            )
        [message] = with_part((message,), 0, places[0], part)
    return message


def _chosen(explanation: Explanation, hidden: Sequence[int]) -> np.ndarray:
    """[units] which are hidden. Raises ConfigError."""
    units = len(explanation.units)
    if wrong := [number for number in hidden if not 0 <= number < units]:
        raise ConfigError(f"got the unit {wrong[0]}; expected numbers from 0 to {units - 1}")
    chosen = np.zeros(units, bool)
    chosen[list(hidden)] = True
    return chosen


def scores(model: Model, explanation: Explanation, hidden: Sequence[int], target: int = 0) -> tuple[float, float]:
    """The score of a target with nothing hidden, and with some units (numbers) hidden from the model, as far as it could see them. Raises
    ConfigError."""
    chosen = _chosen(explanation, hidden)
    if not 0 <= target < len(explanation.maps):
        raise ConfigError(f"got the target {target}; expected one from 0 to {len(explanation.maps) - 1}")
    aim = explanation.maps[target].target
    asked = explanation.messages, explanation.answer, aim, explanation.seed
    scorer = Scorer(model.engine, *asked, flow_of(model.config))
    keys = {unit.key for unit, is_hidden in zip(explanation.units, chosen, strict=True) if is_hidden}
    of_target = np.array([unit.key in keys for unit in scorer.units])
    shown, without_them = scorer.scores(np.stack([scorer.none_hidden, of_target]))
    return float(shown), float(without_them)


def without(model: Model, explanation: Explanation, hidden: Sequence[int]) -> tuple[Message, ...]:
    """The question as it would have been without some units (numbers): words left out, media emptied there. Raises ConfigError."""
    chosen = _chosen(explanation, hidden)
    units = [unit for unit, is_hidden in zip(explanation.units, chosen, strict=True) if is_hidden]
    return taken_out(explanation.messages, units, model.network.vocabulary)
