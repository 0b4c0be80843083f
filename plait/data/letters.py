"""Text as what can be heard of it: plain words in bytes of UTF-8, as classes of connectionist temporal classification (CTC).

Bytes need no vocabulary, serve any script, and spell words that no data has.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby

import numpy as np

BLANK = 0
CLASSES = 257  # the blank and the bytes


def plain_words(words: str) -> str:
    """Words normalised for comparison: compatibility form, no case, no punctuation, single blanks."""
    folded = unicodedata.normalize("NFKC", words).casefold()
    letters = "".join(" " if unicodedata.category(letter)[0] in "PSZ" else letter for letter in folded)
    return re.sub(r"\s+", " ", letters).strip()


def spelled(text: str) -> np.ndarray:
    """[n] classes of a text's plain words, without case and punctuation."""
    return np.frombuffer(plain_words(text).encode(), np.uint8).astype(np.int64) + 1


def read(classes: Sequence[int]) -> str:
    """The text that likeliest classes, slot by slot, spell: repetitions are one, blanks are none. Bytes that are no UTF-8 are
    left out."""
    letters = bytes(number - 1 for number, _ in groupby(classes) if number != BLANK)
    return letters.decode("utf-8", errors="ignore")
