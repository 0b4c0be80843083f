"""Names to ids: the core's own marks, every modality's grammar, then the tokens of the categorical modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plait.contract import Modality

PAD, NULL, END, DOCUMENT = "<pad>", "<null>", "<end>", "<document>"
ROLES = {"system": "<system>", "user": "<user>", "assistant": "<assistant>", None: DOCUMENT}
CORE = (PAD, NULL, END, *ROLES.values())
GRAMMAR = "grammar"


class Vocabulary:
    """Bijection of names and ids; categorical modality `m` owns the ids `offset[m] .. offset[m] + width - 1`."""

    def __init__(self, modalities: Mapping[str, Modality]) -> None:
        self.modalities = dict(modalities)
        owned = [name for modality in modalities.values() for name in modality.grammar()]
        self.names: tuple[str, ...] = tuple(dict.fromkeys((*CORE, *owned)))
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

    def encode(self, names: Sequence[str]) -> list[int]:
        """Ids of grammar names."""
        return [self.ids[name] for name in names]

    def owner(self, index: int) -> str:
        """Loss group that the id belongs to: a categorical modality's name or `grammar`."""
        return self.groups[int(self.group_of_id[index])]
