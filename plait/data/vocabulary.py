"""Maps names to ids: the core's own marks, every modality's grammar, then the tokens of the categorical modalities.

Ids lie in *tables*: one for the marks and the grammar, one for each categorical modality. A checkpoint stores the names
of the first table and the state of the others, so loading maps its ids by name even after modalities are added.

Every token also has an *expert*: 0 for words and the core's marks, then two for each continuous modality, one for parts
without loss (*given*) and one for parts with loss (*written*).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from plait import registry
from plait.contract import WORDS, Modality
from plait.data.asked import Layout, finder_of
from plait.data.chat_template import ChatTemplate
from plait.errors import ConfigError

if TYPE_CHECKING:
    from plait.modalities import Reader

PAD, NULL, END, DOCUMENT = "<pad>", "<null>", "<end>", "<document>"
ROLES = {"system": "<system>", "user": "<user>", "assistant": "<assistant>", None: DOCUMENT}
CORE = (PAD, NULL, END, *ROLES.values())
GRAMMAR = "grammar"
MARKS = "marks"  # the table of the core's marks and of all grammar names
SHARED, SHARED_EXPERT = "shared", 0  # the expert of words and of the core's marks


def features_mark(reader: str) -> str:
    """The grammar name before the features of a reader."""
    return f"<features:{reader}>"


class Vocabulary:
    """Bijection of names and ids; categorical modality `m` owns the ids `offsets[m] .. offsets[m] + token_width - 1`.

    With a `template`, conversations are laid out as it says, in special tokens of the words' table, and `end` is the one
    that ends an answer; without one, in the core's own marks. Raises ConfigError for a template without words, or whose words
    have a reader.
    """

    def __init__(self, modalities: Mapping[str, Modality], template: ChatTemplate | None = None) -> None:
        self.modalities, self.template = dict(modalities), template
        self.readers = {name: reader for name, m in modalities.items() if (reader := registry.reader_of(m)) is not None}
        if template is not None and WORDS in self.readers:
            raise ConfigError(
                f"modality {WORDS!r}: got reader {self.readers[WORDS].name!r} beside a chat template; expected '': a language model reads "
                "its own words"
            )
        self.finders = {name: layout for name, m in modalities.items() if (layout := self._finder_of(m)) is not None}
        for reader in self.readers.values():
            if reader.letters and (reader.letters % 2 or reader.width % reader.letters or reader.words):
                raise ConfigError(
                    f"reader {reader.name!r} has {reader.letters} letters and {reader.words} words in {reader.width} numbers; expected "
                    "an even number of letters that the width divides by, and no words, or no letters"
                )
        grammar = [name for modality in modalities.values() for name in modality.grammar()]
        grammar += [features_mark(reader.name) for reader in self.readers.values()]
        grammar += [features_mark(layout.name) for layout in self.finders.values()]
        self.names: tuple[str, ...] = tuple(dict.fromkeys((*CORE, *grammar)))
        self.ids: dict[str, int] = {name: index for index, name in enumerate(self.names)}
        self.openers: dict[int, str] = {
            self.ids[modality.grammar()[0]]: name for name, modality in modalities.items() if modality.head == "flow"
        }
        self.offsets: dict[str, int] = {}
        size = len(self.names)
        for name, modality in modalities.items():
            if modality.head == "categorical":
                self.offsets[name] = size
                size += modality.token_width
        self.size = size
        # loss groups: the grammar, then every modality by name
        self.groups: tuple[str, ...] = (GRAMMAR, *modalities)
        self.group_of_id = np.zeros(size, np.int64)
        for name, offset in self.offsets.items():
            self.group_of_id[offset : offset + modalities[name].token_width] = self.groups.index(name)
        flows = [name for name, modality in modalities.items() if modality.head == "flow"]
        self._experts = {name: 1 + 2 * number for number, name in enumerate(flows)}
        self.num_experts = 1 + 2 * len(flows)
        self.end = self.ids[END] if template is None else self.special(template.end())
        self._legal: dict[str | None, np.ndarray] = {}

    def special(self, name: str) -> int:
        """Id of a special token of the chat template."""
        assert self.template is not None
        if WORDS not in self.offsets:
            raise ConfigError(f"a chat template needs the modality {WORDS!r}; got {', '.join(self.modalities)}")
        return self.offsets[WORDS] + self.template.specials[name]

    def _finder_of(self, modality: Modality) -> Layout | None:
        """What the finder of a modality reads, if it has one."""
        finds, reader = registry.finds(modality), self.readers.get(modality.name)
        if finds is None:
            return None
        features = (reader.tokens, reader.width) if reader is not None and reader.tokens else (0, 0)
        return Layout(finder_of(modality.name), finds.patches, finds.width, finds.places, *features)

    @property
    def experts(self) -> dict[str, int]:
        """Number of every expert beside the shared one, by name: `image_given`, `image_written`."""
        return {
            f"{name}_{kind}": first + number
            for name, first in self._experts.items()
            for number, kind in enumerate(("given", "written"))
        }

    @property
    def expert_numbers(self) -> dict[str, int]:
        """Number of every expert by name, the shared one's included."""
        return {SHARED: SHARED_EXPERT, **self.experts}

    @property
    def tables(self) -> dict[str, int]:
        """Number of ids of every table, in the order of the ids."""
        return {MARKS: len(self.names), **{name: self.modalities[name].token_width for name in self.offsets}}

    def encode(self, names: Sequence[str]) -> list[int]:
        """Ids of marks or grammar names. Raises KeyError for an unknown name."""
        return [self.ids[name] for name in names]

    def owner(self, index: int) -> str:
        """Loss group of an id: a categorical modality's name or `grammar`."""
        return self.groups[int(self.group_of_id[index])]

    def reader(self, name: str) -> Reader:
        """The reader called `name`, which is one of `readers`."""
        return next(reader for reader in self.readers.values() if reader.name == name)

    def expert(self, modality: str, written: bool) -> int:
        """Number of the expert of a modality's tokens and of the header names before them."""
        first = self._experts.get(modality)
        return SHARED_EXPERT if first is None else first + int(written)

    def legal(self, to: str | None) -> np.ndarray:
        """Ids that an answer in the modality `to` (any, if None) may go on with outside a header; always the same array."""
        if to not in self._legal:
            openers = [index for index, name in self.openers.items() if to in (None, name)]
            ids = openers if openers and to is not None else [self.end, *openers]
            special = set(self.template.specials.values()) if self.template is not None else set()
            for name, offset in self.offsets.items():
                if to in (None, name):
                    width = self.modalities[name].token_width
                    ids = [*ids, *(offset + i for i in range(width) if name != WORDS or i not in special)]
            self._legal[to] = np.array(ids)
        return self._legal[to]

    def counts(self, targets: np.ndarray) -> np.ndarray:
        """[groups] number of the [n] target ids in each loss group."""
        return np.bincount(self.group_of_id[targets], minlength=len(self.groups))
