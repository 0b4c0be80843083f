"""IDX files, as MNIST and Fashion-MNIST come: *-images-idx3-ubyte and *-labels-idx1-ubyte, gzipped or not."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from plait.contract import Part
from plait.data.importers.core.records import Record, both_ways, split_in
from plait.data.importers.core.report import EntryError, Report
from plait.data.importers.core.source import Source
from plait.errors import DataError

HELP = "IDX files of pictures and labels (MNIST's format; names of the classes in labels.txt)"
SIGNS = ("ubyte", ".gz")
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


def _images(source: Source) -> list[Path]:
    """Files of pictures, one of each that lies there both packed and unpacked."""
    paths = [path for path in source.files if "images" in path.name.lower() and "idx3" in path.name.lower()]
    return [path for path in paths if not (path.suffix == ".gz" and path.with_suffix("") in paths)]


def _labels(images: Path) -> Path:
    """The labels of a file of pictures. Raises DataError."""
    path = images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
    others = (path, path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz"))
    labels = next((other for other in others if other.is_file()), None)
    if labels is None:
        raise DataError(f"{path} is missing; expected the labels of {images.name}")
    return labels


def matches(source: Source) -> bool:
    return bool(_images(source))


def records(source: Source | Path, names: Sequence[str] | None = None) -> Iterator[Record]:
    """Two rows a picture: name its class, and draw one; `names` are those of the classes, if they are not in labels.txt.
    Raises DataError for files that do not fit together."""
    source = (
        source if isinstance(source, Source) else Source(source, Report(strict=True))
    )  # nobody would read its report
    listed = source.root / "labels.txt"
    if names is None and listed.is_file():
        names = [name.strip() for name in source.text(listed).splitlines()]
    table = dict(enumerate(names)) if names else {}
    for path in _images(source):
        yield from _of_file(path, table, source)


def _of_file(path: Path, names: Mapping[int, str], source: Source) -> Iterator[Record]:
    other = _labels(path)
    source.use(path, other, *(file.with_name(f"{file.name}.gz") for file in (path, other)))
    pictures, labels = load(path), load(other)
    if len(pictures) != len(labels):
        raise DataError(
            f"{path.name} has {len(pictures)} pictures, {other.name} {len(labels)} labels; expected equal numbers"
        )
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        where = f"{source.label(path)}, picture {number}"
        with source.report.entry(where):
            if names and int(label) not in names:
                raise EntryError("its label has no name", f"0 to {max(names)}, as labels.txt names them", str(label))
            text = names[int(label)] if names else str(int(label))
            yield from both_ways(Part("image", picture), text, "classes", split_in(path.name), where=where)
