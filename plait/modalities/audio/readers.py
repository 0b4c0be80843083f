"""Frozen encoders that read sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from plait.contract import Part
from plait.modalities import Reader, encoders
from plait.modalities.audio.backbone import Backbone, accepts
from plait.modalities.audio.mel import HOP, RATE, filterbank
from plait.runtime.packages import unpacked

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 400  # samples, 25 ms
SECONDS = 8.0  # that are encoded at once: as many as Whisper's 30 change little, and cost four times as much
STACKED = 4  # frames of 20 ms in one feature token
WIDTH = 384
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


class WhisperTiny:
    """The encoder of Whisper tiny.en: STACKED of its frames side by side in a token, for as long as the clip lasts.

    A clip longer than SECONDS is read in pieces of that length.
    """

    name = "whisper_tiny_en"
    version = "whisper tiny.en, windows of 8 s, 4 frames a token"
    width = STACKED * WIDTH

    def prepare(self, modality: Any, part: Part) -> np.ndarray:
        """[n] samples at 16 kHz."""
        samples: np.ndarray = modality.samples(part)
        return samples

    def vary(self, prepared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The clip as it might have been recorded elsewhere."""
        return varied(prepared, rng)

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`: of the package's weights those of the encoder."""
        from plait.modalities.audio.whisper import ENCODER, PACKAGE, WEIGHTS, only

        return {f"{PACKAGE.folder}/{WEIGHTS}": only((unpacked(PACKAGE, folder) / WEIGHTS).read_bytes(), ENCODER)}

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """As `Reader.load`."""
        from plait.modalities.audio.whisper import encoder

        network = encoder(int(SECONDS * RATE / HOP / 2)).to(device)
        piece = int(SECONDS * RATE)

        @torch.inference_mode()
        def encode(prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
            pieces = [clip[start : start + piece] for clip in prepared for start in range(0, max(1, len(clip)), piece)]
            samples = torch.from_numpy(np.stack([np.pad(clip, (0, piece - len(clip))) for clip in pieces])).to(device)
            frames: Tensor = network(whisper_mel(samples)).last_hidden_state
            tokens = frames.reshape(len(frames), -1, STACKED * frames.shape[-1]).half()
            counts = [min(tokens.shape[1], max(1, -(-len(clip) // (2 * HOP * STACKED)))) for clip in pieces]
            kept = [of_piece[:count].numpy(force=True) for of_piece, count in zip(tokens, counts, strict=True)]
            features, first = [], 0
            for clip in prepared:
                number = max(1, -(-len(clip) // piece))
                features.append(np.concatenate(kept[first : first + number]))
                first += number
            return features

        return encode


READERS: dict[str, Reader] = {reader.name: reader for reader in (WhisperTiny(),)}


def find(name: str) -> Reader | None:
    """The reader of a name: one of READERS, or an encoder that was taken."""
    if name in READERS:
        return READERS[name]
    folder = encoders.taken().get(name)
    return Backbone(name, folder) if folder and accepts(encoders.settings(folder)) else None


def take(source: Path) -> Path:
    """As `encoders.take`, once the encoder has read a second of silence."""

    def check(name: str, folder: Path) -> None:
        reader = Backbone(name, folder)
        encoders.checked(reader, np.zeros(RATE, np.float32))

    return encoders.take(source, check)
