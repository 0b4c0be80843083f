"""Pictures or clips in a folder a class: CLASS/file.png, or SPLIT/CLASS/file.png."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plait.contract import Part
from plait.data.importers.core.records import Record, both_ways, split_in, split_of
from plait.data.importers.core.source import Source
from plait.errors import DataError

HELP = "pictures or clips in a folder a class"
SIGNS = ("image", "audio")
GENERALITY = 2  # whatever else a folder is, its files lie in folders
NO_CLASSES = {"images", "imgs", "jpegimages", "masks", "labels", "annotations", "wavs", "clips", "media"}


def _media(source: Source) -> Iterator[tuple[Path, str, str | None]]:
    """(file, modality, class), the class being the folder that holds the file; None where that folder is the source, or is
    named for a split (`test`, `train2017`) and no folder of media beside it has another name."""
    beside: dict[Path, set[str]] = {}
    for path, _ in source.media:
        beside.setdefault(path.parent.parent, set()).add(path.parent.name)
    for path, kind in source.media:
        classes = path.parent != source.path and any(not split_in(name) for name in beside[path.parent.parent])
        yield path, kind, path.parent.name if classes else None


def matches(source: Source) -> bool:
    """Whether there are at least two folders that are named for classes."""
    return (
        source.path.is_dir()
        and len({label for _, _, label in _media(source) if label and label.lower() not in NO_CLASSES}) > 1
    )


def records(source: Source) -> Iterator[Record]:
    """Two rows a file: name it, and make one. Raises DataError when there are fewer than two classes."""
    labels = {label for _, _, label in _media(source)} - {None}
    if len(labels) < 2:
        raise DataError(
            f"{source.path} has {len(labels)} folders of media; expected one for each of two classes or more"
        )
    for path, kind, label in _media(source):
        where = source.label(path)
        source.use(path)
        if label is None:
            source.report.leave("files in no class", where)
            continue
        split = split_of(path.parent, source.path)
        yield from both_ways(Part(kind, path), label.replace("_", " "), "classes", split, where=where)
