"""One answer explained: what of the question it hangs on, and how far that can be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from plait.contract import WORDS, Message, Part
from plait.errors import ConfigError
from plait.explain.faithfulness import LEAST, Verdict, rows_of, verdict
from plait.explain.methods import INSIDE, METHODS, Look, relevance_of, rows_of_method
from plait.explain.scorer import Scorer, Target, flow_of
from plait.explain.tracing import Tracer
from plait.explain.units import Unit, content_of
from plait.infer.engine import Engine
from plait.modalities import Region
from plait.model.multimodal import MultimodalTransformer

FORMAT = 1
DEFAULT = "shapley"  # the most faithful (docs/experiments/explaining.md)
ANSWER, TOKEN = "answer", "token"
SAME = {"patch": TOKEN, "frame": TOKEN}  # what tokens of some modalities are called
MOST_TARGETS = 64  # tokens of an answer that are explained one by one
SENTENCES = {  # what deletion and insertion say of a map; the pages have them in other languages (words.js)
    "nothing": "hiding what was given changes next to nothing: there is nothing to explain",
    "few": "faithfulness {ours}, other orders {others}: too few pieces to tell an explanation from chance",
    "faithful": "faithfulness {ours}; other orders {others}",
    "chance": "NOT more faithful than chance: {ours}; other orders {others}, {better} of them better",
}


@dataclass(frozen=True)
class Map:
    """How much each unit of an explanation matters to a target: a number a unit. `label`: the words of the target; `region`: where
    it is in its part of the answer."""

    target: Target
    values: tuple[float, ...]
    verdict: Verdict
    label: str = ""
    region: Region = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "verdict": self.verdict.as_dict()}


@dataclass(frozen=True)
class Explanation:
    """What an answer hangs on: `units` of the messages and of the answer before the target, and a map for each target."""

    method: str
    messages: tuple[Message, ...]
    answer: Message
    units: tuple[Unit, ...]
    maps: tuple[Map, ...]
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; media as their kind alone."""
        return {
            "format": FORMAT,
            "method": self.method,
            "messages": [message_entry(message) for message in (*self.messages, self.answer)],
            "units": [{k: v for k, v in asdict(unit).items() if k not in ("tokens", "piece")} for unit in self.units],
            "maps": [one.as_dict() for one in self.maps],
        }

    def to_json(self) -> str:
        """As text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=1)

    def table(self, most: int = 8) -> str:
        """The units that matter most for each target, as text."""
        lines = []
        for one in self.maps:
            kind = self.answer.parts[one.target.part].type
            if heading := repr(one.label) if one.label.strip() else place_in_words(kind, one.region):
                lines.append(f"{heading}:")
            total = sum(abs(value) for value in one.values) or 1.0
            order = [number for number in np.argsort(-np.abs(one.values)) if one.values[number]]
            for number in order[:most]:
                share = f"{100 * one.values[number] / total:+5.0f}".replace("-0", " 0").replace("+0", " 0")
                lines.append(f"  {share} %  {self.describe(self.units[number])}")
            if rest := [abs(one.values[number]) / total for number in order[most:]]:
                lines.append(f"  {100 * sum(rest):5.0f} %  in {len(rest)} more, either way (--json FILE: all)")
            lines.append(f"  {sentence(one.verdict)}")
        return "\n".join(lines)

    def describe(self, unit: Unit) -> str:
        """A unit in words."""
        return describe((*self.messages, self.answer), unit)


def describe(messages: Sequence[Message], unit: Unit) -> str:
    """A unit of messages, the last of which is the answer, in words."""
    where = "" if len(messages) == 2 and unit.message == 0 else f" of message {unit.message + 1}"
    if "characters" in unit.region:
        return f"{_words(messages[unit.message].parts[unit.part], unit.region).strip()!r}{where}"
    name = unit.kind if _alone(messages[unit.message], unit) else f"{unit.kind} (part {unit.part + 1})"
    return (place_in_words(name, unit.region) or name) + where


def _alone(message: Message, unit: Unit) -> bool:
    """Whether a unit's part is the only one of its kind in its message."""
    return sum(part.type == unit.kind for part in message.parts) == 1


def place_in_words(name: str, region: Region) -> str:
    """Where in a medium a region is, in words; nothing of other regions."""
    if "seconds" in region:
        return "{}, {:.2f} to {:.2f} s".format(name, *region["seconds"])
    if "box" in region:
        left, top, right, bottom = (round(100 * side) for side in region["box"])
        return f"{name}, {left}-{right} % from the left, {top}-{bottom} % from the top"
    return ""


def sentence(tested: Verdict) -> str:
    """What deletion and insertion say of a map."""
    return SENTENCES[outcome_of(tested)].format(**figures_of(tested))


def outcome_of(tested: Verdict) -> str:
    """Which of SENTENCES."""
    if tested.matters < LEAST:
        return "nothing"
    if not tested.is_testable:
        return "few"
    return "faithful" if tested.is_faithful else "chance"


