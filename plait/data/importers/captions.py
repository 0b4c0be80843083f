"""A folder of pictures with captions: a .csv or .jsonl list beside them, or a .txt of the same name beside each."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plait.contract import Part
from plait.data.importers import Record, kind_of, lines_of, split_of, told_both_ways
from plait.errors import DataError, RowError

HELP = "pictures with captions (captions.csv, captions.jsonl, or a .txt beside each picture)"
FILE_KEYS = ("file_name", "file", "filename", "image", "path", "image_path")
TEXT_KEYS = ("caption", "text", "captions", "description", "title")

SEPARATORS = (",", ";", "\t")  # the commonest in the head is the list's


def _lists(source: Path) -> list[Path]:
    return sorted(path for suffix in ("*.csv", "*.tsv", "*.jsonl") for path in source.glob(suffix) if _columns(path))


def _columns(path: Path) -> tuple[str, str] | None:
    """Names of the column of files and of the column of texts, from the first row; None if it has not both."""
    first = next(iter(_entries(path)), None)
    if first is None:
        return None
    entry = {key.lower(): key for key in first[1]}
    file = next((entry[key] for key in FILE_KEYS if key in entry), None)
    text = next((entry[key] for key in TEXT_KEYS if key in entry), None)
    return (file, text) if file and text else None


def _entries(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, row) of a list; rows that are no objects are left to whoever asks for their columns."""
    if path.suffix == ".jsonl":
        for number, line in lines_of(path):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError as error:
                raise RowError(f"{path}:{number}: not JSON ({error}); expected one object a line") from error
            yield number, entry if isinstance(entry, dict) else {}
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=max(SEPARATORS, key=head.count))
        for row in reader:
            yield reader.line_num, {key: value for key, value in row.items() if key is not None}


def _beside(source: Path) -> list[Path]:
    pictures = (path for path in sorted(source.rglob("*")) if kind_of(path) == "image")
    return [path for path in pictures if path.with_suffix(".txt").is_file()]


def matches(source: Path) -> bool:
    if not source.is_dir() or not any(kind_of(path) == "image" for path in source.rglob("*")):
        return False
    return bool(_lists(source)) or next((True for _ in _beside(source)), False)


def _both(picture: Path, caption: str, split: str) -> Iterator[Record]:
    yield from told_both_ways(Part("image", picture), caption, "captions", split)


def records(source: Path) -> Iterator[Record | None]:
    """Two rows a caption: describe the picture, and draw it. Raises RowError for a list's bad row."""
    lists = _lists(source)
    for listed in lists:
        columns = _columns(listed)
        if columns is None:
            continue
        file_key, text_key = columns
        for number, entry in _entries(listed):
            name, texts = entry.get(file_key), entry.get(text_key)
            if not isinstance(name, str) or not texts:
                raise RowError(
                    f"{listed}:{number}: got {dict(entry)!r}; expected {file_key!r} and {text_key!r}: fill them in"
                )
            picture = next((p for p in (source / name, source / "images" / name) if p.is_file()), None)
            if picture is None:
                raise RowError(f"{listed}:{number}: {name} is not there; expected it beside the list or in images/")
            for text in texts if isinstance(texts, list) else [texts]:
                yield from _both(picture, str(text).strip(), split_of(picture, source))
    if lists:
        return
    pictures = _beside(source)
    if not pictures:
        raise DataError(
            f"{source} has no captions; expected captions.csv, captions.jsonl, or a .txt beside each picture"
        )
    for picture in pictures:
        caption = picture.with_suffix(".txt").read_text(encoding="utf-8-sig").strip()
        if caption:
            yield from _both(picture, caption, split_of(picture, source))
        else:
            yield None
