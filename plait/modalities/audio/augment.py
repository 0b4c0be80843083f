"""Augmentation of sound: rooms, noise, tempo, pitch, loudness and gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from plait.contract import Segment
from plait.errors import ConfigError
from plait.modalities.audio.mel import HOP, MELS, RATE, WINDOW, filterbank, log_mel

if TYPE_CHECKING:
    from plait.modalities.audio.codec import Audio

SIGNAL_TO_NOISE = (5.0, 30.0)  # dB
DIRECT_TO_REVERBERANT = (0.0, 12.0)  # dB, ratio of the powers
REVERBERATION_TIME = (0.2, 0.8)  # seconds until the reverberation has fallen by 60 dB


@dataclass(frozen=True)
class Variation:
    """Strengths of the variations: `pitch` is the largest shift in mel bins, `room` and `noise` are the probabilities of
    reverberation and of noise. Raises ConfigError for impossible ones."""

    pitch: int = 2
    noise: float = 0.0
    room: float = 0.0

    def __post_init__(self) -> None:
        if self.pitch < 0 or not 0 <= self.noise <= 1 or not 0 <= self.room <= 1:
            raise ConfigError(
                f"audio: pitch={self.pitch}, noise={self.noise}, room={self.room}; expected pitch >= 0, chances from 0 to 1"
            )


def in_room(frames: np.ndarray, seconds: float, below: float) -> np.ndarray:
    """[T, MELS] log-mel frames with reverberation: the power of each frame decays into the later ones, exponentially by
    60 dB in `seconds`; the tail's total power is `below` dB below the frame's own."""
    power = np.exp(2.0 * frames)
    decay = 10 ** (-6 * HOP / RATE / seconds)  # of power, per frame
    tail = np.zeros_like(power)
    for time in range(1, len(power)):
        tail[time] = decay * (tail[time - 1] + power[time - 1])
    share = 10 ** (-below / 10) * (1 - decay) / decay
    reverberant: np.ndarray = 0.5 * np.log(power + share * tail)
    return reverberant


def in_noise(frames: np.ndarray, above: float, pink: bool, rng: np.random.Generator) -> np.ndarray:
    """[T, MELS] log-mel frames plus stationary noise, white or pink (power as 1 / f), at a signal-to-noise ratio of `above`
    dB, taken over the mean power of all frames and bins. Powers add, and log-mels are logs of magnitudes: hence the 2."""
    noise = log_mel(rng.standard_normal(len(frames) * HOP))[: len(frames)]
    if pink:
        filters = filterbank().numpy()
        hertz = filters @ np.linspace(0.0, RATE / 2, WINDOW // 2 + 1) / filters.sum(axis=1)
        noise = noise - 0.5 * np.log(hertz)
    power, noise_power = np.exp(2.0 * frames).mean(), np.exp(2.0 * noise).mean()
    noise = noise + 0.5 * (np.log(power / noise_power) - above * np.log(10) / 10)
    noisy: np.ndarray = 0.5 * np.logaddexp(2.0 * frames, 2.0 * noise)
    return noisy


def augment(modality: Audio, segment: Segment, rng: np.random.Generator) -> Segment:
    """A clip at another tempo, pitch and loudness, in a room and in noise with the probabilities of `modality`, with one gap
    in time and one in frequency (SpecAugment, Park et al., 2019). A room or noise of probability 0 draws nothing from
    `rng`."""
    tokens = np.concatenate([block.tokens for block in segment.blocks])
    frames, variation = tokens.reshape(-1, MELS), modality.variation
    length = max(1, round(len(frames) * rng.uniform(0.9, 1.1)))
    positions = np.linspace(0, len(frames) - 1, length)
    low = positions.astype(int)
    share = (positions - low)[:, None].astype(np.float32)
    frames = frames[low] * (1 - share) + frames[np.minimum(low + 1, len(frames) - 1)] * share
    if variation.room and rng.random() < variation.room:
        frames = modality.normalise(
            in_room(modality.denormalise(frames), rng.uniform(*REVERBERATION_TIME), rng.uniform(*DIRECT_TO_REVERBERANT))
        )
    if variation.noise and rng.random() < variation.noise:
        frames = modality.normalise(
            in_noise(modality.denormalise(frames), rng.uniform(*SIGNAL_TO_NOISE), rng.random() < 0.5, rng)
        )
    step = int(rng.integers(-variation.pitch, variation.pitch + 1))
    bins = np.clip(np.arange(MELS) - step, 0, MELS - 1)  # the edge bin fills the gap of the shift
    frames = frames[:, bins] + np.float32(rng.normal(0.0, 0.15))
    width, start = int(rng.integers(0, 9)), int(rng.integers(0, MELS))
    frames[:, start : start + width] = 0.0  # the mean of a bin: frames are normalised
    width, start = int(rng.integers(0, 1 + min(8, length // 4))), int(rng.integers(0, length))
    frames[start : start + width] = 0.0
    return modality.chain(np.pad(frames, ((0, -length % modality.frames), (0, 0)), mode="edge"))
