"""Chat files: OpenAI's `{"messages": [{"role", "content"}]}` and ShareGPT's `{"conversations": [{"from", "value"}]}`, with
the pictures and clips that LLaVA's lists name beside them."""

from __future__ import annotations

from collections.abc import Iterator

from plait.data.importers.core.conversation import conversation, turns_of
from plait.data.importers.core.lists import JSON_ENDINGS, Table
from plait.data.importers.core.records import NAMES_OF_SPLITS, Record
from plait.data.importers.core.source import Source
from plait.errors import DataError

HELP = "conversations (OpenAI's, ShareGPT's or LLaVA's JSON or JSONL)"
SIGNS = JSON_ENDINGS


def _lists(source: Source, every: bool = False) -> list[Table]:
    return [
        table
        for table in source.tables(*JSON_ENDINGS)
        if every or any(turns_of(entry.values) is not None for entry in table.sample)
    ]


def matches(source: Source) -> bool:
    return bool(_lists(source))


def records(source: Source) -> Iterator[Record]:
    """A row a conversation. Raises DataError for media beside one that cannot be used."""
    lists = _lists(source) or _lists(source, every=True)
    if not lists:
        raise DataError(f"{source.path} has no .json or .jsonl; expected files of conversations")
    for table in lists:
        source.use(table.path)
        split = NAMES_OF_SPLITS.get(table.path.stem.lower(), "") or source.split(table.path)
        for entry in table.entries(source.report):
            with source.report.entry(entry.where):
                yield conversation(entry.values, entry.where, table.label, source, table.path.parent, split)
