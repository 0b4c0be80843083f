"""Pascal VOC boxes: an XML file a picture, beside it or in Annotations/ with pictures in JPEGImages/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from plait.data.importers.core.boxes import Box, Corners, around, boxed
from plait.data.importers.core.records import Record
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source

HELP = "Pascal VOC boxes (an .xml a picture)"
SIGNS = (".xml", "image")
SIDES = ("xmin", "ymin", "xmax", "ymax")


def matches(source: Source) -> bool:
    return any(b"<annotation" in path.read_bytes()[:500] for path in source.ending(".xml")[:3])


def _number(node: ElementTree.Element, name: str) -> float:
    text = node.findtext(name)
    try:
        return float(text or "")
    except ValueError as error:
        raise EntryError(f"<{name}> is no number", "a number", repr(text)) from error


def _root(path: Path) -> ElementTree.Element:
    data = path.read_bytes()
    if b"<!ENTITY" in data:  # entities can grow without bound, and boxes need none
        raise EntryError("it defines XML entities", "plain boxes: remove them")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise EntryError("it is not XML", "a Pascal VOC annotation", str(error)) from error


def _corners(thing: ElementTree.Element) -> Corners | None:
    """Corners of an object's box, or of the box around its polygon; None where it has neither. Raises EntryError."""
    box, polygon = thing.find("bndbox"), thing.find("polygon")
    if box is not None:
        left, top, right, bottom = (_number(box, side) for side in SIDES)
        return left, top, right, bottom
    if polygon is not None:  # x1, y1, x2, y2, ..., or pt elements with x and y
        return around([float(node.text or "nan") for node in polygon.iter() if node.tag[0] in "xy"])
    return None


def _picture(root: ElementTree.Element, path: Path, source: Source) -> Path:
    """The picture that an annotation names, else that of its own name. Raises EntryError."""
    named = (root.findtext("filename") or "").strip()
    try:
        return source.find(named or path.stem, path.parent)
    except EntryError:
        if not named or not source.has(path.stem, path.parent):
            raise
        return source.find(path.stem, path.parent)


def _boxes(root: ElementTree.Element, source: Source, where: str) -> list[Box]:
    boxes = []
    for thing in root.iter("object"):
        label = (thing.findtext("name") or "").strip()
        if not label:
            raise EntryError("an <object> has no <name>", "one")
        corners = _corners(thing)
        if corners is None:
            source.report.leave("objects without a box or a polygon", where)
        else:
            boxes.append(Box(label, corners))
    return boxes


def records(source: Source) -> Iterator[Record]:
    """A row a picture."""
    for path in source.ending(".xml"):
        where = source.label(path)
        source.use(path)
        with source.report.entry(where):
            root = _root(path)
            picture, boxes, size = _picture(root, path, source), _boxes(root, source, where), root.find("size")
            sides = (0.0, 0.0) if size is None else (_number(size, "width"), _number(size, "height"))
            split = source.split(picture) or source.split(path)
            yield boxed(picture, boxes, sides, split, source.report, where)