def figures_of(tested: Verdict) -> dict[str, str]:
    """What SENTENCES name."""
    ours, others = tested.curves.faithfulness, tested.random
    return {"ours": f"{ours:.2f}", "others": f"{others:.2f}", "better": f"{tested.chance:.0%}"}


def message_entry(message: Message) -> dict[str, Any]:
    """A message for JSON; media as their kind alone."""
    parts = [{"type": part.type} | ({WORDS: str(part.value)} if part.type == WORDS else {}) for part in message.parts]
    return {"role": message.role, "parts": parts}


def target_named(of: str) -> tuple[str, str]:
    """ANSWER or TOKEN, and which one, if any. Raises ConfigError."""
    name, colon, number = of.partition(":")
    name = SAME.get(name, name)
    if (name, colon) != (ANSWER, "") and (name != TOKEN or (colon and not number.isdecimal())):
        raise ConfigError(
            f"got of={of!r}; expected answer, token, patch or frame, one of them such as token:3, or layers"
        )
    return name, number


def targets_of(of: str, whole: Scorer, part: int) -> list[tuple[Target, str, Region]]:
    """What is explained of an answer whose `whole` part a scorer knows, with its words and its place. `of`: answer, token (each by itself,
    MOST_TARGETS at most) or token:NUMBER; patch and frame are tokens, too. Raises ConfigError."""
    name, number = target_named(of)
    if name == ANSWER:
        return [(Target(part), "", {})]
    answered = whole.answer.parts[part]
    _, regions = content_of(whole.row, len(whole.messages), answered, part, whole.vocabulary)
    count = whole.tokens
    if number and int(number) >= count:
        raise ConfigError(f"got of={of!r}; expected a token from 0 to {count - 1}, of which this answer consists")
    numbers = [int(number)] if number else range(min(count, MOST_TARGETS))
    places = [regions[token] if token < len(regions) else {} for token in numbers]
    return [
        (Target(part, token, token + 1), _words(answered, place), place)
        for token, place in zip(numbers, places, strict=True)
    ]


def _words(part: Part, region: Region) -> str:
    """The words of a part in a region; none of a medium."""
    if "characters" not in region:
        return ""
    first, last = map(int, region["characters"])
    return str(part.value)[first:last]


@dataclass(frozen=True)
class Subject:
    """A model that is asked: the `engine` that answers, how the checkpoint is configured, and what gives a float32 copy of the model for
    methods that look into it. `check` is called now and then, and what it raises ends the work; `most_tokens` bounds what goes through
    the model for one explanation."""

    engine: Engine
    config: Mapping[str, Any]
    inside: Callable[[], MultimodalTransformer]
    check: Callable[[], object] = lambda: None
    most_tokens: int | None = None


def explain(
    subject: Subject,
    messages: Sequence[Message],
    answer: Message,
    *,
    of: str = ANSWER,
    part: int = 0,
    method: str = DEFAULT,
    seed: int = 0,
) -> Explanation:
    """Explain one part of an answer to messages. `of`: as `targets_of`. Raises ConfigError, RowError."""
    if method not in METHODS:
        raise ConfigError(f"got the method {method!r}; expected one of {', '.join(METHODS)}")
    if not answer.parts:
        raise ConfigError("got an empty answer; expected something to explain")
    flow = flow_of(subject.config)
    whole = Scorer(subject.engine, messages, answer, Target(part), seed, flow)
    targets = targets_of(of, whole, part)
    _affordable(subject, whole, method, len(targets))
    units, maps = tuple(whole.units), list[tuple[Sequence[Unit], Map]]()
    for target, words, region in targets:
        subject.check()
        scorer = Scorer(subject.engine, messages, answer, target, seed, flow) if target != whole.target else whole
        scorer.check = subject.check
        tracer = Tracer(subject.inside(), scorer) if method in INSIDE else None
        values = relevance_of(method, Look(scorer, tracer, seed))
        of_target = Map(target, tuple(map(float, values)), verdict(scorer, values, seed), words, region)
        maps.append((scorer.units, of_target))
        units = tuple({unit.key: unit for unit in (*units, *scorer.units)}.values())
    spread = tuple(replace(one, values=_spread(known, one.values, units)) for known, one in maps)
    return Explanation(method, whole.messages, answer, units, spread, seed)


def _affordable(subject: Subject, whole: Scorer, method: str, targets: int) -> None:
    """Raise ConfigError for more than the subject's bound."""
    units = len(whole.units) + (whole.tokens if targets > 1 else 0)
    tokens = targets * len(whole.row) * (rows_of_method(method, units) + rows_of(units))
    if subject.most_tokens is not None and tokens > subject.most_tokens:
        raise ConfigError(
            f"got {targets} targets with {units} pieces each, some {tokens:,} tokens to compute by {method}; expected at most "
            f"{subject.most_tokens:,}: a shorter question, one token, or another method"
        )


def _spread(units: Sequence[Unit], values: Sequence[float], every: Sequence[Unit]) -> tuple[float, ...]:
    """Values of units among all: 0 for those that come after the target."""
    known = {unit.key: value for unit, value in zip(units, values, strict=True)}
    return tuple(known.get(unit.key, 0.0) for unit in every)
