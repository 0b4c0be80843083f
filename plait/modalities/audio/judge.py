"""The input of an independent judge of clips: linear-band spectrograms, which share no features with the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plait.contract import Part
from plait.modalities import JudgeView
from plait.modalities.audio.codec import Audio
from plait.modalities.audio.measure import facts, waveform
from plait.modalities.audio.mel import RATE

EPOCHS = 20
MIN_SECONDS, MAX_SECONDS = 0.3, 3.0  # of the view
MAX_PARTS = 200  # clips that determine its length


def _bands(part: Part, frames: int) -> np.ndarray:
    """[1, 32, frames] float32 log magnitudes of a 512-point STFT in linear bands, every 10 ms."""
    length = RATE // 100 * frames
    samples = torch.from_numpy(np.ascontiguousarray(waveform(part), np.float32))
    samples = F.pad(samples, (0, max(0, length - len(samples))))[:length]
    spectrum = torch.stft(samples, 512, RATE // 100, window=torch.hann_window(512), return_complex=True).abs()
    bands = F.avg_pool1d(spectrum[1:].T, 8).T[:, :frames]
    logs: np.ndarray = (torch.log(bands + 1e-3)[None] / 4.0 + 0.5).numpy()
    return logs


def _augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """[B, 1, bands, frames] with another loudness, a shift in time and a little noise."""
    gain = torch.randn(len(x), 1, 1, 1, generator=generator) * 0.2
    shift = int(torch.randint(-6, 7, (1,), generator=generator))
    return torch.roll(x, shift, dims=-1) + gain + 0.1 * torch.randn(x.shape, generator=generator)


def _round_trip(part: Part) -> Part:
    """A recording after the model's own mel and phase reconstruction."""
    audio = Audio(max_seconds=math.inf)
    return audio.write(audio.read(part))


def sound_view(frames: int = 120) -> JudgeView:
    """A view of the first `frames` frames of 10 ms of a clip."""
    return JudgeView(1, partial(_bands, frames=frames), _augment, epochs=EPOCHS, stride=2, round_trip=_round_trip)


def judge_view(modality: Any, parts: Sequence[Part]) -> JudgeView:
    """A view as long as nearly all of the parts, within MIN_SECONDS and MAX_SECONDS."""
    seconds = np.quantile([float(facts(part)["seconds"]) for part in parts[:MAX_PARTS]], 0.95)
    return sound_view(int(100 * min(MAX_SECONDS, max(MIN_SECONDS, float(seconds)))))
