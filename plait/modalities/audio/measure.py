"""Measurements of a clip that need no model."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from plait.contract import Part
from plait.modalities.audio.codec import Audio
from plait.modalities.audio.mel import RATE, log_mel

if TYPE_CHECKING:
    from typing import Any

BLANK_SECONDS = 0.5  # the same for all clips, since a duration is a hint too


def waveform(part: Part) -> np.ndarray:
    """[n] float32 samples of a clip at RATE, of any length. Raises RowError."""
    return Audio(max_seconds=math.inf).samples(part)


def features(modality: Any, part: Part) -> np.ndarray:
    """[6 * MELS] float32: the means of each mel bin over four quarters of the clip, then over all of it, and its standard
    deviations. Raises RowError."""
    frames = log_mel(waveform(part))
    frames = np.pad(frames, ((0, max(0, 4 - len(frames))), (0, 0)), mode="edge")
    quarters = [quarter.mean(axis=0) for quarter in np.array_split(frames, 4)]
    return np.concatenate([*quarters, frames.mean(axis=0), frames.std(axis=0)])


def features_are_alike() -> bool:
    """False: means and standard deviations differ in scale."""
    return False


def distances(modality: Audio, part: Part, reference: Part) -> dict[str, float]:
    """`log_mel_mae`: mean absolute error of the log-mel frames that both have; `frames`: how many more the part has. Raises
    RowError."""
    a, b = log_mel(modality.samples(part)), log_mel(modality.samples(reference))
    shared = min(len(a), len(b))
    return {"log_mel_mae": float(np.abs(a[:shared] - b[:shared]).mean()), "frames": float(len(a) - len(b))}


def blank(modality: Any, part: Part) -> Part:
    """BLANK_SECONDS of silence."""
    return Part(Audio.name, (np.zeros(int(BLANK_SECONDS * RATE), np.float32), RATE))


def facts(part: Part) -> Mapping[str, str | float]:
    """`seconds`, from the header."""
    value = part.value
    if isinstance(value, tuple):
        return {"seconds": round(len(value[0]) / value[1], 2)}
    return {"seconds": round(soundfile.info(io.BytesIO(value) if isinstance(value, bytes) else str(value)).duration, 2)}
