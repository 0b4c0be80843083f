"""YOLO boxes: a label file a picture, a line a box, beside it or in labels/; names in classes.txt, *.names or data.yaml."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import yaml

from plait.data.importers.core.boxes import Box, Corners, around, boxed, looks_like_boxes
from plait.data.importers.core.keys import class_names
from plait.data.importers.core.records import NAMES_OF_SPLITS, Record
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.errors import DataError

HELP = "YOLO boxes (a .txt of numbers a picture; names in classes.txt or data.yaml)"
SIGNS = (".txt", "image", ".yaml", ".names")
NAME_LISTS = ("classes.txt", ".names", "_darknet.labels", "labels.txt")
YAML = (".yaml", ".yml")
LOOKED_AT = 50  # label files that settle the format


def matches(source: Source) -> bool:
    """At least one label file with boxes in it, and none with words."""
    labels = [label for _, label in _labelled(source)][:LOOKED_AT]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in labels]
    return any(map(looks_like_boxes, texts)) and all(looks_like_boxes(text) for text in texts if text.strip())


def _labelled(source: Source) -> Iterator[tuple[Path, Path]]:
    """(picture, its label file): of the same name beside it, or in labels/ where it is in images/."""
    labels = {path.with_suffix(""): path for path in source.ending(".txt")}
    for picture, kind in source.media:
        if kind != "image":
            continue
        for path in _places(picture, source.root):
            if path in labels:
                yield picture, labels[path]
                break


def _places(picture: Path, root: Path) -> Iterator[Path]:
    bare = picture.with_suffix("")
    yield bare
    parts = bare.relative_to(root).parts
    for index, part in enumerate(parts[:-1]):
        if part.lower() in ("images", "jpegimages"):
            yield root.joinpath(*parts[:index], "labels", *parts[index + 1 :])
    yield root / "labels" / bare.name


def _names(source: Source) -> Mapping[int, str]:
    """Names of the classes by number. Raises DataError where there are none or several."""
    lists = [(path, text) for path in source.ending(*NAME_LISTS) if not looks_like_boxes(text := source.text(path))]
    if len({text.strip() for _, text in lists}) > 1:
        raise DataError(
            f"{', '.join(source.label(path) for path, _ in lists)} name the classes differently; expected one list: remove the others"
        )
    for _, text in lists:
        return {index: name.strip() for index, name in enumerate(text.splitlines()) if name.strip()}
    for path in source.ending(*YAML):
        raw = _yaml(path, source)
        if isinstance(raw, Mapping) and raw.get("names"):
            return class_names(raw["names"], f"{source.label(path)}: names")
    raise DataError(
        f"{source.path} has boxes of numbered classes without their names; expected classes.txt with a name a line, or "
        "data.yaml with names: write one"
    )


def _has_points(source: Source) -> bool:
    """Whether lines go on with key points behind the box, rather than being polygons."""
    return any(re.search(r"^kpt_shape\s*:", source.text(path), re.MULTILINE) for path in source.ending(*YAML))


def _yaml(path: Path, source: Source) -> Any:
    try:
        return yaml.safe_load(source.text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{source.label(path)} is not YAML ({error}); expected names of the classes") from error


def _splits(source: Source) -> dict[str, str]:
    """Split by name of a picture, from lists such as train.txt that lie at the top."""
    lists = [path for path in source.ending(".txt") if path.parent == source.root and path.stem in NAMES_OF_SPLITS]
    return {
        PurePath(line.strip().replace("\\", "/")).name: NAMES_OF_SPLITS[path.stem]
        for path in lists
        for line in source.text(path).splitlines()
    }


def _box(line: str, names: Mapping[int, str], has_points: bool) -> Box:
    """The box of a line: class, centre, width and height; or class and the corners of a polygon. In fractions of the
    picture. Raises EntryError."""
    try:
        kind, *numbers = (float(word) for word in line.split())
    except ValueError as error:
        raise EntryError("a line is not of numbers", "class, x, y, width, height", repr(line[:60])) from error
    if len(numbers) < 4:
        raise EntryError("a line has too few numbers", "class, x, y, width, height", repr(line[:60]))
    if int(kind) not in names:
        raise EntryError("a box is of a class without a name", f"0 to {max(names, default=0)}", f"{kind:g}")
    if any(math.isfinite(at) and abs(at) > 2 for at in numbers[:4]):
        raise EntryError("a box is not in fractions of the picture", "numbers from 0 to 1", repr(line[:60]))
    polygon = len(numbers) > 5 and not has_points  # 5: class, box, confidence
    return Box(names[int(kind)], around(numbers) if polygon else _around_centre(numbers))


def _around_centre(numbers: list[float]) -> Corners:
    x, y, width, height = numbers[:4]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def records(source: Source) -> Iterator[Record]:
    """A row a picture that has a label file; an empty one says that nothing is there. Raises DataError without names."""
    names, has_points, splits = _names(source), _has_points(source), _splits(source)
    for picture, path in _labelled(source):
        where = source.label(path)
        source.use(picture, path)
        with source.report.entry(where):
            boxes = [_box(line, names, has_points) for line in source.text(path).splitlines() if line.strip()]
            split = source.split(picture) or splits.get(picture.name, "")
            yield boxed(picture, boxes, None, split, source.report, where)
