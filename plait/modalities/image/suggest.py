"""Settings of the modality, derived from pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from plait.contract import Part
from plait.runtime.pictures import open_picture, to_canvas

MAX_SINGLE_PATCH = 28  # pixels a side: one token a picture learns fastest (docs/experiments/image-tokens.md)
PATCH = 16
MAX_PATCHES = 16


def _is_grey(picture: Image.Image) -> bool:
    canvas = to_canvas(picture, 3)
    canvas.thumbnail((64, 64))
    red, green, blue = np.asarray(canvas, np.int16).reshape(-1, 3).T
    return bool(np.abs(red - green).max() <= 8 and np.abs(blue - green).max() <= 8)


def suggest(modality: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """One channel if all pictures are grey. One patch a picture if all are grey squares of one size of at most
    MAX_SINGLE_PATCH; otherwise patches of PATCH x PATCH, as many as the median size has, at most MAX_PATCHES. Raises
    RowError."""
    pictures = [open_picture(part.value) for part in parts]
    sizes = {picture.size for picture in pictures}
    grey = all(_is_grey(picture) for picture in pictures)
    width, height = np.median([picture.size for picture in pictures], axis=0)
    if grey and len(sizes) == 1 and width == height <= MAX_SINGLE_PATCH:
        return {"patch": int(width), "channels": 1, "max_patches": 1}
    num_patches = max(1, round(width / PATCH)) * max(1, round(height / PATCH))
    return {"patch": PATCH, "channels": 1 if grey else 3, "max_patches": int(min(MAX_PATCHES, num_patches))}
