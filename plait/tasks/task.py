"""A task: its input, its target, its phrasings, and its scores."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plait.contract import Message, Part, Sample

REWORDED = "reworded"
Slots = dict[str, "str | Part"]


@dataclass(frozen=True)
class Item:
    """One instance of a task: the fillings of a phrasing's slots, the answer, and what the answer must show.

    `slots` maps a slot's name to a word or a medium. `expect` maps an attribute (`digit`, `language`...) to the value that an
    independent judge, or the exact text, must give. `facts` are further facts for scores. `ways` is the number of phrasings
    in which a GroupTask asks for the item; None for all.
    """

    slots: Mapping[str, str | Part]
    answer: Part
    expect: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    ways: int | None = 1


class InGrid:
    """What follows from a task's cell, such as `image+text->text`."""

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
    """`cell` is the task's place in the grid (`image->text`); the last of `phrasings` is held out from training.

    `make` draws an Item from the pool of a split (a GroupTask's `make` yields the items of a group). `extra_splits` are held-out
    splits beside test and phrasing. `targets` maps an attribute to the accuracy aimed at, as a share of the judge's ceiling
    where a judge scores it.
    """

    name: str
    cell: str
    phrasings: Sequence[str]
    make: Callable[..., Any]
    targets: Mapping[str, float] = field(default_factory=dict)
    extra_splits: Sequence[str] = ()
    relative: bool = False  # targets are shares of the judge's ceiling although the answer is text
    scores: Sequence[str] = ()  # beside exact matches and judges (plait.eval.metrics)
    reworded: Sequence[str] = ()  # phrasings that are only tested, as people might ask: a split of their own

    @property
    def trained_phrasings(self) -> Sequence[str]:
        return self.phrasings[:-1]

    @property
    def held_out_phrasing(self) -> str:
        return self.phrasings[-1]

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test", "phrasing", *self.extra_splits, *((REWORDED,) if self.reworded else ()))

    def sample(self, phrasing: str, item: Item) -> Sample:
        """The conversation: the phrasing with its slots filled, then the answer."""
        messages = (self.question(phrasing, item.slots), Message("assistant", (item.answer,)))
        meta = {"expect": dict(item.expect), "phrasing": phrasing, **item.facts}
        return Sample(messages, self.name, meta)

    def blanked(self, sample: Sample, blank: Mapping[str, Callable[[Part], Part]]) -> tuple[Message, ...]:
        """The row's question with every slot emptied: words by nothing, media by `blank`."""
        phrasing, asked = sample.meta["phrasing"], sample.messages[0]
        media = [part for part in asked.parts if part.type != "text"]
        names = list(dict.fromkeys(re.findall(r"\{(\w+)\}", phrasing)))
        for held in itertools.combinations(names, len(media)):  # which slots the media stood in, the row does not say
            slots: dict[str, str | Part] = dict.fromkeys(names, "words")
            slots.update(zip(held, media, strict=True))
            if [part.type for part in self.question(phrasing, slots).parts] == [part.type for part in asked.parts]:
                empty = {name: blank[part.type](part) for name, part in zip(held, media, strict=True)}
                return (self.question(phrasing, {name: empty.get(name, "") for name in names}),)
        raise AssertionError(f"{self.name}: {phrasing!r} does not ask {[part.type for part in asked.parts]}")

    def ask_about(self, part: Part) -> tuple[Message, ...]:
        """The first phrasing about a medium: in its only slot, or in the one that is called after its modality."""
        phrasing = self.phrasings[0]
        names = dict.fromkeys(re.findall(r"\{(\w+)\}", phrasing))
        slot = next(iter(names)) if len(names) == 1 else part.type
        return (self.question(phrasing, {slot: part}),)

    def question(self, phrasing: str, slots: Mapping[str, str | Part]) -> Message:
        """The user's message: the phrasing with its slots filled. Text beside a medium is stripped of blanks."""
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
