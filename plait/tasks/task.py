"""A task says what is given, what is predicted, in which words it is asked, and how it is scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plait.contract import Message, Part, Sample

Slots = dict[str, "str | Part"]


@dataclass(frozen=True)
class Item:
    """One instance of a task: what fills the slots of a phrasing, the answer, and what the answer must show.

    `slots` maps a name to a word or to a media part. `expect` maps an attribute (`digit`, `language`...) to the value
    that an independent judge, or the exact text, must give. `facts` is what else a score needs to know;
    `ways` the number of phrasings in which a GroupTask asks for it, None for all.
    """

    slots: Mapping[str, str | Part]
    answer: Part
    expect: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    ways: int | None = 1


class InGrid:
    """What follows from a task's `cell`, `image+text->text` say."""

    cell: str

    @property
    def gives(self) -> frozenset[str]:
        """Modalities of the input."""
        return frozenset(self.cell.split("->")[0].split("+"))

    @property
    def answers_in(self) -> str:
        """Modality of the answer."""
        return self.cell.split("->")[1]


@dataclass(frozen=True)
class Task(InGrid):
    """`cell` is its place in the grid (`image->text`); the last of `phrasings` is held out from training.

    `make` draws an Item from the pools of a split (a GroupTask's yields those of a group); `extra_splits` are further held-out splits that it knows.
    `targets` maps an attribute to the value aimed at, as a share of the judge's ceiling where a judge scores it.
    """

    name: str
    cell: str
    phrasings: Sequence[str]
    make: Callable[..., Any]
    targets: Mapping[str, float] = field(default_factory=dict)
    extra_splits: Sequence[str] = ()
    relative: bool = False  # targets are shares of the judge's ceiling although the answer is text
    scores: Sequence[str] = ()  # beside exact matches and judges (plait.eval.metrics)

    @property
    def trained_phrasings(self) -> Sequence[str]:
        return self.phrasings[:-1]

    @property
    def held_out_phrasing(self) -> str:
        return self.phrasings[-1]

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test", "phrasing", *self.extra_splits)

    def sample(self, phrasing: str, item: Item) -> Sample:
        """The conversation: the phrasing with its slots filled, then the answer."""
        messages = (self.question(phrasing, item.slots), Message("assistant", (item.answer,)))
        meta = {"expect": dict(item.expect), "phrasing": phrasing, **item.facts}
        return Sample(messages, self.name, meta)

    def blanked(self, sample: Sample, blank: Mapping[str, Callable[[Part], Part]]) -> tuple[Message, ...]:
        """The row's question with every slot emptied: no word, and `blank` of each medium."""
        media = {p.type: blank[p.type](p) for p in sample.messages[0].parts if p.type != "text"}
        return (self.question(sample.meta["phrasing"], _Emptied(media)),)

    def ask_about(self, part: Part) -> tuple[Message, ...]:
        """The first phrasing about a medium."""
        return (self.question(self.phrasings[0], {part.type: part}),)

    def question(self, phrasing: str, slots: Mapping[str, str | Part]) -> Message:
        """The user's message: the phrasing with its slots filled; text beside a medium is stripped of blanks."""
        parts: list[Part] = []
        for piece in re.split(r"(\{\w+\})", phrasing):
            value = slots[piece[1:-1]] if piece.startswith("{") else piece
            if isinstance(value, Part):
                parts.append(value)
            elif parts and parts[-1].type == "text":
                parts[-1] = Part("text", parts[-1].value + value)
            elif value:
                parts.append(Part("text", value))
        stripped = (Part("text", part.value.strip()) if part.type == "text" else part for part in parts)
        return Message("user", tuple(part for part in stripped if part.type != "text" or part.value))


class _Emptied(dict[str, str | Part]):
    """Slots of a blanked question: media replaced by empty media, words by nothing."""

    def __missing__(self, name: str) -> str:
        return ""
