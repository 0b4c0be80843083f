"""Text as what can be heard of it: plain words in bytes of UTF-8, as classes of connectionist temporal classification (CTC).

Bytes need no vocabulary, serve any script, and spell words that no data has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from plait.runtime.words import plain_words

BLANK = 0
CLASSES = 257  # the blank and the bytes


class AlignmentError(ValueError):
    """A text cannot lie in a sound: it has no letters, or more than there is room for."""


def spelled(text: str) -> np.ndarray:
    """[n] classes of a text's plain words, without case and punctuation."""
    return np.frombuffer(plain_words(text).encode(), np.uint8).astype(np.int64) + 1


def read(classes: Sequence[int]) -> str:
    """The text that likeliest classes, slot by slot, spell: repetitions are one, blanks are none. Bytes that are no UTF-8 are
    left out."""
    letters = bytes(number - 1 for number, _ in groupby(classes) if number != BLANK)
    return letters.decode("utf-8", errors="ignore")


def aligned(log_probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """[T, CLASSES] log probabilities and [n] classes that were said, in order -> [n] slots where each is heard first, on the
    likeliest path (Graves et al., 2006). Raises AlignmentError for no letters, or where T slots cannot hold them."""
    needed = len(classes) + int(np.sum(classes[1:] == classes[:-1]))
    if not 0 < needed <= len(log_probabilities):
        raise AlignmentError(
            f"got {len(classes)} letters in {len(log_probabilities)} slots; expected at least one, and room for all"
        )
    states = np.full(2 * len(classes) + 1, BLANK)
    states[1::2] = classes
    may_skip = np.zeros(len(states), bool)
    may_skip[3::2] = classes[1:] != classes[:-1]  # the same class twice needs a blank between
    score = np.full(len(states), -np.inf)
    score[:2] = log_probabilities[0, states[:2]]
    moves = np.zeros((len(log_probabilities), len(states)), np.int8)
    for slot in range(1, len(log_probabilities)):
        options = np.full((3, len(states)), -np.inf)
        options[0], options[1, 1:], options[2, 2:] = score, score[:-1], score[:-2]
        options[2, ~may_skip] = -np.inf
        moves[slot] = options.argmax(axis=0)
        score = options.max(axis=0) + log_probabilities[slot, states]
    state = len(states) - 1 - int(len(states) > 1 and score[-2] > score[-1])
    first = np.zeros(len(classes), np.int64)
    for slot in range(len(log_probabilities) - 1, -1, -1):
        if state % 2:
            first[state // 2] = slot
        state -= int(moves[slot, state])
    return first
