"""Helpers for sources of recordings: equality of texts, length of files, doubtful transcripts."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import soundfile

from plait.errors import DataError

MOST_SECONDS = 8.0
LETTERS_A_SECOND = 22.0  # the fastest speaker here says 21; where a text asks for more, parts of it were left unsaid


def words_of(text: str) -> str:
    """The words of a text without case and punctuation; two texts with equal words belong into one split."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFC", text).casefold()))


def seconds_of(path: Path) -> float:
    """Length of a sound file. Raises DataError for another file."""
    try:
        return float(soundfile.info(path).duration)
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path} is no sound file ({error}); delete its package and fetch it again") from error


def hurried(text: str, seconds: float) -> bool:
    """Whether a text is too long to be spoken in some seconds."""
    return sum(letter.isalnum() for letter in text) > LETTERS_A_SECOND * seconds
