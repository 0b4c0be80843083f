"""Where in a picture its tokens are, and squares of it that people can point at (plait.modalities.Regions)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PILImage

from plait.contract import Part, Segment
from plait.modalities import Region

if TYPE_CHECKING:
    from plait.modalities.image.codec import Image

GRID = 6  # pieces to a side


def _box(row: int, column: int, rows: int, columns: int) -> Region:
    return {"box": (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)}


def of_tokens(modality: Image, segment: Segment) -> list[Region]:
    """The square of each patch."""
    regions = []
    for block in segment.blocks:
        places = modality.coordinates(block.header).astype(int)
        rows, columns = places.max(axis=0) + 1
        regions += [_box(int(row), int(column), int(rows), int(columns)) for row, column in places]
    return regions


def pieces(modality: Image, part: Part) -> list[Region]:
    """GRID x GRID boxes, whatever the picture's shape."""
    modality.check(part)
    return [_box(row, column, GRID, GRID) for row in range(GRID) for column in range(GRID)]


def without(modality: Image, part: Part, numbers: Collection[int]) -> Part:
    """The picture with boxes in the colour of its edge: the median of the pixels there."""
    pixels = np.array(modality.canvas(part).convert("RGB"))
    height, width = pixels.shape[:2]
    edge = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    colour = np.median(edge, axis=0).astype(np.uint8)
    for number in numbers:
        row, column = divmod(number, GRID)
        top, bottom = row * height // GRID, (row + 1) * height // GRID
        left, right = column * width // GRID, (column + 1) * width // GRID
        pixels[top:bottom, left:right] = colour
    return Part(modality.name, PILImage.fromarray(pixels))
