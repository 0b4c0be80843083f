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
