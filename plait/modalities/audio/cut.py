"""Long sound in pieces that are short enough to be read (plait.modalities.Cuts), cut where it is quietest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from plait.contract import Part

if TYPE_CHECKING:
    from plait.modalities.audio.codec import Audio

FRAME = 0.02  # seconds whose loudness is compared
SMOOTHED = 10  # frames that a pause lasts
EARLIEST = 0.25  # of the longest piece: none is shorter, but the last
PAUSE = 0.05  # of the mean power has a pause at most: the first one ends a piece


def cut(modality: Audio, part: Part) -> list[tuple[Part, float]]:
    """A sound's pieces of at most `max_seconds`, and the second at which each begins. Raises RowError."""
    samples, rate = modality.mono(part, math.inf)
    longest = int(modality.max_seconds * rate)
    if len(samples) <= longest:
        return [(part, 0.0)]
    frame = max(1, int(FRAME * rate))
    power = np.square(samples[: len(samples) // frame * frame], dtype=np.float64).reshape(-1, frame).mean(axis=1)
    loudness = np.convolve(power, np.ones(SMOOTHED) / SMOOTHED, mode="same")
    pieces, begin = [], 0
    while len(samples) - begin > longest:
        first_frame, latest = -(-(begin + int(EARLIEST * longest)) // frame), begin + longest
        window = loudness[first_frame : latest // frame]
        is_pause = window <= PAUSE * loudness.mean()
        if not len(window):
            end = latest
        else:
            end = (first_frame + int(is_pause.argmax() if is_pause.any() else window.argmin())) * frame
        pieces.append((begin, max(begin + 1, end)))
        begin = pieces[-1][1]
    pieces.append((begin, len(samples)))
    return [(Part(part.type, (samples[start:end], rate)), start / rate) for start, end in pieces]
