"""Pascal VOC boxes: an XML file a picture, beside it or in Annotations/ with pictures in JPEGImages/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from plait.data.importers import Record, split_of
from plait.data.importers.coco import boxed
from plait.errors import DataError

HELP = "Pascal VOC boxes (an .xml a picture)"


def _annotations(source: Path) -> list[Path]:
    return sorted(source.rglob("*.xml")) if source.is_dir() else []


def matches(source: Path) -> bool:
    return any(b"<annotation" in path.read_bytes()[:500] for path in _annotations(source)[:3])


def _number(node: ElementTree.Element, name: str, path: Path) -> float:
    text = node.findtext(name)
    try:
        return float(text or "")
    except ValueError as error:
        raise DataError(f"{path}: <{name}> is {text!r}; expected a number") from error


def records(source: Path) -> Iterator[Record]:
    """A row a picture. Raises DataError naming the XML file that is broken or whose picture is missing."""
    for path in _annotations(source):
        data = path.read_bytes()
        if b"<!ENTITY" in data:  # entities can grow without bound, and boxes need none
            raise DataError(f"{path} defines XML entities; expected plain boxes: remove them")
        try:
            root = ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise DataError(f"{path} is not XML ({error}); expected a Pascal VOC annotation") from error
        name = root.findtext("filename") or f"{path.stem}.jpg"
        places = (path.with_name(name), path.parent.parent / "JPEGImages" / name, path.parent.parent / "images" / name)
        picture = next((place for place in places if place.is_file()), None)
        if picture is None:
            raise DataError(f"{path}: picture {name} is not there; expected it beside the XML or in JPEGImages/")
        size = root.find("size")
        if size is None:
            raise DataError(f"{path} has no <size>; expected width and height of the picture")
        boxes = []
        for thing in root.iter("object"):
            box = thing.find("bndbox")
            label = thing.findtext("name")
            if box is None or not label:
                raise DataError(f"{path} has an <object> without <name> or <bndbox>; expected both")
            left, top, right, bottom = (_number(box, side, path) for side in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append((label, left, top, right, bottom))
        yield boxed(
            picture, boxes, (_number(size, "width", path), _number(size, "height", path)), split_of(path, source)
        )
