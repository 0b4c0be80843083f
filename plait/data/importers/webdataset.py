"""WebDataset tars: files of one name and several endings make a sample; .txt, .cls or .json is its text."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from plait.contract import Part
from plait.data.importers import SUFFIXES, Record, split_in, told_both_ways
from plait.data.media import Blob
from plait.errors import DataError

HELP = "WebDataset tars (pictures or clips with .txt, .cls or .json of the same name)"
LARGEST = 2**30  # bytes of one member


def _tars(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.name.endswith((".tar", ".tar.gz", ".tgz")) else []
    return sorted(path for suffix in ("*.tar", "*.tar.gz", "*.tgz") for path in source.glob(suffix))


def matches(source: Path) -> bool:
    return bool(_tars(source))


def _samples(path: Path) -> Iterator[dict[str, bytes]]:
    """Ending -> bytes of each run of members with one name before the first dot."""
    key: tuple[PurePosixPath, str] | None = None
    sample: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:  # read in place, never unpacked: no path of it reaches the disk
                if not member.isfile():
                    continue
                if member.size > LARGEST:
                    raise DataError(f"{path}: {member.name} has {member.size} bytes; expected at most {LARGEST}")
                name = PurePosixPath(member.name)
                stem, _, ending = name.name.partition(".")
                if (name.parent, stem) != key:
                    if sample:
                        yield sample
                    key, sample = (name.parent, stem), {}
                file = tar.extractfile(member)
                sample["." + ending.lower()] = file.read() if file else b""
    except tarfile.TarError as error:
        raise DataError(f"{path} is no whole tar ({error}); expected a WebDataset shard: fetch it anew") from error
    if sample:
        yield sample


def _text(sample: dict[str, bytes]) -> str:
    for ending in (".txt", ".cls"):
        if ending in sample:
            return sample[ending].decode("utf-8", "replace").strip()
    if ".json" in sample:
        raw = json.loads(sample[".json"])
        return str(next((raw[key] for key in ("caption", "text", "label") if key in raw), "")).strip()
    return ""


def records(source: Path) -> Iterator[Record | None]:
    """Two rows a sample that has a medium and a text; None for one that lacks either. Raises DataError."""
    for path in _tars(source):
        split = split_in(path.name)
        for sample in _samples(path):
            text = _text(sample)
            found = ((kind, Blob(sample[s], s)) for kind, endings in SUFFIXES.items() for s in endings if s in sample)
            kind, blob = next(found, ("", Blob(b"", "")))
            if not kind or not text:
                yield None
                continue
            yield from told_both_ways(Part(kind, blob), text, "captions", split)
