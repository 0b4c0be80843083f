"""Maps with regions of one colour each (KGeography): a region's box follows from its colour.

A `.kgm` file lists the regions of the PNG beside it with their colours, and marks those to ignore.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from scipy import ndimage

from plait.data.sources import Entry, Source, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

SOURCE = Source(
    name="maps",
    what="maps of countries and continents with named regions and capitals (KGeography)",
    packages=(
        Package(
            "apt", "kgeography-data", "4:22.12.3-1", "1cdaf45dea7cbf1682a05109b4e9299934f0a60ca8866fa957cf4d9dcfe3982a"
        ),
    ),
    licence="GPL-2.0-or-later",
    attribution="KGeography by the KDE community; each map by the author it names",
    public="https://packages.debian.org/bookworm/kgeography-data",
    size=9,
    share_alike=True,
)
LEAST = 0.02  # of the map's shorter side: what is smaller in either direction cannot be seen on a small canvas


def _regions(path: Path) -> tuple[str, dict[str, tuple[tuple[int, int, int], str]]]:
    """The picture's file name, and region -> (colour, capital). Raises DataError."""
    try:
        root = ElementTree.parse(path).getroot()
        regions = {}
        for region in root.iter("division"):
            name = " ".join((region.findtext("name") or "").split())
            if name and (region.findtext("ignore") or "no").strip() != "yes":
                colour = tuple(int(str(region.findtext(f"color/{channel}"))) for channel in ("red", "green", "blue"))
                regions[name] = (colour, (region.findtext("capital") or "").strip())
        return str(root.findtext("mapFile")), regions  # type: ignore[return-value]
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise DataError(f"{path}: {error}; expected a map of KGeography: fetch it anew") from error


def _box(levels: np.ndarray, colour: tuple[int, int, int]) -> list[int] | None:
    """[x1, y1, x2, y2] of the largest connected area of a colour, without islands; None where the colour does not occur."""
    wanted = (colour[0] << 16) + (colour[1] << 8) + colour[2]
    extents = ndimage.find_objects(
        (levels == wanted).astype(np.int8)
    )  # first the extent of all its parts: labels are counted there alone
    if not extents:
        return None
    down, across = extents[0]
    parts, _ = ndimage.label(levels[down, across] == wanted)
    largest = int(np.bincount(parts.ravel())[1:].argmax()) + 1
    rows, columns = ndimage.find_objects(parts, max_label=largest)[largest - 1]
    return [across.start + columns.start, down.start + rows.start, across.start + columns.stop, down.start + rows.stop]


def entries(folder: Path) -> Iterator[Entry]:
    """Maps with the boxes of their regions. Raises DataError for damaged data."""
    maps = folder / SOURCE.packages[0].folder / "usr/share/kgeography"
    listed = sorted(maps.glob("*.kgm"))
    if not listed:
        raise DataError(f"{maps} has no .kgm; expected the maps of KGeography: fetch it anew")
    for path in listed:
        picture, regions = _regions(path)
        if not (maps / picture).is_file():
            yield left_out("a map without its picture", path.name)
            continue
        with Image.open(maps / picture) as opened:
            channels = np.asarray(opened.convert("RGB"), np.int32)
        levels = (channels[..., 0] << 16) + (channels[..., 1] << 8) + channels[..., 2]
        least = LEAST * min(levels.shape)
        boxes: list[dict[str, Any]] = []
        for name, (colour, _) in regions.items():
            box = _box(levels, colour)
            if box is None or min(box[2] - box[0], box[3] - box[1]) < least:
                yield left_out("a region that is too small or not drawn", f"{path.stem}: {name}")
                continue
            boxes.append({"label": name, "box": box})
        if not boxes:
            yield left_out("a map without a region that can be seen", path.name)
        else:
            capitals = {name: capital for name, (_, capital) in regions.items() if capital}
            yield Entry("boxes", path.stem, {"picture": maps / picture}, {}, {"boxes": boxes, "capitals": capitals})
