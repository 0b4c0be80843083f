"""Other ways to hear the same thing, for training: in a room, in noise, faster, lower, with gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plait.contract import Segment
from plait.modalities.audio.mel import HOP, MELS, RATE, WINDOW, filterbank, log_mel

if TYPE_CHECKING:
    from plait.modalities.audio.codec import Audio

ABOVE_NOISE = (5.0, 30.0)  # dB that a clip's power is above that of noise
BELOW_DIRECT = (0.0, 12.0)  # dB that the power of a room's tail is below that of what comes straight
DECAY = (0.2, 0.8)  # seconds until a room's tail has fallen by 60 dB


def in_room(frames: np.ndarray, seconds: float, below: float) -> np.ndarray:
    """[T, MELS] log-mel frames with a room's tail: the power of each goes on in the later ones, falling exponentially by
    60 dB in `seconds`, in all `below` dB under its own."""
    power = np.exp(2.0 * frames)
    fall = 10 ** (-6 * HOP / RATE / seconds)  # of power, a frame
    tail = np.zeros_like(power)
    for time in range(1, len(power)):
        tail[time] = fall * (tail[time - 1] + power[time - 1])
    share = 10 ** (-below / 10) * (1 - fall) / fall
    made: np.ndarray = 0.5 * np.log(power + share * tail)
    return made


def in_noise(frames: np.ndarray, above: float, pink: bool, rng: np.random.Generator) -> np.ndarray:
    """[T, MELS] log-mel frames with steady noise, white or pink (power as 1 / f), its mean power over all frames and bins
    `above` dB under theirs. Powers add: a log-mel is that of a magnitude, hence twice."""
    noise = log_mel(rng.standard_normal(len(frames) * HOP))[: len(frames)]
    if pink:
        filters = filterbank().numpy()
        hertz = filters @ np.linspace(0.0, RATE / 2, WINDOW // 2 + 1) / filters.sum(axis=1)
        noise = noise - 0.5 * np.log(hertz)
    power, noise_power = np.exp(2.0 * frames).mean(), np.exp(2.0 * noise).mean()
    noise = noise + 0.5 * (np.log(power / noise_power) - above * np.log(10) / 10)
    made: np.ndarray = 0.5 * np.logaddexp(2.0 * frames, 2.0 * noise)
    return made


def augment(modality: Audio, segment: Segment, rng: np.random.Generator) -> Segment:
    """A little faster or slower, lower or higher, louder or softer, in a room and in noise where the settings say so, and
    with one gap in time and one in frequency (SpecAugment, Park et al. 2019). What is off draws nothing from `rng`."""
    tokens = np.concatenate([block.tokens for block in segment.blocks])
    frames = tokens.reshape(-1, MELS)
    length = max(1, round(len(frames) * rng.uniform(0.9, 1.1)))
    places = np.linspace(0, len(frames) - 1, length)
    low = places.astype(int)
    share = (places - low)[:, None].astype(np.float32)
    frames = frames[low] * (1 - share) + frames[np.minimum(low + 1, len(frames) - 1)] * share
    if modality.room and rng.random() < modality.room:
        frames = modality.normalised(
            in_room(modality.log_mels(frames), rng.uniform(*DECAY), rng.uniform(*BELOW_DIRECT))
        )
    if modality.noise and rng.random() < modality.noise:
        frames = modality.normalised(
            in_noise(modality.log_mels(frames), rng.uniform(*ABOVE_NOISE), rng.random() < 0.5, rng)
        )
    step = int(rng.integers(-modality.pitch, modality.pitch + 1))
    bins = np.clip(np.arange(MELS) - step, 0, MELS - 1)  # what moves in at the edge is like the edge
    frames = frames[:, bins] + np.float32(rng.normal(0.0, 0.15))
    wide, start = int(rng.integers(0, 9)), int(rng.integers(0, MELS))
    frames[:, start : start + wide] = 0.0  # the mean of a bin: tokens are normalised
    wide, start = int(rng.integers(0, 1 + min(8, length // 4))), int(rng.integers(0, length))
    frames[start : start + wide] = 0.0
    return modality.chain(np.pad(frames, ((0, -length % modality.frames), (0, 0)), mode="edge"))
