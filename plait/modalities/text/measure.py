"""Measurements of a text that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from plait.contract import Part

NUM_BUCKETS = 256  # of byte pairs


def distances(modality: Any, part: Part, reference: Part) -> dict[str, float]:
    """Character error rate: edit distance over the length of the reference."""
    import jiwer

    return {"character error rate": float(jiwer.cer(str(reference.value).strip() or ".", str(part.value).strip()))}


def features(modality: Any, part: Part) -> np.ndarray:
    """[NUM_BUCKETS] float32 counts of neighbouring bytes, by a hash of the pair."""
    data = str(part.value).casefold().encode("utf-8", "replace")
    pairs = np.frombuffer(data, np.uint8).astype(np.int64)
    return np.bincount((pairs[:-1] * 31 + pairs[1:]) % NUM_BUCKETS, minlength=NUM_BUCKETS).astype(np.float32)


def features_are_alike() -> bool:
    """True: all are counts."""
    return True


def blank(modality: Any, part: Part) -> Part:
    """The empty text."""
    return Part("text", "")


def facts(part: Part) -> Mapping[str, str | float]:
    """`characters`: the length."""
    return {"characters": float(len(str(part.value)))}
