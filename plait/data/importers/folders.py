"""Pictures or clips in a folder a class: CLASS/file.png, or SPLIT/CLASS/file.png."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plait.contract import Part
from plait.data.importers import NAMES_OF_SPLITS, Record, kind_of, split_of, told_both_ways
from plait.errors import DataError

HELP = "pictures or clips in a folder a class"
ASKED = {"image": ("What is this?", "Draw: {text}"), "audio": ("What is this sound?", "Make the sound: {text}")}


def _media(source: Path) -> Iterator[tuple[Path, str, str]]:
    """(file, modality, class), the class being the folder that holds the file."""
    for path in sorted(source.rglob("*")):
        kind = kind_of(path)
        if kind and path.parent != source and path.parent.name.lower() not in NAMES_OF_SPLITS:
            yield path, kind, path.parent.name


def matches(source: Path) -> bool:
    """At least two classes, and no list or text beside the media that another importer would read."""
    if not source.is_dir() or any(source.glob("*.csv")) or any(source.glob("*.jsonl")) or any(source.glob("*.tsv")):
        return False
    classes = set()
    for path, _, label in _media(source):
        if path.with_suffix(".txt").is_file() or path.with_suffix(".xml").is_file():
            return False
        classes.add(label)
        if len(classes) > 1 and label.lower() not in ("images", "wavs", "clips"):
            return True
    return False


def records(source: Path) -> Iterator[Record]:
    """Two rows a file: name it, and make one. Raises DataError when there are fewer than two classes."""
    labels = {label for _, _, label in _media(source)}
    if len(labels) < 2:
        raise DataError(f"{source} has {len(labels)} folders of media; expected one for each of two classes or more")
    for path, kind, label in _media(source):
        ask, order = ASKED[kind]
        words = label.replace("_", " ")
        yield from told_both_ways(Part(kind, path), words, ask, order, "classes", split_of(path.parent, source))
