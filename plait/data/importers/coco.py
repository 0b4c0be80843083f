"""COCO boxes: JSON with images, annotations and categories, one for all or one a split. Boxes become text, as the model
will say them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plait.data.importers.core.boxes import Box, Corners, around, boxed
from plait.data.importers.core.keys import class_names, number
from plait.data.importers.core.records import Record, split_in
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.errors import DataError

HELP = "COCO boxes (.json with images, annotations and categories; pictures beside it, or in folders of the splits)"
SIGNS = (".json", "image")
PARTS = ("images", "annotations", "categories")


def _lists(source: Source) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Files of COCO's shape with what they hold; other JSON is left alone."""
    lists = source.list_files(".json")
    objects = [path for path in lists if path.stem.startswith("instances")]  # beside them lie keypoints and captions
    for path in objects or lists:
        try:
            raw = source.json(path)
        except DataError:
            if path == source.path or objects:
                raise
            continue
        if isinstance(raw, dict) and set(PARTS) <= set(raw):
            yield path, raw


def matches(source: Source) -> bool:
    return next(_lists(source), None) is not None


def _entries(raw: Mapping[str, Any], name: str, label: str) -> list[Mapping[str, Any]]:
    """The objects under one of PARTS. Raises DataError."""
    entries = raw[name]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{label}: {name!r} is {str(entries)[:60]!r}; expected a list of objects")
    return entries


def _numbers(value: Any) -> list[float]:
    try:
        return [float(entry) for entry in value]
    except (TypeError, ValueError) as error:
        raise EntryError("a box is not of numbers", "[x, y, width, height]", f"{value!r:.60}") from error


def _corners(entry: Mapping[str, Any]) -> Corners | None:
    """The corners of an annotation's box, or of the box around its polygons; None where it has neither. Raises EntryError."""
    if entry.get("bbox"):
        box = _numbers(entry["bbox"])
        if len(box) != 4:
            raise EntryError("a box is not of four numbers", "[x, y, width, height]", f"{box!r:.60}")
        left, top, width, height = box
        return left, top, left + width, top + height
    polygons = entry.get("segmentation")
    if isinstance(polygons, list) and polygons:
        return around([at for polygon in polygons for at in _numbers(polygon)])
    return None


def _side(entry: Mapping[str, Any], name: str) -> float:
    """Width or height of a picture, 0 where the list does not say."""
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _boxes(annotations: list[Mapping[str, Any]], names: Mapping[Any, str], source: Source, where: str) -> list[Box]:
    """The boxes of one picture. Raises EntryError for one of no known class."""
    boxes = []
    for entry in annotations:
        name = names.get(number(entry.get("category_id")))
        if name is None:
            raise EntryError(
                "a box is of a category that is not listed", "one of its own", f"{entry.get('category_id')!r}"
            )
        corners = _corners(entry)
        if corners is None:
            source.report.leave("annotations without a box or a polygon", where)
        else:
            boxes.append(Box(name, corners, bool(entry.get("iscrowd"))))
    return boxes


def records(source: Source) -> Iterator[Record]:
    """A row a picture. Raises DataError for a list that is not of COCO's shape."""
    for path, raw in _lists(source):
        yield from _of_list(path, raw, source)


def _of_list(path: Path, raw: Mapping[str, Any], source: Source) -> Iterator[Record]:
    label, report = source.label(path), source.report
    source.use(path)
    names = class_names(raw["categories"], f"{label}: categories")
    pictures = _entries(raw, "images", label)
    if not raw["annotations"]:  # pictures to be annotated: that nothing is in them is not said
        report.leave("pictures of a list without any annotations", label, len(pictures))
        return
    annotations: dict[Any, list[Mapping[str, Any]]] = {number(entry.get("id")): [] for entry in pictures}
    for index, entry in enumerate(_entries(raw, "annotations", label)):
        try:
            annotations[number(entry.get("image_id"))].append(entry)
        except (KeyError, TypeError):
            report.leave("annotations of pictures that are not listed", f"{label}, annotation {index}")
    split = split_in(path.stem) or source.split(path)
    for index, entry in enumerate(pictures):
        where = f"{label}, image {index}"
        with report.entry(where):
            name = entry.get("file_name")
            if "id" not in entry or not isinstance(name, str):
                raise EntryError("a picture has no id or no file_name", "both")
            picture = source.find(name, path.parent, split)
            boxes = _boxes(annotations[number(entry["id"])], names, source, f"{where} {name}")
            size = (_side(entry, "width"), _side(entry, "height"))
            yield boxed(picture, boxes, size, split or source.split(picture), report, where)
