"""Measurements of a picture that need no model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from plait.contract import Part
from plait.runtime.pictures import FORMATS, open_picture, to_canvas

if TYPE_CHECKING:
    from plait.modalities.image.codec import Image as ImageModality

SIDE = 28  # pixels a side of the pictures that features are computed on


def pixels(part: Part, side: int = SIDE, channels: int = 1) -> np.ndarray:
    """[side * side * channels] float32 levels from 0 to 255, grey or RGB, of a picture scaled to `side` x `side`. Raises
    RowError."""
    picture = to_canvas(open_picture(part.value), channels)
    if picture.size != (side, side):
        picture = picture.resize((side, side))
    return np.asarray(picture, np.float32).ravel()


def features(modality: ImageModality, part: Part) -> np.ndarray:
    """[SIDE * SIDE * channels] `pixels` with the channels of `modality`. Raises RowError."""
    return pixels(part, channels=modality.channels)


def features_are_alike() -> bool:
    """True: all are levels."""
    return True


def distances(modality: ImageModality, part: Part, reference: Part) -> dict[str, float]:
    """`mse`: mean squared error of levels from 0 to 1, with the reference scaled to the size of the part. Raises RowError."""
    a = np.asarray(to_canvas(open_picture(part.value), modality.channels), np.float32)
    canvas = to_canvas(open_picture(reference.value), modality.channels)  # transparent is white, as `read` sees it
    b = np.asarray(canvas.resize(a.shape[1::-1]), np.float32)
    return {"mse": float(np.mean((a - b) ** 2) / 255.0**2)}


def blank(modality: ImageModality, part: Part) -> Part:
    """A black picture of the same size. Raises RowError."""
    return Part(modality.name, Image.new("L", open_picture(part.value).size))


def facts(part: Part) -> Mapping[str, str | float]:
    """`size`: width x height in pixels, from the header."""
    value = part.value
    source = io.BytesIO(value) if isinstance(value, bytes) else Path(value) if isinstance(value, str) else value
    if isinstance(source, Image.Image):
        return {"size": "{} x {}".format(*source.size)}
    with Image.open(source, formats=FORMATS) as picture:
        return {"size": "{} x {}".format(*picture.size)}
