"""Hidden tokens: the row reads as if they were not there.

A token whose copy is HIDDEN is seen by none but the hidden ones of its block, by the one rule of the mask. Training hides some
of what is given now and then, so that an explanation that hides things asks nothing that the model has never met.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from plait.contract import Sample

if TYPE_CHECKING:
    from plait.data.row import Row

HIDDEN = -1  # a copy
HOLES, HOLE = 2, 4  # most holes of a sound, and most features in each
BAND = (0.05, 0.2)  # the share of every frame that a band takes, which half of the sounds lack
NOISE = 0.1  # most noise, in units of the features' deviation


def hide(row: Row, messages: Collection[int], rng: np.random.Generator) -> None:
    """Hide tokens of what stands in some `messages`, a share of them that is drawn first, each as likely as the others."""
    share = rng.random()
    for span in row.spans:
        if span.copy == 0 and span.origin.part >= 0 and span.origin.message in messages:
            chosen = span.first + np.flatnonzero(rng.random(span.count) < share)
            row.copy[chosen] = HIDDEN


def hide_now_and_then(row: Row, sample: Sample, probability: float, rng: np.random.Generator) -> None:
    """Hide some of what is given, with a probability; draws nothing where that is zero."""
    if probability and rng.random() < probability:
        hide(row, {n for n, message in enumerate(sample.messages) if message.role in ("user", "system")}, rng)


def hide_in_features(features: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """[n, width] features of a sound -> the same in noise, without some stretches of time and, for half, without one band of
    each of the `frames` frames that stand side by side in a feature, as in SpecAugment (Park et al., 2019)."""
    varied = features.astype(np.float32)
    varied += (NOISE * rng.random() * varied.std()) * rng.standard_normal(varied.shape, np.float32)
    for _ in range(HOLES):
        first = int(rng.integers(len(varied)))
        varied[first : first + int(rng.integers(HOLE + 1))] = 0.0
    if rng.random() < 0.5:
        width = features.shape[1] // frames
        first, lacking = int(rng.random() * width), max(1, int(rng.uniform(*BAND) * width))
        varied.reshape(len(varied), frames, width)[:, :, first : first + lacking] = 0.0
    return varied.astype(features.dtype)
