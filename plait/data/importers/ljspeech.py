"""LJSpeech and data sets of its shape: lists of `id|text|normalised text`, clips in wavs/ or elsewhere beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from plait.data.importers.core.columns import Columns, choose, records_of
from plait.data.importers.core.lists import Table
from plait.data.importers.core.records import Record, split_in
from plait.data.importers.core.source import Source
from plait.errors import DataError

HELP = "speech with its text (metadata.csv of id|text, wavs/)"
SIGNS = (".csv", "audio")


def _lists(source: Source) -> list[Table]:
    """Lists of columns between bars; those of the splits alone where there are some (`metadata_train.csv`)."""
    tables = [table for table in source.tables(".csv", ".psv", ".txt") if table.delimiter == "|"]
    return [table for table in tables if split_in(table.path.stem)] or tables


def _columns(table: Table, source: Source) -> Columns:
    """What its columns mean; the first is the clip where none names a file."""
    columns = choose(table, source)
    return columns if columns.medium else choose(table, source, medium=table.columns[0])


def matches(source: Source) -> bool:
    """Whether there are clips, and a list between bars that names some of them, or that is called metadata."""
    if source.path.is_dir() and not any(kind == "audio" for _, kind in source.media):
        return False
    return any(
        choose(table, source).medium or table.path.stem.lower().startswith("metadata") for table in _lists(source)
    )


def records(source: Source) -> Iterator[Record]:
    """Two rows a clip: what was said, and say it. Raises DataError where there is no such list."""
    tables = _lists(source)
    if not tables:
        raise DataError(f"{source.path} has no list of id|text; expected {HELP}")
    for table in tables:
        columns = _columns(table, source)
        if not columns.texts:
            raise DataError(f"{table.label} has columns {', '.join(table.columns)}; expected id|text: name one text")
        split = split_in(table.path.stem)
        yield from records_of(table, replace(columns, label=""), source, table.path.parent / "wavs", split)
