"""Mozilla Common Voice: TSV lists with `path`, `sentence`, `client_id`; clips in clips/."""

from __future__ import annotations

from collections.abc import Iterator

from plait.data.importers.core.columns import Columns, records_of
from plait.data.importers.core.lists import Table
from plait.data.importers.core.records import NAMES_OF_SPLITS, Record
from plait.data.importers.core.source import Source

HELP = "Common Voice (train.tsv, dev.tsv, test.tsv or validated.tsv, clips/)"
SIGNS = (".tsv", "audio")
OFFICIAL: tuple[str, ...] = ("train", "dev", "test")
CLIP, SENTENCE, SPEAKER = "path", "sentence", "client_id"


def _lists(source: Source) -> Iterator[Table]:
    """The lists of the official splits, or validated.tsv alone where they are missing."""
    paths = {path.stem.lower(): path for path in source.ending(".tsv")}
    official = [name for name in OFFICIAL if name in paths]
    for name in official or [name for name in paths if name == "validated"]:
        table = source.table(paths[name], quoted=False)  # sentences begin and end with quotes of their own
        if table is not None and {CLIP, SENTENCE} <= set(table.columns):
            yield table


def matches(source: Source) -> bool:
    return next(_lists(source), None) is not None


def records(source: Source) -> Iterator[Record]:
    """Two rows a clip: what was said, and say it. Where no splits are given, a speaker's clips stay together."""
    for table in _lists(source):
        name = table.path.stem.lower()
        split = "" if name == "validated" else NAMES_OF_SPLITS[name]
        columns = Columns(CLIP, (SENTENCE,), group=SPEAKER)
        yield from records_of(table, columns, source, table.path.parent / "clips", split)
