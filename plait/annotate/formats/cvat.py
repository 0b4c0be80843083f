"""CVAT's own XML, `CVAT for images 1.1` (docs.cvat.ai): boxes and tags of images. Its COCO, VOC and YOLO exports are read by
`plait data import`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.etree import ElementTree

from plait.annotate.formats.response import Response, id_of, only
from plait.annotate.kinds import SCALE
from plait.contract import Part
from plait.errors import DataError


def fits(text: str) -> bool:
    """Whether a file is CVAT's XML of images."""
    return text.lstrip().startswith("<?xml") and "<annotations" in text[:1000] and "<image " in text


def responses(text: str, kind: str) -> Iterator[Response]:
    """Boxes of every image, or its tag, as the kind of question wants. Raises DataError."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("got XML with a document type; expected CVAT's, which has none")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"got XML that is broken: {error}; expected CVAT's export, whole") from error
    person = tree.findtext(".//meta//assignee/username") or tree.findtext(".//meta//owner/username") or "cvat"
    for image in tree.iter("image"):
        shown = (Part("image", image.get("name", "")),)
        try:
            width, height = float(image.get("width", "")), float(image.get("height", ""))
            boxes = [_box(box, width, height) for box in image.iter("box")]
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise DataError(
                f"image {image.get('name')}: {error}; expected width, height, and numbers in its boxes"
            ) from error
        tags = [tag.get("label") for tag in image.iter("tag")]
        value = boxes if kind == "box" else only(tags)
        if not value:
            continue  # nothing on it, or nobody looked: the file does not tell
        yield Response(shown, person, value, id_of("cvat", image.get("name"), person, value))


def _box(box: ElementTree.Element, width: float, height: float) -> dict[str, object]:
    """A box in thousandths; one that is turned is enclosed."""
    left, top, right, bottom = (float(str(box.get(key))) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(float(box.get("rotation") or 0))  # about the middle
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    x, y = (left + right) / 2, (top + bottom) / 2
    across = (cosine * (right - left) + sine * (bottom - top)) / 2
    down = (sine * (right - left) + cosine * (bottom - top)) / 2
    corners = [x - across, y - down, x + across, y + down]
    sides = (width, height, width, height)
    scaled = [min(max(round(SCALE * corner / side), 0), SCALE) for corner, side in zip(corners, sides, strict=True)]
    return {"label": box.get("label"), "box": scaled}
