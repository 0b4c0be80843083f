"""MedMNIST: one .npz with train_images, train_labels, val_images, val_labels, test_images, test_labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np

from plait.contract import Part
from plait.data.importers.core.keys import class_names
from plait.data.importers.core.records import NAMES_OF_SPLITS, Record, both_ways
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.errors import DataError

HELP = "MedMNIST .npz (names of the classes in NAME.labels.json: a list, or an object by number)"
SIGNS = (".npz",)
SPLITS = ("train", "val", "test")


def matches(source: Source) -> bool:
    if source.path.suffix.lower() != ".npz" or not source.path.is_file():
        return False
    try:
        with np.load(source.path, allow_pickle=False) as arrays:
            return "train_images" in arrays.files
    except (OSError, ValueError, BadZipFile):
        return False


def records(source: Source) -> Iterator[Record]:
    """Two rows a picture: name its class, and draw one. Raises DataError for arrays that do not fit together."""
    listed = source.path.with_suffix(".labels.json")
    names = class_names(source.json(listed), listed.name) if listed.is_file() else {}
    with np.load(source.path, allow_pickle=False) as arrays:  # never pickle
        for split in SPLITS:
            if f"{split}_images" in arrays.files:
                yield from _of_split(split, arrays, names, source)
        source.report.keys(
            source.path.name, arrays.files, [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
        )


def _of_split(split: str, arrays: Mapping[str, Any], names: Mapping[int, str], source: Source) -> Iterator[Record]:
    if f"{split}_labels" not in arrays:
        raise DataError(f"{source.path}: {split}_labels is missing; expected the labels of {split}_images")
    pictures, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    if len(pictures) != len(labels) or pictures.ndim not in (3, 4):
        raise DataError(
            f"{source.path}: {split} has pictures {pictures.shape}, labels {labels.shape}; expected [n, h, w(, 3)] and [n, 1]"
        )
    for number, (picture, label) in enumerate(zip(pictures, labels.reshape(len(labels), -1), strict=True)):
        where = f"{source.path.name}, {split} {number}"
        with source.report.entry(where):
            chosen = [int(index) for index in (np.flatnonzero(label) if len(label) > 1 else label)]
            if names and not set(chosen) <= set(names):
                raise EntryError("its label has no name", f"one of {', '.join(map(str, names))}", f"{chosen}")
            text = ", ".join(names.get(index, str(index)) for index in chosen) or "none"
            yield from both_ways(Part("image", picture), text, "classes", NAMES_OF_SPLITS[split], where=where)
