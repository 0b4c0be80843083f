"""MedMNIST: one .npz with train_images, train_labels, val_images, val_labels, test_images, test_labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from plait.contract import Part
from plait.data.importers import NAMES_OF_SPLITS, Record, told_both_ways
from plait.errors import DataError

HELP = "MedMNIST .npz (names of the classes in NAME.labels.json: a list)"


def matches(source: Path) -> bool:
    if source.suffix != ".npz" or not source.is_file():
        return False
    try:
        with np.load(source, allow_pickle=False) as arrays:
            return "train_images" in arrays.files
    except (OSError, ValueError, BadZipFile):
        return False


def records(source: Path) -> Iterator[Record]:
    """Two rows a picture: name its class, and draw one. Raises DataError for arrays that do not fit together."""
    listed = source.with_suffix(".labels.json")
    names = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else None
    with np.load(source, allow_pickle=False) as arrays:  # never pickle
        for word in ("train", "val", "test"):
            if f"{word}_images" not in arrays.files:
                continue
            pictures, labels = arrays[f"{word}_images"], arrays[f"{word}_labels"]
            if len(pictures) != len(labels) or pictures.ndim not in (3, 4):
                raise DataError(
                    f"{source}: {word} has pictures {pictures.shape}, labels {labels.shape}; expected [n, h, w(, 3)] and [n, 1]"
                )
            for picture, label in zip(pictures, labels.reshape(len(labels), -1), strict=True):
                chosen = np.flatnonzero(label) if len(label) > 1 else label
                text = ", ".join(str(names[int(c)]) if names else str(int(c)) for c in chosen) or "none"
                split = NAMES_OF_SPLITS[word]
                yield from told_both_ways(Part("image", picture), text, "classes", split)
