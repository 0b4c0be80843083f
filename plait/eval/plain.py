"""Plain vectors of media for baselines and distances, and media with nothing in them."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from plait.contract import Part
from plait.modalities.audio import Audio
from plait.modalities.audio.mel import RATE, log_mel
from plait.modalities.image import to_canvas

BLANK_SECONDS = 0.5  # one length: duration is a hint too


def picture_of(part: Part) -> Image.Image:
    """A part's picture, decoded."""
    if isinstance(part.value, Image.Image):
        return part.value
    with Image.open(part.value) as picture:
        picture.load()
        return picture.copy()


def pixels(part: Part, side: int = 28, channels: int = 1) -> np.ndarray:
    """[side * side * channels] grey or RGB levels of a picture, brought to one size."""
    picture = to_canvas(picture_of(part), channels)
    if picture.size != (side, side):
        picture = picture.resize((side, side))
    return np.asarray(picture, np.float32).ravel()


def waveform(part: Part) -> np.ndarray:
    """[n] samples of a clip at RATE, however long: the model's limit is its own."""
    return Audio(max_seconds=math.inf).samples(part)


def mean_and_spread_of_mel(part: Part) -> np.ndarray:
    """[480] four quarters of the clip: mean of each mel bin; and over the whole clip its mean and deviation."""
    frames = log_mel(waveform(part))
    frames = np.pad(frames, ((0, max(0, 4 - len(frames))), (0, 0)), mode="edge")
    quarters = [quarter.mean(axis=0) for quarter in np.array_split(frames, 4)]
    return np.concatenate([*quarters, frames.mean(axis=0), frames.std(axis=0)])


def black(part: Part) -> Part:
    """A black picture of the same size."""
    return Part("image", Image.new("L", picture_of(part).size))


def silence(part: Part) -> Part:
    return Part("audio", (np.zeros(int(BLANK_SECONDS * RATE), np.float32), RATE))
