"""COCO boxes: an annotations JSON with images, annotations, categories. Boxes become text, as the model will say them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plait.contract import Message, Part, Sample
from plait.data.importers import Record, split_in
from plait.errors import DataError

HELP = "COCO boxes (a .json with images, annotations and categories; pictures beside it)"
ASK = "Where is what?"


def boxes_as_text(boxes: Sequence[tuple[str, float, float, float, float]], width: float, height: float) -> str:
    """`name [x1, y1, x2, y2]; ...` with whole numbers from 0 to 1000, 1000 being the picture's far side.

    `boxes` are (name, left, top, right, bottom) in pixels. In reading order, so that the same picture always gives the same text.
    """
    made = []
    for name, left, top, right, bottom in boxes:
        corners = (left / width, top / height, right / width, bottom / height)
        made.append((name, *(round(1000 * min(1.0, max(0.0, corner))) for corner in corners)))
    made.sort(key=lambda box: (box[2], box[1], box[0]))
    return "; ".join(f"{name} [{x1}, {y1}, {x2}, {y2}]" for name, x1, y1, x2, y2 in made) or "nothing"


def boxed(
    picture: Path, boxes: Sequence[tuple[str, float, float, float, float]], size: tuple[float, float], split: str
) -> Record:
    """One row: a picture, and where what is in it."""
    asked = Message("user", (Part("image", picture), Part("text", ASK)))
    told = Message("assistant", (Part("text", boxes_as_text(boxes, *size)),))
    return Record(Sample((asked, told), "image->text boxes"), split)


def _lists(source: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Files of COCO's shape with what they hold; other JSON is left alone."""
    found = [source] if source.is_file() else [*source.glob("*.json"), *(source / "annotations").glob("*.json")]
    lists = sorted(path for path in found if path.suffix == ".json")
    objects = [path for path in lists if path.stem.startswith("instances")]  # beside them lie keypoints and captions
    for path in objects or lists:
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(raw, dict) and {"images", "annotations", "categories"} <= set(raw):
            yield path, raw


def matches(source: Path) -> bool:
    return next(_lists(source), None) is not None


def _picture(listed: Path, name: str) -> Path:
    root = listed.parent.parent if listed.parent.name == "annotations" else listed.parent
    places = [folder / name for folder in (listed.parent, root, root / "images", root / "train2017", root / "val2017")]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataError(f"{listed}: picture {name} is not there; expected it beside the list or in images/")
    return found


def records(source: Path) -> Iterator[Record]:
    """A row a picture. Raises DataError for boxes of unknown pictures or categories, and for missing pictures."""
    for listed, raw in _lists(source):
        names = {entry["id"]: entry["name"] for entry in raw["categories"]}
        boxes: dict[Any, list[tuple[str, float, float, float, float]]] = {entry["id"]: [] for entry in raw["images"]}
        for number, entry in enumerate(raw["annotations"]):
            if entry.get("image_id") not in boxes or entry.get("category_id") not in names:
                raise DataError(
                    f"{listed}: annotation {number} has image_id {entry.get('image_id')!r}, category_id "
                    f"{entry.get('category_id')!r}; expected ids of its own images and categories"
                )
            x, y, width, height = entry["bbox"]
            boxes[entry["image_id"]].append((names[entry["category_id"]], x, y, x + width, y + height))
        split = split_in(listed.stem)
        for entry in raw["images"]:
            size = (entry["width"], entry["height"])
            yield boxed(_picture(listed, entry["file_name"]), boxes[entry["id"]], size, split)
