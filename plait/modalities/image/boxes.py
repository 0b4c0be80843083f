"""Boxes in a picture as text: `cell [x1, y1, x2, y2]; cell [...]`, corners as whole numbers from 0 to SCALE of its sides.

Where the question names the only label, `[x1, y1, x2, y2]; [...]` says as much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SCALE = 1000
_BOX = re.compile(r"([^;\[\]]*)\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")


def boxes_as_text(boxes: Sequence[Mapping[str, Any]], size: Sequence[float]) -> str:
    """Boxes {label, box: [x1, y1, x2, y2] in pixels} of a picture of `size` (width, height), from the top left on; one with an
    empty label has its numbers alone."""
    scaled = []
    for box in boxes:
        x1, y1, x2, y2 = (round(SCALE * at / size[axis % 2]) for axis, at in enumerate(box["box"]))
        scaled.append((y1, x1, f"{box['label']} [{x1}, {y1}, {x2}, {y2}]".lstrip()))
    return "; ".join(text for *_, text in sorted(scaled))


def boxes_in_text(text: str, size: Sequence[float]) -> list[dict[str, Any]]:
    """The boxes that a text names, in pixels of a picture of `size`; each keeps the span of its characters. What is no
    box (corners out of order or out of the picture) is left out."""
    found = []
    for match in _BOX.finditer(text):
        x1, y1, x2, y2 = map(int, match.groups()[1:])
        if x1 < x2 <= SCALE and y1 < y2 <= SCALE:
            box = [at * size[axis % 2] / SCALE for axis, at in enumerate((x1, y1, x2, y2))]
            found.append({"label": match[1].strip(), "box": box, "span": match.span()})
    return found
