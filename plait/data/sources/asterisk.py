"""Recorded number words: the digits of the Asterisk telephone prompts in English, Spanish and French.

Real studio voices, 16 kHz (G.722), CC BY-SA 3.0, from the Debian packages `asterisk-core-sounds-LANGUAGE-g722`. They
are a reality check for a model that learned from synthetic speech: never trained on, and without a target.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from plait.data.sources import fetch
from plait.data.sources.espeak import trim
from plait.errors import DataError, MissingError

LANGUAGES = ("en", "es", "fr")
LICENCE = "CC BY-SA 3.0, Digium / Sangoma"
RATE = 16_000


def digits(language: str, cache: Path) -> dict[int, np.ndarray]:
    """Digit -> [n] float32 samples at 16 kHz. Raises MissingError or DataError when they cannot be had."""
    if importlib.util.find_spec("G722") is None:
        raise MissingError("the recorded prompts are G.722; to decode them: python -m pip install 'plait[recorded]'")
    from G722 import G722

    folder = fetch.apt(f"asterisk-core-sounds-{language}-g722", cache)
    made = {}
    for digit in range(10):
        found = sorted(folder.glob(f"usr/share/asterisk/sounds/*/digits/{digit}.g722"))
        if not found:
            raise DataError(
                f"{folder.name} holds no digits/{digit}.g722; expected the prompts of Asterisk's core sounds"
            )
        decoded = np.asarray(G722(RATE, 64_000).decode(found[0].read_bytes()), np.float32)
        made[digit] = trim(decoded / 32768.0)
    return made
