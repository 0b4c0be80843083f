"""What is wrong with a recording of a person (plait.modalities.Checks)."""

from __future__ import annotations

import math

import numpy as np

from plait.contract import Part
from plait.modalities.audio.codec import Audio

WAYS = ("record", "upload")
SHORTEST, LONGEST = 0.3, 30.0  # seconds
FULL = 0.99  # of the range: where a sample is taken for cut off
MOST_FULL = 1e-3  # share of such samples
QUIET = 0.01  # root mean square of the loud frames: -40 dB
LEAST_RATIO = 10.0  # dB between the loud frames and the quiet ones: speech in a quiet room has 30 and more
FRAME = 0.02  # seconds


def complaints(part: Part) -> list[str]:
    """What makes a clip a bad recording: its length, level, clipping, noise; none where it will do. Raises RowError."""
    samples, rate = Audio(max_seconds=math.inf).mono(part)  # as loud as it was
    seconds, frame = len(samples) / rate, max(1, int(FRAME * rate))
    if not SHORTEST <= seconds <= LONGEST:
        return [f"it lasts {seconds:.1f} s; expected {SHORTEST} to {LONGEST:g}: record it again"]
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    levels = np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1))
    loud, still = np.quantile(levels, 0.9), np.quantile(levels, 0.1)
    if (np.abs(samples) >= FULL).mean() > MOST_FULL:
        return ["it is clipped: speak softer, or further from the microphone"]
    if loud < QUIET:
        return ["it is too quiet: speak louder, or nearer to the microphone"]
    if still > 0 and 20 * np.log10(loud / still) < LEAST_RATIO:
        return ["it is noisy, or without a pause: record in a quieter place, with a moment of silence around the words"]
    return []
