"""Every record on its way to the disk: its media as bytes that decode, its texts as text, somebody who answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from plait import registry
from plait.contract import WORDS, Modality, Part
from plait.data.importers.core.media import blob_of, endings
from plait.data.importers.core.records import Record
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.writer import Writer
from plait.data.media import Blob, to_blob
from plait.errors import RowError

SETTINGS = {"audio": {"max_seconds": 3600.0}}  # longer than most train on: how much is for whoever trains
MOST_SAID = 3  # records that are left out, by name


class Intake:
    """Checks records as they are taken."""

    def __init__(self) -> None:
        self._last: tuple[Any, Blob] | None = None  # most media are in two rows, one after the other

    @cached_property
    def _modalities(self) -> dict[str, Modality]:
        return registry.build_all({name: SETTINGS.get(name, {}) for name in registry.available()})

    def checked(self, record: Record) -> Record:
        """The record with its media as Blobs. Raises RowError for media that do not decode whole, empty texts, and
        conversations in which nobody answers."""
        messages, rejected = (
            tuple(replace(message, parts=tuple(map(self._part, message.parts))) for message in side)
            for side in (record.sample.messages, record.sample.rejected)
        )
        if all(message.role not in (None, "assistant") for message in messages):
            raise EntryError("nobody answers", "an assistant's message")
        if any(not message.parts for message in (*messages, *rejected)):
            raise EntryError("it has an empty message", "words or media in each")
        return replace(record, sample=replace(record.sample, messages=messages, rejected=rejected))

    def _part(self, part: Part) -> Part:
        if part.type == WORDS:
            _check_words(part.value)
            return part
        if self._last is None or not _same(self._last[0], part.value):
            blob = _blob(part)
            self._modalities[part.type].check(replace(part, value=blob.data))
            self._last = (part.value, blob)
        return replace(part, value=self._last[1])


def add_checked(writer: Writer, records: Iterable[Record], say: Callable[[str], object]) -> None:
    """Write records whose media can be read; others are said, and left out."""
    intake, broken = Intake(), []
    for record in records:
        try:
            writer.add(intake.checked(record))
        except (RowError, EntryError) as error:
            broken.append(f"{record.where}: {error}")
    for line in broken[:MOST_SAID]:
        say(f"left out: {line}")
    if len(broken) > MOST_SAID:
        say(f"left out: {len(broken) - MOST_SAID} more")


def _same(value: Any, other: Any) -> bool:
    return value is other or (isinstance(value, Path) and isinstance(other, Path) and value == other)


def _blob(part: Part) -> Blob:
    try:
        blob = to_blob(part.value)
    except OSError as error:
        raise EntryError("its file cannot be read", "a file that is there, and may be read", str(error)) from error
    known = blob.suffix in endings() or not isinstance(part.value, Path)
    return blob if known else blob_of(blob.data, "", part.type)


def _check_words(words: Any) -> None:
    """Raise EntryError for what is no text, or for none."""
    if not isinstance(words, str) or not words.strip():
        raise EntryError("it has an empty text", "words")
    try:
        words.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EntryError("it has half of a surrogate pair", "Unicode: write the text anew as UTF-8") from error
