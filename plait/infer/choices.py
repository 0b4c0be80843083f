"""A closed list of answers as a tree of their tokens: what may follow what was said so far."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np

from plait.contract import Modality, Part

END = -1  # a key of nodes where an answer is whole


class Choices:
    """The way through the tree of one answer. `offset`: of the modality's ids; `end`: the id that ends an answer; `after`: what
    the answer stands behind in one run of text, as a chat template lays it out."""

    def __init__(self, modality: Modality, texts: tuple[str, ...], offset: int, end: int, after: str = "") -> None:
        self.node = _tree(cast(Any, modality), texts, after)
        self.offset, self.end = offset, end

    def legal(self) -> np.ndarray:
        """Ids that may follow."""
        return np.array([self.end if token == END else token + self.offset for token in self.node])

    def take(self, index: int) -> None:
        """Go on with an id among the legal ones."""
        self.node = self.node[index - self.offset]


Node = dict[int, "Node"]


@lru_cache(maxsize=4)
def _tree(modality: Any, texts: tuple[str, ...], after: str) -> Node:
    root: Node = {}
    for text in texts:
        node = root
        if after:
            ids, starts = modality.tokenise(after + text)
            tokens = ids[starts >= len(after)]
        else:
            tokens = modality.read(Part(modality.name, text)).blocks[0].tokens
        for token in tokens.tolist():
            node = node.setdefault(token, {})
        node[END] = {}
    return root
