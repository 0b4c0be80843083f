"""What a finder reads of a medium: patches, features of a frozen encoder, and the words that are asked with it, in one array.

The loader makes it and the model takes it apart (plait.model.finder), so that nothing between them has to know of questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WORDS_ASKED = 32  # ids of a question, its last ones
BASE = 1024  # an id is two numbers below it, which float16 holds exactly
PADDING = -1.0
MOST_LETTERS = 160  # of an answer in UTF-8, its end included
SUFFIX = "_finder"


def finder_of(modality: str) -> str:
    """The name of a modality's finder."""
    return f"{modality}{SUFFIX}"


def is_finder(name: str) -> bool:
    """Whether continuous tokens of this name are a finder's."""
    return name.endswith(SUFFIX)


@dataclass(frozen=True)
class Layout:
    """Where things lie: `patches` of `width` numbers, `features` of `feature_width`, then ids; in `places` tokens."""

    name: str
    patches: int
    width: int
    places: int
    features: int = 0
    feature_width: int = 0

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of patches, of features and of what is asked."""
        return self.patches * self.width, self.features * self.feature_width, 2 * WORDS_ASKED

    @property
    def token_width(self) -> int:
        """Numbers a token."""
        return -(-sum(self.sizes) // self.places)

    def join(self, patches: np.ndarray, ids: Sequence[int], features: np.ndarray | None = None) -> np.ndarray:
        """[patches, width], ids of words and [features, feature_width], zeros for None -> [places, token_width] float16."""
        if features is None:
            features = np.zeros(self.sizes[1])
        asked = np.full(2 * WORDS_ASKED, PADDING)
        for number, index in enumerate(ids[-WORDS_ASKED:]):
            asked[2 * number : 2 * number + 2] = divmod(index, BASE)
        flat = np.concatenate([part.astype(np.float16) for part in (patches.ravel(), features.ravel(), asked)])
        return np.pad(flat, (0, self.places * self.token_width - len(flat))).reshape(self.places, self.token_width)
