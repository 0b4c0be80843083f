"""The one function for boxes: turned as the picture is shown, in order, inside it, and as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.contract import Message, Part, Sample
from plait.data.importers.core.records import Record
from plait.data.importers.core.report import EntryError, Report
from plait.errors import RowError
from plait.modalities.image.boxes import SCALE, boxes_as_text
from plait.runtime.pictures import read_header

QUESTION = "Where is what?"
NOTHING = "nothing"
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
SAME_SHAPE = 0.05  # by which the sides of a list may differ from the picture's, relative to one another
CLIPPED = 0.01  # of a side; less than that is rounding
Size = tuple[float, float]
Corners = tuple[float, float, float, float]
_YOLO_LINE = re.compile(r"\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Box:
    """What is in a picture and where: left, top, right, bottom. A `crowd` is many things in one box."""

    label: str
    corners: Corners
    crowd: bool = False


def around(points: Sequence[float]) -> Corners:
    """The box around x1, y1, x2, y2, ... Raises EntryError for no points."""
    if len(points) < 2 or len(points) % 2:
        raise EntryError("a polygon is no list of points", "x and y of each", f"{points!r:.60}")
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def looks_like_boxes(text: str) -> bool:
    """Whether every line is a class's number followed by at least four numbers, as in the label files of YOLO."""
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and all(_YOLO_LINE.fullmatch(line.strip()) for line in lines)


def turned(x: float, y: float, size: Size, orientation: int) -> tuple[float, float]:
    """Where a point of a picture of `size` (width, height), as it is stored, stands in the picture as it is shown. The eight
    orientations are those of EXIF."""
    width, height = size
    return {
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }.get(orientation, (x, y))


def frame_of(picture: Path, declared: Size | None) -> tuple[Size, int]:
    """(width and height that boxes are measured in, orientation that they still have to be turned by).

    A list that declares the size of the picture as it is stored has boxes that are not turned; one that declares that of the
    picture as it is shown has turned ones. None: fractions of the picture as it is shown. Raises EntryError for a size of
    another shape, and for what is no picture.
    """
    try:
        width, height, orientation = read_header(picture)
    except RowError as error:
        raise EntryError("its picture cannot be read", "a whole picture", str(error).partition(";")[0]) from error
    if declared is None:
        return (1.0, 1.0), 1
    if not all(math.isfinite(side) and side > 0 for side in declared):
        return (width, height), orientation
    stored, shown = (width, height), (height, width) if orientation in SIDEWAYS else (width, height)
    if tuple(declared) == shown and shown != stored:
        return declared, 1
    if _same_shape(declared, stored):
        return declared, orientation
    if _same_shape(declared, shown):
        return declared, 1
    raise EntryError(
        "the size in the list is not that of its picture",
        "the same shape",
        f"{declared[0]:g}x{declared[1]:g}, {width}x{height}",
    )


def _same_shape(a: Size, b: Size) -> bool:
    return abs(math.log((a[0] * b[1]) / (a[1] * b[0]))) <= SAME_SHAPE


def settled(boxes: Iterable[Box], frame: Size, orientation: int, report: Report, where: str) -> list[Box]:
    """Boxes turned as the picture is shown, corners in order, clipped to [0, 1000]; those of nothing or of a crowd are
    dropped and counted."""
    size = frame[::-1] if orientation in SIDEWAYS else frame
    kept = []
    for box in boxes:
        if box.crowd:
            report.leave("boxes of crowds", where)
            continue
        if not all(map(math.isfinite, box.corners)):
            report.leave("boxes that are not finite numbers", where)
            continue
        left, top, right, bottom = box.corners
        if left > right or top > bottom:
            report.remark("boxes have swapped corners, now in order", where)
        corners = [*turned(left, top, frame, orientation), *turned(right, bottom, frame, orientation)]
        scaled = [SCALE * at / size[axis % 2] for axis, at in enumerate(corners)]
        x1, x2, y1, y2 = *sorted(scaled[::2]), *sorted(scaled[1::2])
        inside = tuple(min(float(SCALE), max(0.0, at)) for at in (x1, y1, x2, y2))
        if round(inside[0]) == round(inside[2]) or round(inside[1]) == round(inside[3]):
            outside = x2 <= 0 or y2 <= 0 or x1 >= SCALE or y1 >= SCALE
            report.leave("boxes outside of the picture" if outside else "boxes without width or height", where)
            continue
        if max(abs(a - b) for a, b in zip(inside, (x1, y1, x2, y2), strict=True)) > CLIPPED * SCALE:
            report.remark("boxes reach out of the picture, and are clipped", where)
        kept.append(Box(box.label, inside))  # type: ignore[arg-type]
    return kept


def boxed(picture: Path, boxes: Sequence[Box], declared: Size | None, split: str, report: Report, where: str) -> Record:
    """One row: a picture, and where what is in it, in thousandths of its sides as it is shown. `declared` is the size
    (width, height) that the list gives the picture, None where boxes are fractions. Raises EntryError for a picture none of
    whose boxes can be used, and for what is no picture."""
    frame, orientation = frame_of(picture, declared)
    kept = settled(boxes, frame, orientation, report, where)
    if boxes and not kept:
        raise EntryError("none of its boxes can be used", "a box with width and height inside the picture")
    if kept and orientation != 1:
        report.remark("pictures are turned by EXIF, and their boxes with them", where)
    named = [{"label": box.label, "box": box.corners} for box in kept]
    question = Message("user", (Part("image", picture), Part("text", QUESTION)))
    answer = Message("assistant", (Part("text", boxes_as_text(named, (SCALE, SCALE)) or NOTHING),))
    return Record(Sample((question, answer), "image->text boxes"), split, where=where)
