"""Pictures composed of things in the cells of a grid, none of which covers another; and such pictures composed anew."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from plait.contract import Part, Sample
from plait.data.media import Member
from plait.errors import RowError
from plait.modalities.image.boxes import boxes_as_text, boxes_in_text
from plait.runtime.pictures import open_picture, to_canvas

CANVAS = 256  # pixels of a composite's sides
CELLS = 3  # a side
SIDE = CANVAS // CELLS
SCALES = (0.55, 0.95)  # of a cell, that the longer side of a thing takes
GROUND = (225, 256)  # levels of the paper
LIKE_GROUND = 3  # levels that a pixel of the paper may differ from it by
ROWS, COLUMNS = ("top", "", "bottom"), ("left", "", "right")
ARRANGEMENTS = 10  # of the things of a picture: few enough that what an encoder gives of each is computed once
COUNT = re.compile(r"\d+")


def part_of(cell: int) -> str:
    """A cell of the grid in words, row by row: top left, ..., middle, ..."""
    return f"{ROWS[cell // CELLS]} {COLUMNS[cell % CELLS]}".strip() or "middle"


PARTS = tuple(map(part_of, range(CELLS * CELLS)))


def paper(rng: np.random.Generator) -> Image.Image:
    """An empty CANVAS x CANVAS picture."""
    return Image.new("RGB", (CANVAS, CANVAS), tuple(map(int, rng.integers(*GROUND, 3))))


def put(canvas: Image.Image, thing: Image.Image, mask: Image.Image, cell: int, rng: np.random.Generator) -> list[int]:
    """Paste a thing with its mask, scaled and moved, into a cell of the canvas; returns its box in pixels."""
    scale = SIDE * rng.uniform(*SCALES) / max(thing.size)
    size = (max(4, round(thing.width * scale)), max(4, round(thing.height * scale)))
    left = int(cell % CELLS) * SIDE + int(rng.integers(0, SIDE - size[0] + 1))
    top = int(cell // CELLS) * SIDE + int(rng.integers(0, SIDE - size[1] + 1))
    canvas.paste(thing.resize(size, Image.Resampling.LANCZOS), (left, top), mask.resize(size))
    return [left, top, left + size[0], top + size[1]]


def _is_composed(picture: Image.Image) -> bool:
    """Whether there is nothing but paper in the last row and column, which belong to no cell."""
    levels = np.asarray(picture)
    edges = np.concatenate((levels[-1], levels[:, -1]))
    return bool((edges == edges[0]).all() and (edges[0] >= GROUND[0]).all())


def _taken_apart(picture: Image.Image) -> dict[int, tuple[Image.Image, Image.Image]]:
    """The thing in each cell that has one, with its mask."""
    levels = np.asarray(picture, np.int16)
    drawn = (np.abs(levels - levels[-1, -1]) > LIKE_GROUND).any(axis=2)  # the last row and column lie in no cell
    things = {}
    for cell in range(CELLS * CELLS):
        left, top = cell % CELLS * SIDE, cell // CELLS * SIDE
        mask = Image.fromarray(drawn[top : top + SIDE, left : left + SIDE].astype(np.uint8) * 255)
        if (extent := mask.getbbox()) is not None:
            box = (left + extent[0], top + extent[1], left + extent[2], top + extent[3])
            things[cell] = picture.crop(box), mask.crop(extent)
    return things


def recompose(sample: Sample, rng: np.random.Generator) -> Sample:
    """A question about a composite, about its things in other cells and other sizes, in one of ARRANGEMENTS: the answer moves along, a
    number stays. Rows
    about other pictures stay as they are. Raises RowError where the picture cannot be opened."""
    shown = [part for message in sample.messages for part in message.parts if part.type == "image"]
    answer = sample.messages[-1].parts[0]
    if len(shown) != 1 or answer.type != "text" or shown[0] in sample.messages[-1].parts:
        raise RowError(
            f"{sample.where or sample.task}: got {len(shown)} pictures and an answer of type {answer.type}; expected a question about one "
            "picture, answered in words: use composing.recompose for such tasks alone"
        )
    value = shown[0].value
    picture = to_canvas(open_picture(value.read() if isinstance(value, Member) else value), 3)
    if picture.size != (CANVAS, CANVAS) or not _is_composed(picture):
        return sample
    things = _taken_apart(picture)
    rng = np.random.default_rng(
        [len(things), int(np.asarray(picture, np.int64).sum()), int(rng.integers(ARRANGEMENTS))]
    )
    cells = rng.permutation(CELLS * CELLS)[: len(things)].tolist()
    moved = dict(zip(things, cells, strict=True))
    composed = paper(rng)
    boxes = {cell: put(composed, *thing, moved[cell], rng) for cell, thing in things.items()}
    text = _moved_answer(str(answer.value), moved, boxes)
    if text is None:
        return sample

    def renewed(part: Part) -> Part:
        return (
            replace(part, value=composed) if part is shown[0] else replace(part, value=text) if part is answer else part
        )

    messages = tuple(replace(m, parts=tuple(map(renewed, m.parts))) for m in sample.messages)
    return replace(sample, messages=messages)


def _moved_answer(text: str, moved: dict[int, int], boxes: dict[int, list[int]]) -> str | None:
    """The answer about the picture composed anew; None where it is of no known kind, or tells of a cell with nothing in it."""
    if COUNT.fullmatch(text.strip()):
        return text
    if text.strip() in PARTS:
        cell = moved.get(PARTS.index(text.strip()))
        return None if cell is None else PARTS[cell]
    moved_boxes: list[dict[str, Any]] = []
    for box in boxes_in_text(text, (CANVAS, CANVAS)):
        x1, y1, x2, y2 = box["box"]
        cell = min(CELLS - 1, int((x1 + x2) / 2 / SIDE)) + CELLS * min(CELLS - 1, int((y1 + y2) / 2 / SIDE))
        if cell not in boxes:
            return None
        moved_boxes.append({"label": box["label"], "box": boxes[cell]})
    return boxes_as_text(moved_boxes, (CANVAS, CANVAS)) if moved_boxes else None


TRANSFORMS = {"recompose": recompose}
