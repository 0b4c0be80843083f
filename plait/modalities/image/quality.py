"""What is wrong with a picture of a person's (plait.modalities.Checks)."""

from __future__ import annotations

import numpy as np

from plait.contract import Part
from plait.runtime.pictures import open_picture, to_canvas

WAYS = ("draw", "photograph", "upload")
SMALLEST = 16  # pixels a side
BLANK = 2.0  # standard deviation of the levels, of 255


def complaints(part: Part) -> list[str]:
    """What makes a picture useless: its size, or that there is nothing on it. Raises RowError."""
    pixels = np.asarray(to_canvas(open_picture(part.value), 3))
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST:
        return [f"it has {width} x {height} pixels; expected at least {SMALLEST} a side"]
    return ["there is nothing on it: draw or photograph something"] if pixels.std() < BLANK else []
