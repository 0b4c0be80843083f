"""Groups of assets, and tasks that are made from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np

from plait.contract import Part, Sample
from plait.data.sources import Asset
from plait.runtime.words import plain_words
from plait.tasks.task import Item, Task

LANGUAGES = {
    "en": "English", "es": "Spanish", "fr": "French", "de": "German", "it": "Italian", "pt": "Portuguese", "pl": "Polish",
    "ro": "Romanian", "bg": "Bulgarian", "ru": "Russian", "uk": "Ukrainian", "tr": "Turkish", "ar": "Arabic", "hi": "Hindi",
    "zh": "Chinese", "ja": "Japanese", "ko": "Korean",
}  # fmt: skip
LONGEST = 200  # characters of an answer
IN_LANGUAGE = ("name", "text")  # slots of a phrasing that stand in the language of the row
NOTICE = "No medical device; ask a doctor."
BEASTS = (
    "apes", "bears", "bovines", "camels", "cats", "deer", "dogs", "equines", "mammals", "marsupials", "rodents",
    "sea mammals",
)  # fmt: skip
SOUNDS = {  # kinds of sound by the folder of a stamp that has one; in other folders it is of anything
    **dict.fromkeys(BEASTS, "mammal"), "birds": "bird", "insects": "insect", "amphibians": "frog",
    "percussion instruments": "instrument", "string instruments": "instrument", "music": "music",
}  # fmt: skip
Option = TypeVar("Option")
_SLOT = re.compile(r"\{(\w+)\}")


def hashed(name: str) -> int:
    """A 64-bit hash that is the same on every machine."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Group:
    """Assets of one split that belong together, and the random generator of the items made from them.

    `seen`: the group is in training. Some tasks answer that they do not know about groups that are not.
    """

    key: str
    assets: Sequence[Asset]
    rng: np.random.Generator
    seen: bool = True

    def of(self, *kinds: str) -> Iterator[Asset]:
        return (asset for asset in self.assets if asset.kind in kinds)

    def fraction(self, salt: str) -> float:
        """A number from 0 to 1 that depends on the group's name alone, and so is the same in every split."""
        return hashed(f"{salt}/{self.key}") / 2**64

    def some(self, options: Sequence[Option], most: int) -> list[Option]:
        """At most `most` of the options, drawn without replacement, in their order."""
        if len(options) <= most:
            return list(options)
        return [options[index] for index in sorted(self.rng.permutation(len(options))[:most])]


@dataclass(frozen=True)
class GroupTask(Task):
    """A task whose `make` yields the items of a group."""

    def sample(self, phrasing: str, item: Item) -> Sample:
        """The conversation, as `Task.sample` gives it.

        A question without media gets `meta["asks"]`: a hash of what fills the slots that all phrasings share. It is equal for
        every phrasing of the same question.
        """
        row = super().sample(phrasing, item)
        if any(part.type != "text" for part in row.messages[0].parts):
            return row
        always = frozenset.intersection(*(frozenset(_SLOT.findall(phrasing)) for phrasing in self.phrasings))
        asked = [plain_words(word := str(item.slots[slot])) or word for slot in sorted(always)]
        return replace(row, meta={**row.meta, "asks": f"{hashed(chr(10).join(asked)):016x}"})

    def samples(self, group: Group, phrasings: Sequence[str]) -> Iterator[Sample]:
        """Rows of a group's items, each item in as many phrasings as its `ways`; the items do not depend on the phrasings."""
        items: list[Item] = list(self.make(group))
        for item in items:
            for index in group.rng.permutation(len(phrasings))[: item.ways]:
                yield self.sample(phrasings[index], item)


def short(text: str) -> bool:
    """Whether a text is short enough for an answer, and not empty."""
    return 0 < len(text) <= LONGEST


def say(text: str) -> tuple[Part, dict[str, Any]]:
    """A text as the answer, and the expectation of exactly this text."""
    return Part("text", text), {"exact": text}


def labels_of(asset: Asset) -> dict[str, str]:
    """Labels of an asset's medium for classifiers: the attributes that tasks ask for.

    A drawing also has its style, so that generated drawings are compared with training drawings of the same style.
    """
    facts = asset.facts
    if asset.kind == "drawing":
        kind = facts.get("category") if asset.source == "emoji" else None
        named = {"category": kind, "colour": facts.get("colour"), "style": facts.get("style")}
    elif asset.kind == "photo":
        named = {"garment": facts.get("category")}
    elif asset.kind == "speech":
        named = {"speaker": facts.get("speaker"), "language": LANGUAGES.get(facts["language"]), "sound": "speech"}
    else:
        named = {"sound": SOUNDS.get(str(facts.get("category")))}
    return {name: str(value) for name, value in named.items() if value}
