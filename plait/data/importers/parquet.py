"""Parquet, as Hugging Face's hub and `datasets` write it: pictures or clips with a text or a class, questions with
answers, or conversations."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plait.contract import Message, Part, Sample
from plait.data.importers import SUFFIXES, Record, split_in, split_of, told_both_ways
from plait.data.importers.chat import conversation
from plait.data.media import Blob
from plait.errors import DataError, MissingError

HELP = "Parquet of Hugging Face datasets (pictures or clips with texts or classes, questions and answers, chats)"
TEXTS = ("text", "caption", "captions", "sentence", "transcription", "transcript", "description", "title")
LABELS = ("label", "labels", "class", "category")
PAIRS = (("question", "answer"), ("instruction", "output"), ("instruction", "response"), ("prompt", "completion"),
         ("prompt", "response"), ("input", "output"))  # fmt: skip
CHATS = ("messages", "conversations")


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix == ".parquet" else []
    return sorted(source.rglob("*.parquet"))


def matches(source: Path) -> bool:
    return bool(_files(source))


def _datasets() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise MissingError(
            "Parquet is read by Hugging Face's datasets, which is not installed: python -m pip install 'plait[parquet]'"
        ) from error


def records(source: Path) -> Iterator[Record | None]:
    """A row a conversation or question, two a medium; None for what lacks a medium or a text. Raises MissingError,
    DataError for columns that nothing can be made of."""
    datasets = _datasets()
    for path in _files(source):
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        features = dict(rows.features or {})
        for name, feature in features.items():
            if isinstance(feature, datasets.Image | datasets.Audio):  # the file as it is: the validator decodes it
                rows = rows.cast_column(name, type(feature)(decode=False))
        split = split_in(path.stem) or split_of(path, source if source.is_dir() else source.parent)
        yield from _of_file(path, rows, features, split)


def _of_file(path: Path, rows: Any, features: Mapping[str, Any], split: str) -> Iterator[Record | None]:
    names = {name.lower(): name for name in features}
    datasets = _datasets()
    chat = next((names[name] for name in CHATS if name in names), None)
    if chat is not None:
        for number, row in enumerate(rows):
            yield conversation(row[chat], f"{path}, row {number}", split)
        return
    kind, column = _medium(features, datasets)
    if column:
        text = next((names[name] for name in TEXTS if name in names), None)
        label = next((names[name] for name in LABELS if name in names), None)
        if text is None and label is None:
            raise DataError(f"{path} has columns {', '.join(features)}; expected one of {', '.join((*TEXTS, *LABELS))}")
        for row in rows:
            yield from _told(kind, row[column], _words(row, text, label, features), text is not None, split)
        return
    pair = next(((names[q], names[a]) for q, a in PAIRS if q in names and a in names), None)
    if pair is None:
        raise DataError(
            f"{path} has columns {', '.join(features)}; expected a picture or clip with a text or label, a question and "
            "an answer, or messages"
        )
    for row in rows:
        asked, answered = ("" if row[name] is None else str(row[name]).strip() for name in pair)
        turns = (Message("user", (Part("text", asked),)), Message("assistant", (Part("text", answered),)))
        yield Record(Sample(turns, "text->text answers"), split, asked) if asked and answered else None


def _medium(features: Mapping[str, Any], datasets: Any) -> tuple[str, str]:
    """(modality, column) of the first picture or clip; empty where there is none."""
    for name, feature in features.items():
        for kind, known in (("image", datasets.Image), ("audio", datasets.Audio)):
            if isinstance(feature, known):
                return kind, name
            if isinstance(feature, dict) and {"bytes", "path"} <= set(feature) and kind in name.lower():
                return kind, name
    return "", ""


def _words(row: Mapping[str, Any], text: str | None, label: str | None, features: Mapping[str, Any]) -> list[str]:
    """The texts of a row, or the name of its class."""
    if text is not None:
        found = row[text] if isinstance(row[text], list) else [row[text]]
        return [str(one).strip() for one in found if one and str(one).strip()]
    assert label is not None
    value = row[label]
    if isinstance(value, int) and hasattr(features[label], "int2str"):
        return [features[label].int2str(value).replace("_", " ")] if value >= 0 else []
    if isinstance(value, list):
        raise DataError(
            f"column {label!r} has lists such as {value!r}; expected one class a row, or texts in one of {', '.join(TEXTS)}"
        )
    return [str(value)] if value is not None else []


def _told(kind: str, medium: Any, texts: list[str], captions: bool, split: str) -> Iterator[Record | None]:
    data = (medium or {}).get("bytes")
    suffix = _suffix(kind, data, str((medium or {}).get("path") or ""))
    if not data or not texts:
        yield None
        return
    task = "classes" if not captions else "speech" if kind == "audio" else "captions"
    for text in texts:
        yield from told_both_ways(Part(kind, Blob(data, suffix)), text, task, split)


def _suffix(kind: str, data: bytes | None, name: str) -> str:
    """The ending that belongs to the bytes, else that of the name."""
    starts = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"RIFF": ".wav" if kind == "audio" else ".webp", b"fLaC": ".flac",
              b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"GIF8": ".gif", b"BM": ".bmp"}  # fmt: skip
    found = next((ending for start, ending in starts.items() if (data or b"").startswith(start)), "")
    return found or Path(name).suffix.lower() or SUFFIXES[kind][0]
