"""Where in a clip its tokens are, and pieces of it that people can point at (plait.modalities.Regions)."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from plait.contract import Part, Segment
from plait.modalities import Region
from plait.modalities.audio.mel import HOP, RATE

if TYPE_CHECKING:
    from plait.modalities.audio.codec import Audio

LONGEST, MOST = 0.2, 40  # seconds of a piece, where that makes no more than so many
FADE = RATE // 400  # samples before and after its edge in which a piece falls silent


def of_tokens(modality: Audio, segment: Segment) -> list[Region]:
    """The seconds of each token."""
    count = sum(len(block.tokens) for block in segment.blocks)
    lasts = modality.frames * HOP / RATE
    return [{"seconds": (number * lasts, (number + 1) * lasts)} for number in range(count)]


def _edges(seconds: float) -> np.ndarray:
    return np.linspace(0.0, seconds, 1 + min(MOST, max(1, math.ceil(seconds / LONGEST))))


def pieces(modality: Audio, part: Part) -> list[Region]:
    """Stretches of equal length."""
    samples, rate = modality.mono(part)
    edges = _edges(len(samples) / rate)
    return [{"seconds": (float(first), float(last))} for first, last in pairwise(edges)]


def without(modality: Audio, part: Part, numbers: Collection[int]) -> Part:
    """The clip with silent stretches; as loud as before where it is not silent."""
    samples, rate = modality.mono(part)
    edges = (_edges(len(samples) / rate) * rate).round().astype(int)
    gain = np.ones(len(samples), np.float32)
    for number in numbers:
        gain[edges[number] : edges[number + 1]] = 0.0
    width = 1 + 2 * min(FADE, len(gain) // 2)
    faded = np.convolve(np.pad(gain, width // 2, mode="edge"), np.ones(width) / width, mode="valid")
    return Part(modality.name, ((samples * faded).astype(np.float32), rate))
