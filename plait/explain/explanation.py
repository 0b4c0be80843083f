"""One answer explained: what of the question it hangs on, and how far that can be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from plait import registry
from plait.contract import WORDS, Message, Part, Segment
from plait.errors import ConfigError
from plait.explain.faithfulness import Verdict, verdict
from plait.explain.methods import INSIDE, METHODS, Look, relevance_of
from plait.explain.scorer import Scorer, Target, flow_of
from plait.explain.tracing import Tracer
from plait.explain.units import Unit
from plait.infer.engine import Engine
from plait.modalities import Region
from plait.model.multimodal import MultimodalTransformer

FORMAT = 1
DEFAULT = "masking"
ANSWER, TOKEN = "answer", "token"
SAME = {"patch": TOKEN, "frame": TOKEN}  # what tokens of some modalities are called
MOST_TARGETS = 64  # tokens of an answer that are explained one by one


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

    def as_dict(self) -> dict[str, Any]:
        """For JSON; media as their kind alone."""
        return {
            "format": FORMAT,
            "method": self.method,
            "messages": [_message(message) for message in (*self.messages, self.answer)],
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
            if one.label:
                lines.append(f"{one.label!r}:")
            total = sum(abs(value) for value in one.values) or 1.0
            for number in np.argsort(-np.abs(one.values))[:most]:
                if one.values[number]:
                    share = one.values[number] / total
                    lines.append(f"  {100 * share:+5.0f} %  {self.describe(self.units[number])}")
            lines.append(f"  {sentence(one.verdict)}")
        return "\n".join(lines)

    def describe(self, unit: Unit) -> str:
        """A unit in words."""
        messages = (*self.messages, self.answer)
        where = "" if len(messages) == 2 and unit.message == 0 else f" of message {unit.message + 1}"
        if "characters" in unit.region:
            first, last = map(int, unit.region["characters"])
            return f"{str(messages[unit.message].parts[unit.part].value)[first:last].strip()!r}{where}"
        if "seconds" in unit.region:
            return "{}{}, {:.2f} to {:.2f} s".format(unit.kind, where, *unit.region["seconds"])
        if "box" in unit.region:
            left, top, right, bottom = (round(100 * side) for side in unit.region["box"])
            return f"{unit.kind}{where}, {left}-{right} % from the left, {top}-{bottom} % from the top"
        return f"{unit.kind}{where}"


def sentence(found: Verdict) -> str:
    """What deletion and insertion say of a map."""
    if found.is_faithful:
        return f"faithfulness {found.curves.faithfulness:.2f}; orders drawn at random {found.random:.2f}"
    if abs(found.matters) < 0.05:
        return "hiding all that was given changes next to nothing: there is nothing to explain"
    return (
        f"NOT more faithful than chance: {found.curves.faithfulness:.2f}; orders drawn at random {found.random:.2f}, "
        f"{found.chance:.0%} of them at least as good"
    )


def _message(message: Message) -> dict[str, Any]:
    parts = [{"type": part.type} | ({WORDS: str(part.value)} if part.type == WORDS else {}) for part in message.parts]
    return {"role": message.role, "parts": parts}


def targets_of(of: str, engine: Engine, answer: Message, part: int) -> list[tuple[Target, str, Region]]:
    """What is explained, with its words and its place. `of`: answer, token (each by itself) or token:NUMBER; patch and frame are
    tokens, too. Raises ConfigError."""
    name, colon, number = of.partition(":")
    name = SAME.get(name, name)
    if not answer.parts:
        raise ConfigError("got an empty answer; expected something to explain")
    if not 0 <= part < len(answer.parts):
        raise ConfigError(f"got part {part} of an answer of {len(answer.parts)}; expected one of them")
    if name == ANSWER and not colon:
        return [(Target(part), "", {})]
    if name != TOKEN or (colon and not number.isdecimal()):
        raise ConfigError(f"got of={of!r}; expected answer, token, patch or frame, or one of them such as token:3")
    chosen = answer.parts[part]
    segment = engine.encoder.modality(chosen.type).read(chosen)
    regions = _regions(engine, chosen, segment)
    count = sum(len(block.tokens) for block in segment.blocks)
    if colon:
        if int(number) >= count:
            raise ConfigError(f"got of={of!r}; expected a token from 0 to {count - 1}, of which this answer consists")
        numbers = [int(number)]
    else:
        numbers = list(range(min(count, MOST_TARGETS)))
    return [(Target(part, token, token + 1), _label(chosen, regions[token]), regions[token]) for token in numbers]


def _regions(engine: Engine, part: Part, segment: Segment) -> Sequence[Region]:
    found = registry.regions(part.type)
    count = sum(len(block.tokens) for block in segment.blocks)
    return found.of_tokens(engine.encoder.modality(part.type), segment) if found else [{}] * count


def _label(part: Part, region: Region) -> str:
    if "characters" not in region:
        return ""
    first, last = map(int, region["characters"])
    return str(part.value)[first:last]


@dataclass(frozen=True)
class Subject:
    """A model that is asked: the `engine` that answers, how the checkpoint is configured, and what gives a float32 copy of the model for
    methods that look into it."""

    engine: Engine
    config: Mapping[str, Any]
    inside: Callable[[], MultimodalTransformer]


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
    maps: list[tuple[Scorer, Map]] = []
    for target, label, region in targets_of(of, subject.engine, answer, part):
        scorer = Scorer(subject.engine, messages, answer, target, seed, flow_of(subject.config))
        tracer = Tracer(subject.inside(), scorer) if method in INSIDE else None
        values = relevance_of(method, Look(scorer, tracer, seed))
        maps.append((scorer, Map(target, tuple(map(float, values)), verdict(scorer, values, seed), label, region)))
    longest = max(maps, key=lambda pair: len(pair[0].units))[0].units
    whole = [replace(one, values=_spread(scorer.units, one.values, longest)) for scorer, one in maps]
    return Explanation(method, maps[0][0].messages, answer, tuple(longest), tuple(whole))


def _spread(units: Sequence[Unit], values: Sequence[float], every: Sequence[Unit]) -> tuple[float, ...]:
    """Values of units among all: 0 for those that come after the target."""
    known = {
        (unit.message, unit.part, tuple(unit.region.items())): value for unit, value in zip(units, values, strict=True)
    }
    return tuple(known.get((unit.message, unit.part, tuple(unit.region.items())), 0.0) for unit in every)
