"""Settings that suit pictures nobody here has seen before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from plait.contract import Part
from plait.runtime.pictures import open_picture, to_canvas

SMALL = 28  # pixels a side: as one token a picture learns fastest (docs/experiments/image-tokens.md)
WIDE_PATCH = 16
MOST_PATCHES = 16


def _is_grey(picture: Image.Image) -> bool:
    canvas = to_canvas(picture, 3)
    canvas.thumbnail((64, 64))
    red, green, blue = np.asarray(canvas, np.int16).reshape(-1, 3).T
    return bool(np.abs(red - green).max() <= 8 and np.abs(blue - green).max() <= 8)


def suggest(modality: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """Grey where all are grey. One size up to 28 x 28: a picture is one token. Otherwise patches of 16 x 16, as many as
    a canvas of 64 x 64 has at most."""
    pictures = [open_picture(part.value) for part in parts]
    sizes = {picture.size for picture in pictures}
    grey = all(_is_grey(picture) for picture in pictures)
    width, height = np.median([picture.size for picture in pictures], axis=0)
    if grey and len(sizes) == 1 and width == height <= SMALL:
        return {"patch": int(width), "channels": 1, "max_patches": 1}
    fitting = max(1, round(width / WIDE_PATCH)) * max(1, round(height / WIDE_PATCH))
    return {"patch": WIDE_PATCH, "channels": 1 if grey else 3, "max_patches": int(min(MOST_PATCHES, fitting))}
