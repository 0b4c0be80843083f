"""Augmentation of questions about pictures whose answers are boxes: picture and boxes move together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from plait.contract import Part, Sample
from plait.data.media import Member
from plait.errors import RowError
from plait.modalities.image.boxes import boxes_as_text, boxes_in_text
from plait.runtime.pictures import open_picture

NONE = "none"
LEAST_LEFT = 0.5  # of a box that is still one when a part of it is out of the picture
ZOOM = (0.8, 1.2)  # what `move` scales by,
SHIFT = 0.05  # the share of the sides that it shifts by at most,
TURN = 0.05  # and the radians that it turns by: a turned box is enclosed by a larger one
SIDED = re.compile(r"\b(left|right)(wards?)?\b|o[’']clock|thirty|clockwise")  # labels that a mirror makes false


def move(sample: Sample, rng: np.random.Generator, flip: bool = False) -> Sample:
    """Scales, shifts and rotates the question's only picture a little, and moves the answer's boxes along.

    With `flip` it also mirrors the picture in half of the draws. A box that keeps less than LEAST_LEFT of its area within the
    picture is dropped; an answer that loses all its boxes becomes NONE. An answer without boxes is unchanged: the caller must
    know whether it still holds. Boxes are written in the order of `boxes_as_text`. Raises RowError where the question has no
    picture or several, or where the picture cannot be opened.
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
        moved_boxes = [box | {"box": at} for box in boxes if (at := _moved(box["box"], matrix, shift, picture.size))]
        return replace(part, value=(boxes_as_text(moved_boxes, picture.size) or NONE) if boxes else part.value)

    messages = tuple(replace(m, parts=tuple(renewed(m.role, part) for part in m.parts)) for m in sample.messages)
    return replace(sample, messages=messages)


def move_and_mirror(sample: Sample, rng: np.random.Generator) -> Sample:
    """`move`, with mirroring unless the label asked for distinguishes left from right, or hours of a clock."""
    return move(sample, rng, flip=not SIDED.search(str(sample.meta.get("label", "")).casefold()))


TRANSFORMS = {"move": move, "move_and_mirror": move_and_mirror}


def _opened(value: Any) -> Image.Image:
    """A picture as the model sees it: upright, on white, without a palette. Raises RowError."""
    picture = ImageOps.exif_transpose(open_picture(value.read() if isinstance(value, Member) else value))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode in ("L", "RGB") or picture.mode[0] in "IF" else picture.convert("RGB")


def _affine(size: np.ndarray, rng: np.random.Generator, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and shift from a point of a picture of `size` (width, height) to its place in the moved one."""
    turn, zoom = rng.uniform(-TURN, TURN), np.exp(rng.uniform(*np.log(ZOOM)))
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if flip and rng.random() < 0.5:
        matrix[:, 0] *= -1
    return matrix, size / 2 - matrix @ (size / 2) + rng.uniform(-SHIFT, SHIFT, 2) * size


def _moved(box: Sequence[float], matrix: np.ndarray, shift: np.ndarray, size: Sequence[float]) -> list[float] | None:
    """The bounding box of a moved box, clipped to the picture; None where less than LEAST_LEFT of it is inside."""
    x1, y1, x2, y2 = box
    corners = np.array([(x1, y1), (x2, y1), (x1, y2), (x2, y2)]) @ matrix.T + shift
    enclosing = np.stack([corners.min(axis=0), corners.max(axis=0)])
    inside = enclosing.clip(0, size)
    left = np.prod(inside[1] - inside[0]) / np.prod(enclosing[1] - enclosing[0])
    return inside.ravel().tolist() if left >= LEAST_LEFT else None
