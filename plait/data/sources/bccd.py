"""Blood cells under a microscope: 364 pictures of 640 x 480 with boxes of red cells, white cells and platelets (BCCD).

Two layouts are read: the public repository's (Pascal VOC annotations), and `boxes.jsonl` beside `images/`, a row a picture:
{"image": ..., "width": ..., "height": ..., "split": ..., "objects": [{"label": ..., "box": [x1, y1, x2, y2]}]}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from plait.data.sources import Entry, Source, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

SOURCE = Source(
    name="bccd",
    what="364 micrographs of blood cells with 4,888 boxes",
    packages=(Package("git", "https://github.com/Shenggan/BCCD_Dataset", ""),),
    licence="MIT",
    attribution="BCCD Dataset by Shenggan and cosmicad",
    public="https://github.com/Shenggan/BCCD_Dataset",
    size=8,
)
SIDES = ("xmin", "ymin", "xmax", "ymax")
LABELS = {"RBC": "red blood cell", "WBC": "white blood cell", "Platelets": "platelet"}


def _listed(folder: Path) -> Iterator[tuple[Path, str, list[dict[str, Any]]]]:
    for number, line in enumerate((folder / "boxes.jsonl").read_text(encoding="utf-8").splitlines(), start=1):
        try:
            raw = json.loads(line)
            boxes = [
                {"label": str(thing["label"]), "box": [int(side) for side in thing["box"]]} for thing in raw["objects"]
            ]
            picture = folder / raw["image"], str(raw["split"]), boxes
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}/boxes.jsonl:{number}: {error!r}; expected image, split and objects") from error
        yield picture


def _annotated(folder: Path) -> Iterator[tuple[Path, str, list[dict[str, Any]]]]:
    home = folder / "BCCD"
    for split in ("train", "val", "test"):
        listed = home / "ImageSets/Main" / f"{split}.txt"
        if not listed.is_file():
            raise DataError(f"{listed} is missing; expected names of pictures: fetch it anew")
        for name in listed.read_text(encoding="utf-8").split():
            path = home / "Annotations" / f"{name}.xml"
            try:
                boxes = [
                    {
                        "label": str(thing.findtext("name")),
                        "box": [int(str(thing.findtext(f"bndbox/{side}"))) for side in SIDES],
                    }
                    for thing in ElementTree.parse(path).iter("object")
                ]
            except (ElementTree.ParseError, ValueError, OSError) as error:
                raise DataError(f"{path}: {error}; expected a Pascal VOC annotation: fetch it anew") from error
            yield home / "JPEGImages" / f"{name}.jpg", split, boxes


def entries(folder: Path) -> Iterator[Entry]:
    """Micrographs with their boxes. Raises DataError for a folder of another layout or damaged lists."""
    repository = folder / SOURCE.packages[0].folder
    if (repository / "boxes.jsonl").is_file():
        pictures = _listed(repository)
    elif (repository / "BCCD/ImageSets/Main").is_dir():
        pictures = _annotated(repository)
    else:
        raise DataError(
            f"{repository} has neither boxes.jsonl nor BCCD/ImageSets; expected the repository of {SOURCE.public}"
        )
    for path, split, objects in pictures:
        if not path.is_file():
            raise DataError(f"{path} is missing; expected the picture that the annotations name: fetch it anew")
        boxes = [
            {"label": LABELS.get(thing["label"], thing["label"]), "box": thing["box"]}
            for thing in objects
            if thing["box"][0] < thing["box"][2] and thing["box"][1] < thing["box"][3]
        ]
        if not boxes:
            yield left_out("no box that encloses anything", path.name)
            continue
        yield Entry("boxes", path.stem, {"picture": path}, {}, {"boxes": boxes}, split)
