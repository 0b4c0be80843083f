"""Mozilla Common Voice: TSV lists with `path`, `sentence`, `client_id`; clips in clips/."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from plait.contract import Part
from plait.data.importers import NAMES_OF_SPLITS, Record, told_both_ways
from plait.errors import RowError

HELP = "Common Voice (train.tsv, dev.tsv, test.tsv or validated.tsv, clips/)"


def _lists(source: Path) -> list[Path]:
    """The lists of the official splits, or validated.tsv alone where they are missing."""
    split = [source / f"{name}.tsv" for name in ("train", "dev", "test")]
    return [path for path in split if path.is_file()] or [p for p in [source / "validated.tsv"] if p.is_file()]


def matches(source: Path) -> bool:
    return (source / "clips").is_dir() and bool(_lists(source))


def records(source: Path) -> Iterator[Record]:
    """Two rows a clip: what was said, and say it. Where no splits are given, a speaker's clips stay together."""
    for path in _lists(source):
        split = "" if path.stem == "validated" else NAMES_OF_SPLITS[path.stem]
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            for row in reader:
                name, text = row.get("path"), (row.get("sentence") or "").strip()
                clip = source / "clips" / name if name else None
                if clip is None or not text or not clip.is_file():
                    raise RowError(
                        f"{path}:{reader.line_num}: got path {name!r}, sentence {text[:60]!r}; expected a file in clips/ and a sentence"
                    )
                yield from told_both_ways(Part("audio", clip), text, "speech", split, row.get("client_id") or "")
