"""LJSpeech and data sets of its shape: metadata.csv of `id|text|normalised text`, clips in wavs/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plait.contract import Part
from plait.data.importers import SUFFIXES, Record, lines_of, told_both_ways
from plait.errors import RowError

HELP = "speech with its text (metadata.csv of id|text, wavs/)"


def matches(source: Path) -> bool:
    return (source / "metadata.csv").is_file() and (source / "wavs").is_dir()


def records(source: Path) -> Iterator[Record]:
    """Two rows a clip: what was said, and say it. The last column is the text. Raises RowError for a bad line."""
    path = source / "metadata.csv"
    for number, line in lines_of(path):
        name, *texts = line.rstrip("\r\n").split("|")
        text = next((text.strip() for text in reversed(texts) if text.strip()), "")
        if not text:
            raise RowError(f"{path}:{number}: got {line.strip()[:80]!r}; expected id|text: fill in the text")
        places = (source / "wavs" / f"{name}{suffix}" for suffix in ("", *SUFFIXES["audio"]))
        clip = next((place for place in places if place.is_file()), None)
        if clip is None:
            raise RowError(f"{path}:{number}: wavs/{name}.wav is not there; expected a clip for each line")
        yield from told_both_ways(Part("audio", clip), text, "speech")
