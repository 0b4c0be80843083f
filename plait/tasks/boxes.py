"""Boxes as text: `cell [x1, y1, x2, y2]; cell [...]`, corners as whole numbers from 0 to SCALE of the picture's sides. Where
the question names the only label, `[x1, y1, x2, y2]; [...]` says as much."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from plait.contract import Part, Sample
from plait.data.media import Member, encoded
from plait.errors import RowError

SCALE = 1000
NONE = "none"
LEAST_LEFT = 0.5  # of a box that is still one when a part of it is out of the picture
ZOOM = (0.8, 1.2)  # what `move` scales by,
SHIFT = 0.05  # the share of the sides that it shifts by at most,
TURN = 0.05  # and the radians that it turns by: a turned box is enclosed by a larger one
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


def move(sample: Sample, rng: np.random.Generator, flip: bool = False) -> Sample:
    """The question about its only picture scaled, shifted, turned a little and, if `flip`, mirrored half of the time, with
    the boxes of the answer moved along, in the order of `boxes_as_text`.

    A box of which less than LEAST_LEFT stays in the picture goes; an answer of which all boxes go becomes NONE. An answer
    without boxes stays as it is: whether it still holds is for the caller to know. Raises RowError where the question has no
    picture or several, or its picture cannot be opened.
    """
    pictures = [p for m in sample.messages if m.role == "user" for p in m.parts if p.type == "image"]
    if len(pictures) != 1:
        raise RowError(
            f"{sample.where or sample.task}: got {len(pictures)} pictures; expected one, whose boxes can move"
        )
    picture = _opened(pictures[0].value)
    matrix, shift = _affine(np.array(picture.size), rng, flip)
    levels = np.asarray(picture)
    border = levels[[0, -1]].reshape(-1, len(picture.getbands())).mean(axis=0)  # as Image.vary has it
    back = np.linalg.inv(matrix)  # Pillow asks where a pixel comes from
    moved = picture.transform(
        picture.size, Image.Transform.AFFINE, np.column_stack([back, -back @ shift]).ravel().tolist(),
        Image.Resampling.BILINEAR, fillcolor=tuple(map(int, border)) if len(border) > 1 else int(border[0]),
    )  # fmt: skip

    def renewed(role: str | None, part: Part) -> Part:
        if part is pictures[0]:
            return replace(part, value=moved)
        if role != "assistant" or part.type != "text":
            return part
        boxes = boxes_in_text(part.value, picture.size)
        kept = [box | {"box": at} for box in boxes if (at := _moved(box["box"], matrix, shift, picture.size))]
        return replace(part, value=(boxes_as_text(kept, picture.size) or NONE) if boxes else part.value)

    messages = tuple(replace(m, parts=tuple(renewed(m.role, part) for part in m.parts)) for m in sample.messages)
    return replace(sample, messages=messages)


def _opened(value: Any) -> Image.Image:
    """A picture as it is looked at: upright, on white, its levels no numbers of a palette."""
    try:
        if not isinstance(value, Image.Image):
            data = value.read() if isinstance(value, Member) else value
            value = Image.open(io.BytesIO(data if isinstance(data, bytes) else encoded(data).data))
        picture = ImageOps.exif_transpose(value)
    except (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise RowError(f"image part: cannot open {value!s:.200}: {error}; expected a whole picture") from error
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode in ("L", "RGB") or picture.mode[0] in "IF" else picture.convert("RGB")


def _affine(size: np.ndarray, rng: np.random.Generator, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and shift from a place in a picture of `size` (width, height) to that in the moved one."""
    turn, zoom = rng.uniform(-TURN, TURN), np.exp(rng.uniform(*np.log(ZOOM)))
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if flip and rng.random() < 0.5:
        matrix[:, 0] *= -1
    return matrix, size / 2 - matrix @ (size / 2) + rng.uniform(-SHIFT, SHIFT, 2) * size


def _moved(box: Sequence[float], matrix: np.ndarray, shift: np.ndarray, size: Sequence[float]) -> list[float] | None:
    """The part inside the picture of what encloses a moved box; None where less than LEAST_LEFT of it is."""
    x1, y1, x2, y2 = box
    corners = np.array([(x1, y1), (x2, y1), (x1, y2), (x2, y2)]) @ matrix.T + shift
    whole = np.stack([corners.min(axis=0), corners.max(axis=0)])
    inside = whole.clip(0, size)
    left = np.prod(inside[1] - inside[0]) / np.prod(whole[1] - whole[0])
    return inside.ravel().tolist() if left >= LEAST_LEFT else None
