"""What encoders of sound are given: samples, varied copies of them for training, and Whisper's spectrograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from plait.contract import Part
from plait.modalities import Portable, Reader
from plait.modalities.audio.mel import HOP, RATE, filterbank

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

WINDOW = 400  # samples, 25 ms
STACKED = 4  # frames of 20 ms in one feature token
SPELLED = "_spelled"  # ends the name of a reader whose features are spelled, a letter a frame
NOISE = (5.0, 30.0)  # signal-to-noise ratio, dB


def whisper_mel(samples: Tensor) -> Tensor:
    """[B, n] samples at 16 kHz -> [B, 80, n / HOP] log-mel spectrograms as Whisper (Radford et al., 2022) takes them."""
    window = torch.hann_window(WINDOW, device=samples.device)
    spectrum = torch.stft(samples, WINDOW, HOP, window=window, return_complex=True)[..., :-1]
    mel = filterbank(WINDOW).to(samples.device) @ spectrum.abs().square()
    logs = mel.clamp_min(1e-10).log10()
    logs = torch.maximum(logs, logs.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (logs + 4.0) / 4.0


def varied(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A clip at another tempo and pitch, through a telephone's band, in noise, in a room, each for some."""
    speed = rng.uniform(0.85, 1.15)
    positions = np.arange(0, len(samples) - 1, speed)
    samples = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    if rng.random() < 0.3:
        length = int(RATE * rng.uniform(0.1, 0.5))
        tail = rng.standard_normal(length) * 10 ** (-3.0 * np.arange(length) / length)
        tail *= rng.uniform(0.1, 0.6) / max(float(np.sqrt(np.square(tail).sum())), 1e-6)
        tail[0] += 1.0
        size = 1 << (len(samples) + length).bit_length()
        echoed = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)
        samples = echoed[: len(samples)].astype(np.float32)
    if rng.random() < 0.3:  # a low or a high end is missing
        spectrum = np.fft.rfft(samples)
        hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
        spectrum[(hertz < rng.uniform(50, 350)) | (hertz > rng.uniform(3000, 7500))] *= 0.03
        samples = np.fft.irfft(spectrum, len(samples)).astype(np.float32)
    if rng.random() < 0.5:
        coloured = np.fft.rfft(rng.standard_normal(len(samples)))
        coloured /= np.maximum(1.0, np.arange(len(coloured))) ** rng.uniform(0.0, 0.6)
        noise = np.fft.irfft(coloured, len(samples))
        ratio = 10 ** (-rng.uniform(*NOISE) / 20)
        scale = ratio * np.sqrt(np.square(samples).mean() / max(np.square(noise).mean(), 1e-12))
        samples = (samples + scale * noise).astype(np.float32)
    varied: np.ndarray = (samples * rng.uniform(0.4, 1.3)).astype(np.float32)
    return varied


class Listener:
    """The part of a reader (plait.modalities.Reader) that all encoders of sound share."""

    tokens = words = letters = 0
    seconds = 0.02 * STACKED

    def prepare(self, modality: Any, part: Part) -> np.ndarray:
        """[n] samples at 16 kHz."""
        samples: np.ndarray = modality.samples(part)
        return samples

    def vary(self, prepared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The clip as it might have been recorded elsewhere."""
        return varied(prepared, rng)


class Spelled:
    """A reader of sound whose features are spelled (plait.model.heard)."""

    tokens = words = 0
    letters = STACKED
    seconds = 0.02 * STACKED

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.name, self.version, self.width = reader.name + SPELLED, reader.version, reader.width

    def prepare(self, modality: Any, part: Part) -> np.ndarray:
        """As `Reader.prepare`."""
        return self.reader.prepare(modality, part)

    def vary(self, prepared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As `Reader.vary`."""
        return self.reader.vary(prepared, rng)

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`."""
        return self.reader.files(folder)

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """As `Reader.load`."""
        return self.reader.load(device)

    def networks(self) -> Mapping[str, tuple[nn.Module, Tensor]]:
        """As `Portable.networks`."""
        return self.reader.networks() if isinstance(self.reader, Portable) else {}
