"""Pictures or clips in a folder a class: CLASS/file.png, or SPLIT/CLASS/file.png."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plait.contract import Part
from plait.data.importers import Record, kind_of, split_in, split_of, told_both_ways
from plait.errors import DataError

HELP = "pictures or clips in a folder a class"


def _media(source: Path) -> Iterator[tuple[Path, str, str | None]]:
    """(file, modality, class), the class being the folder that holds the file; None where that folder is named for a split
    (`test`, `train2017`) and no folder of media beside it has another name."""
    found = [(path, kind) for path in sorted(source.rglob("*")) if (kind := kind_of(path)) and path.parent != source]
    beside: dict[Path, set[str]] = {}
    for path, _ in found:
        beside.setdefault(path.parent.parent, set()).add(path.parent.name)
    for path, kind in found:
        classes = any(not split_in(name) for name in beside[path.parent.parent])
        yield path, kind, path.parent.name if classes else None


def matches(source: Path) -> bool:
    """At least two classes, and no list or text beside the media that another importer would read."""
    if not source.is_dir() or any(source.glob("*.csv")) or any(source.glob("*.jsonl")) or any(source.glob("*.tsv")):
        return False
    classes = set()
    for path, _, label in _media(source):
        if label is None:
            continue
        if path.with_suffix(".txt").is_file() or path.with_suffix(".xml").is_file():
            return False
        classes.add(label)
        if len(classes) > 1 and label.lower() not in ("images", "wavs", "clips"):
            return True
    return False


def records(source: Path) -> Iterator[Record | None]:
    """Two rows a file: name it, and make one; None for a file that is in no class. Raises DataError when there are fewer than
    two classes."""
    labels = {label for _, _, label in _media(source)} - {None}
    if len(labels) < 2:
        raise DataError(f"{source} has {len(labels)} folders of media; expected one for each of two classes or more")
    for path, kind, label in _media(source):
        if label is None:
            yield None
            continue
        words = label.replace("_", " ")
        yield from told_both_ways(Part(kind, path), words, "classes", split_of(path.parent, source))
