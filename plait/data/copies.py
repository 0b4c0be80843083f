"""Rows copied with their media into a folder of their own, where they stay when the folder that they came from goes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from plait.contract import WORDS, Sample
from plait.data.drawn import SUFFIX
from plait.data.media import Member
from plait.data.rows import dump_row, parts_of, with_parts
from plait.runtime.files import atomic_write


def media_name(value: str | Member) -> str:
    """The name of a medium's copy: the hash of where it lies, and its suffix."""
    suffix = SUFFIX if str(value).endswith(SUFFIX) else Path(str(value)).suffix
    return f"media/{hashlib.sha256(str(value).encode()).hexdigest()[:20]}{suffix}"


def renamed(sample: Sample, name: Callable[[str | Member], str] = media_name) -> Sample:
    """The row with other names of its media."""
    return with_parts(sample, lambda part: part if part.type == WORDS else replace(part, value=name(part.value)))


def write(samples: Iterable[Sample], file: Path) -> int:
    """Write rows to the JSONL `file` and their media beside it, each once; returns how many rows."""
    lines = []
    for sample in samples:
        for part in (part for part in parts_of(sample) if part.type != WORDS):
            copy = file.parent / media_name(part.value)
            if not copy.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                content = part.value.read() if isinstance(part.value, Member) else Path(part.value).read_bytes()
                partial = copy.with_name(f"{copy.name}.partial")
                partial.write_bytes(content)
                partial.rename(copy)  # a kill leaves no half of a medium under its name
        lines.append(dump_row(renamed(sample)))
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, "".join(f"{line}\n" for line in lines))
    return len(lines)
