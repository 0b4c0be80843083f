"""What can be said of a text without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from plait.contract import Part

LETTERS = 256  # buckets of letter pairs


def distances(modality: Any, part: Part, reference: Part) -> dict[str, float]:
    """The share of characters that are wrong, missing or too many."""
    import jiwer

    return {"character error rate": float(jiwer.cer(str(reference.value).strip() or ".", str(part.value).strip()))}


def features(modality: Any, part: Part) -> np.ndarray:
    """[256] how often pairs of letters stand side by side, by a hash of the pair."""
    data = str(part.value).casefold().encode("utf-8", "replace")
    pairs = np.frombuffer(data, np.uint8).astype(np.int64)
    return np.bincount((pairs[:-1] * 31 + pairs[1:]) % LETTERS, minlength=LETTERS).astype(np.float32)


def features_are_alike() -> bool:
    """Counts all."""
    return True


def blank(modality: Any, part: Part) -> Part:
    """No words."""
    return Part("text", "")


def facts(part: Part) -> Mapping[str, str | float]:
    """`characters`."""
    return {"characters": float(len(str(part.value)))}
