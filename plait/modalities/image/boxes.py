"""Boxes in a picture as text: `cell [x1, y1, x2, y2]; cell [...]`, corners as whole numbers from 0 to SCALE of its sides.

The label may be missing, `[x1, y1, x2, y2]; [...]`, where the question names the only one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SCALE = 1000
_BOX = re.compile(r"([^;\[\]]*)\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")


def boxes_as_text(boxes: Sequence[Mapping[str, Any]], size: Sequence[float]) -> str:
    """Text of boxes {label, box: [x1, y1, x2, y2]} in pixels of a picture of `size` (width, height), sorted from the top left;
    a box with an empty label is its numbers alone."""
    scaled = []
    for box in boxes:
        x1, y1, x2, y2 = (round(SCALE * corner / size[axis % 2]) for axis, corner in enumerate(box["box"]))
        scaled.append((y1, x1, f"{box['label']} [{x1}, {y1}, {x2}, {y2}]".lstrip()))
    return "; ".join(text for *_, text in sorted(scaled))


def boxes_in_text(text: str, size: Sequence[float]) -> list[dict[str, Any]]:
    """Boxes {label, box, span} in a text: `box` in pixels of a picture of `size` (width, height), `span` the indices of its
    characters. Skips boxes whose corners are out of order or out of the picture."""
    boxes = []
    for match in _BOX.finditer(text):
        x1, y1, x2, y2 = map(int, match.groups()[1:])
        if x1 < x2 <= SCALE and y1 < y2 <= SCALE:
            box = [corner * size[axis % 2] / SCALE for axis, corner in enumerate((x1, y1, x2, y2))]
            boxes.append({"label": match[1].strip(), "box": box, "span": match.span()})
    return boxes
