"""Pictures or clips with texts: a list beside them (also one a split, as Hugging Face's folders have it), or a text file of
the same name beside each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from plait.contract import Part
from plait.data.importers.core.boxes import looks_like_boxes
from plait.data.importers.core.columns import Columns, choose, records_of, rows_of
from plait.data.importers.core.conversation import turns_of
from plait.data.importers.core.lists import COLUMN_ENDINGS, JSON_ENDINGS, Table
from plait.data.importers.core.records import Record
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.errors import DataError

HELP = "pictures or clips with texts (captions.csv, metadata.jsonl with file_name, or a .txt beside each)"
SIGNS = ("image", "audio", ".csv", ".tsv", ".jsonl", ".txt")
GENERALITY = 1  # lists of Common Voice and of LJSpeech are lists of clips too
LIST_ENDINGS = (*COLUMN_ENDINGS, *JSON_ENDINGS)
TEXT_ENDINGS = (".txt", ".caption", ".lab")
TEXT = "text"
DESCRIBED = 0.5  # of the media have a text beside them


def _lists(source: Source) -> Iterator[tuple[Table, Columns]]:
    """Lists of media with something to say of them."""
    for table in source.tables(*LIST_ENDINGS):
        if any(turns_of(entry.values) for entry in table.sample):
            continue
        columns = choose(table, source)
        if columns.medium and columns.says_something:
            yield table, columns


def _beside(source: Source) -> list[tuple[Path, str, Path]]:
    """(medium, modality, file of its text)."""
    pairs = ((path, kind, source.beside(path, TEXT_ENDINGS)) for path, kind in source.media)
    return [(path, kind, text) for path, kind, text in pairs if text is not None]


def matches(source: Source) -> bool:
    if next(_lists(source), None):
        return True
    pairs = _beside(source) if source.path.is_dir() else []
    described = len(pairs) >= DESCRIBED * len(source.media) and bool(pairs)
    return described and not all(_is_boxes(text) for _, _, text in pairs[:20])


@lru_cache(maxsize=64)
def _is_boxes(path: Path) -> bool:
    """Whether a label file of YOLO's stands where a text is expected; an empty one may be one."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return not text.strip() or looks_like_boxes(text)


def records(source: Source) -> Iterator[Record]:
    """Two rows a text: what is it, and make one. Raises DataError where there are neither lists nor texts."""
    lists = list(_lists(source))
    for table, columns in lists:
        yield from records_of(table, columns, source)
    if lists:
        return
    pairs = _beside(source)
    if not pairs:
        raise DataError(
            f"{source.path} has no captions; expected captions.csv, captions.jsonl, or a .txt beside each picture"
        )
    columns = Columns(texts=(TEXT,))
    for path, kind, text_path in pairs:
        where = source.label(text_path)
        source.use(path, text_path)
        with source.report.entry(where):
            text = source.text(text_path).strip()
            if looks_like_boxes(text):
                raise EntryError("it is a label file of boxes", "words: boxes are read with --format yolo")
            values, split = {TEXT: text}, source.split(path)
            yield from rows_of(Part(kind, path), values, columns, split, where, source.report, "files beside the media")
