"""Groups of assets, and tasks that are made from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np

from plait.contract import Part, Sample
from plait.data.sources import Asset, plain_words
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
    """64 bits that are the same on every machine."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Group:
    """Assets of one split that belong together, and the randomness of the items made from them.

    `seen`: the group is in training, where some tasks answer otherwise than about what they cannot know.
    """

    key: str
    assets: Sequence[Asset]
    rng: np.random.Generator
    seen: bool = True

    def of(self, *kinds: str) -> Iterator[Asset]:
        return (asset for asset in self.assets if asset.kind in kinds)

    def fraction(self, salt: str) -> float:
        """A number from 0 to 1 that the name alone decides: the same in every split."""
        return hashed(f"{salt}/{self.key}") / 2**64

    def some(self, options: Sequence[Option], most: int) -> list[Option]:
        """Up to `most` of the options, drawn without repetition, in their order."""
        if len(options) <= most:
            return list(options)
        return [options[index] for index in sorted(self.rng.permutation(len(options))[:most])]


@dataclass(frozen=True)
class GroupTask(Task):
    """A task whose `make` yields the items of a group."""

    def sample(self, phrasing: str, item: Item) -> Sample:
        """As any task's. A question without media also has `asks`: a hash of what fills the slots that all phrasings have, which
        is the same however it is asked."""
        made = super().sample(phrasing, item)
        if any(part.type != "text" for part in made.messages[0].parts):
            return made
        always = frozenset.intersection(*(frozenset(_SLOT.findall(phrasing)) for phrasing in self.phrasings))
        asked = [plain_words(word := str(item.slots[slot])) or word for slot in sorted(always)]
        return replace(made, meta={**made.meta, "asks": f"{hashed(chr(10).join(asked)):016x}"})

    def samples(self, group: Group, phrasings: Sequence[str]) -> Iterator[Sample]:
        """Rows of the items, each in as many phrasings as it says, drawn for it. The items do not depend on the phrasings."""
        items: list[Item] = list(self.make(group))
        for item in items:
            for index in group.rng.permutation(len(phrasings))[: item.ways]:
                yield self.sample(phrasings[index], item)


def short(text: str) -> bool:
    """Whether a text can be an answer."""
    return 0 < len(text) <= LONGEST


def say(text: str) -> tuple[Part, dict[str, Any]]:
    """A text as an answer, and what must be shown by it: just that."""
    return Part("text", text), {"exact": text}


def labels_of(asset: Asset) -> dict[str, str]:
    """What classifiers learn of an asset's medium: the attributes that tasks ask for, and a drawing's style, by which made
    drawings are compared with their like."""
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
