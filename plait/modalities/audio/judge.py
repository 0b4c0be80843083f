"""How an independent judge hears clips: through features of its own, no mel among them."""

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
MOST_SECONDS, LEAST_SECONDS = 3.0, 0.3  # that a judge hears
LOOKED_AT = 200  # clips that its length is chosen by


def _bands(part: Part, frames: int) -> np.ndarray:
    """[1, 32, frames] log magnitudes of a 512-point STFT in linear bands, every 10 ms."""
    length = RATE // 100 * frames
    samples = torch.from_numpy(np.ascontiguousarray(waveform(part), np.float32))
    samples = F.pad(samples, (0, max(0, length - len(samples))))[:length]
    spectrum = torch.stft(samples, 512, RATE // 100, window=torch.hann_window(512), return_complex=True).abs()
    bands = F.avg_pool1d(spectrum[1:].T, 8).T[:, :frames]
    logs: np.ndarray = (torch.log(bands + 1e-3)[None] / 4.0 + 0.5).numpy()
    return logs


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Louder or softer, earlier or later, with a little noise."""
    gain = torch.randn(len(x), 1, 1, 1, generator=generator) * 0.2
    shift = int(torch.randint(-6, 7, (1,), generator=generator))
    return torch.roll(x, shift, dims=-1) + gain + 0.1 * torch.randn(x.shape, generator=generator)


def _round_trip(part: Part) -> Part:
    """A recording as the model's own mel and phase reconstruction would give it back."""
    audio = Audio(max_seconds=math.inf)
    return audio.write(audio.read(part))


def sound_view(frames: int = 120) -> JudgeView:
    """The first `frames` of 10 ms of a clip."""
    return JudgeView(1, partial(_bands, frames=frames), _shifted, epochs=EPOCHS, stride=2, round_trip=_round_trip)


def judge_view(modality: Any, parts: Sequence[Part]) -> JudgeView:
    """As much of a clip as nearly all of these are long, within bounds."""
    seconds = np.quantile([float(facts(part)["seconds"]) for part in parts[:LOOKED_AT]], 0.95)
    return sound_view(int(100 * min(MOST_SECONDS, max(LEAST_SECONDS, float(seconds)))))
