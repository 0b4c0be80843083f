"""The vocoder as a trained part of the codec (plait.modalities.Weights)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from plait.modalities.audio import vocoder
from plait.modalities.audio.mel import HOP, log_mel
from plait.runtime.device import resolve_dtype

if TYPE_CHECKING:
    from plait.contract import Part
    from plait.modalities.audio.codec import Audio

FRAMES = 128  # of an example
BEGIN, END = 16, 8  # frames at an example's ends that do not count: they lack what is beside them
NOISE = 0.3  # largest standard deviation of the noise of half of the examples: frames that a model makes are not exact


def parts(modality: Audio) -> nn.Module | None:
    """A vocoder as wide as the setting `vocoder` says; none for 0."""
    return vocoder.Vocoder(modality.writing.vocoder) if modality.writing.vocoder else None


def use(modality: Audio, parts: nn.Module) -> None:
    """Write sound with this vocoder from now on, unless it was never trained: Griffin-Lim makes more of the frames then."""
    assert isinstance(parts, vocoder.Vocoder)
    if not parts.is_trained():
        return
    own: vocoder.Vocoder = copy.deepcopy(parts).to("cpu", torch.float32).eval().requires_grad_(False)
    modality.network = own


def example(modality: Audio, part: Part, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """[FRAMES, MELS] normalised frames from some place of a clip, and their (FRAMES - 1) * HOP samples."""
    samples = modality.samples(part)
    samples = np.pad(samples, (0, max(0, FRAMES * HOP - len(samples))))
    frames = log_mel(samples)
    first = int(rng.integers(len(frames) - FRAMES + 1))
    inputs = modality.normalise(frames[first : first + FRAMES])
    if rng.random() < 0.5:
        inputs = inputs + rng.normal(0.0, rng.uniform(0.0, NOISE), inputs.shape).astype(np.float32)
    return inputs, samples[first * HOP : (first + FRAMES - 1) * HOP]


def losses(parts: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """[n] losses, without the ends of the examples."""
    fast = resolve_dtype("auto", inputs.device) == torch.bfloat16
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=fast):
        samples = parts(inputs)
    middle = slice(BEGIN * HOP, (FRAMES - END) * HOP)
    return vocoder.loss(samples[:, middle], targets[:, middle])
