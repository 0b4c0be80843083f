"""IDX files, as MNIST and Fashion-MNIST come: *-images-idx3-ubyte and *-labels-idx1-ubyte, gzipped or not."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plait.contract import Part
from plait.data.importers import Record, split_in, told_both_ways
from plait.errors import DataError

HELP = "IDX files of pictures and labels (MNIST's format; names of the classes in labels.txt)"
DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def load(path: Path) -> np.ndarray:
    """The array of an IDX file. Raises DataError for a damaged one."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in DTYPES:
        raise DataError(f"{path} does not begin like an IDX file; expected MNIST's format: fetch it anew")
    count, dtype = data[3], np.dtype(DTYPES[data[2]])
    shape = tuple(int(side) for side in np.frombuffer(data, ">u4", count, 4))
    if len(data) != 4 + 4 * count + int(np.prod(shape)) * dtype.itemsize:
        raise DataError(f"{path} has {len(data)} bytes; expected {shape} items of {dtype}: fetch it anew")
    return np.frombuffer(data, dtype, offset=4 + 4 * count).reshape(shape)


def _images(source: Path) -> list[Path]:
    return sorted(source.glob("*images*idx3*")) if source.is_dir() else []


def matches(source: Path) -> bool:
    return bool(_images(source))


def records(source: Path, names: Sequence[str] | None = None) -> Iterator[Record]:
    """Two rows a picture: name its class, and draw one. Raises DataError for files that do not fit together."""
    listed = source / "labels.txt"
    if names is None and listed.is_file():
        names = listed.read_text(encoding="utf-8-sig").splitlines()
    for path in _images(source):
        other = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        if not other.is_file():
            raise DataError(f"{other} is missing; expected the labels of {path.name}")
        pictures, labels = load(path), load(other)
        if len(pictures) != len(labels):
            raise DataError(
                f"{path.name} has {len(pictures)} pictures, {other.name} {len(labels)} labels; expected equal numbers"
            )
        split = split_in(path.name)
        for picture, label in zip(pictures, labels, strict=True):
            if names is not None and not 0 <= int(label) < len(names):
                raise DataError(f"{other} has label {label}; expected 0 to {len(names) - 1}, as labels.txt names them")
            text = names[int(label)] if names else str(int(label))
            yield from told_both_ways(Part("image", picture), text, "classes", split)
