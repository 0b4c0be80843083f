"""Parquet, as Hugging Face's hub and `datasets` write it: pictures or clips with a text or a class, questions with
answers, or conversations."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from plait.data.importers.core.columns import by_name, rows_of
from plait.data.importers.core.conversation import conversation
from plait.data.importers.core.keys import CHATS, LABELS, TEXTS
from plait.data.importers.core.media import KINDS
from plait.data.importers.core.records import Record, split_in
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.errors import DataError, MissingError

HELP = "Parquet of Hugging Face datasets (pictures or clips with texts or classes, questions and answers, chats)"
SIGNS = (".parquet",)


def matches(source: Source) -> bool:
    return bool(source.ending(".parquet"))


def _datasets() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise MissingError(
            "Parquet is read by Hugging Face's datasets, which is not installed: python -m pip install 'plait[parquet]'"
        ) from error


def records(source: Source) -> Iterator[Record]:
    """A row a conversation or question, two a medium. Raises MissingError, DataError for columns that nothing can be made
    of."""
    datasets = _datasets()
    for path in source.ending(".parquet"):
        source.use(path)
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        features = dict(rows.features or {})
        for name, feature in features.items():
            undecoded = _undecoded(feature, datasets)
            if undecoded is not None:  # the file as it is: it is decoded when it is checked
                rows = rows.cast_column(name, undecoded)
        split = split_in(path.stem) or source.split(path)
        if {name.lower() for name in features} & set(CHATS):
            yield from _conversations(path, rows, source, split)
        else:
            yield from _of_columns(path, rows, features, source, split)


def _undecoded(feature: Any, datasets: Any) -> Any:
    """The feature of media, or of lists of them, as bytes and paths; None for any other."""
    if isinstance(feature, datasets.Image | datasets.Audio):
        return type(feature)(decode=False)
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    undecoded = None if inner is None else _undecoded(inner, datasets)
    return None if undecoded is None else [undecoded] if isinstance(feature, list) else type(feature)(undecoded)


def _conversations(path: Path, rows: Any, source: Source, split: str) -> Iterator[Record]:
    label = source.label(path)
    for number, row in enumerate(rows):
        where = f"{label}, row {number}"
        with source.report.entry(where):
            entry = {name.lower() if name.lower() in CHATS else name: value for name, value in row.items()}
            yield conversation(entry, where, label, source, path.parent, split)


def _of_columns(path: Path, rows: Any, features: Mapping[str, Any], source: Source, split: str) -> Iterator[Record]:
    label, report = source.label(path), source.report
    kind, medium = _medium(features, _datasets())
    columns = replace(by_name(list(features), medium), split="")
    if not columns.says_something or not (medium or columns.question):
        wanted = ", ".join((*TEXTS, *LABELS)) if medium else "a picture or clip, a question and an answer, or messages"
        raise DataError(f"{path} has columns {', '.join(features)}; expected {wanted}")
    report.keys(label, features, columns.used)
    for number, row in enumerate(rows):
        where = f"{label}, row {number}"
        with report.entry(where):
            part = source.part(row[medium], path.parent, kind) if medium else None
            values = {**row, columns.label: _class(row.get(columns.label), features.get(columns.label))}
            yield from rows_of(part, values, columns, split, where, report, label)


def _medium(features: Mapping[str, Any], datasets: Any) -> tuple[str, str]:
    """(modality, column) of the first picture or clip; empty where there is none."""
    for name, feature in features.items():
        for kind, known in zip(KINDS, (datasets.Image, datasets.Audio), strict=True):
            if isinstance(feature, known):
                return kind, name
            if isinstance(feature, dict) and {"bytes", "path"} <= set(feature) and kind in name.lower():
                return kind, name
    return "", ""


def _class(value: Any, feature: Any) -> Any:
    """The name of a class, where the column has names. Raises EntryError for several classes in a row."""
    if isinstance(value, list):
        raise EntryError(
            "it has a list of classes", f"one class, or texts in one of {', '.join(TEXTS)}", f"{value!r:.60}"
        )
    if isinstance(value, int) and hasattr(feature, "int2str"):
        return feature.int2str(value) if value >= 0 else None
    return value
