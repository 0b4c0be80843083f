"""WebDataset tars: files of one name and several endings make a sample; .txt, .cls or .json is its text."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from plait.contract import Part
from plait.data.importers.core.columns import by_name, texts_in
from plait.data.importers.core.lists import check_text
from plait.data.importers.core.media import blob_of, endings
from plait.data.importers.core.records import Record, both_ways, split_in
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.data.importers.core.walk import tar_members
from plait.errors import DataError

HELP = "WebDataset tars (pictures or clips with .txt, .cls or .json of the same name)"
TARS = (".tar", ".tar.gz", ".tgz")
SIGNS = TARS
TEXTS = (".txt", ".caption", ".cls")
Members = dict[str, tarfile.TarInfo]  # by ending


def matches(source: Source) -> bool:
    return bool(source.ending(*TARS))


def _samples(tar: tarfile.TarFile, path: Path, source: Source) -> dict[str, Members]:
    """Members by what stands before the first dot of their names, and by what stands behind it; whole pairs, however far
    from one another they lie."""
    samples: dict[str, Members] = {}
    for member in tar_members(tar, path, source.passed):
        name = PurePosixPath(member.name)
        stem, _, ending = name.name.partition(".")
        key, number = str(name.parent / stem), 1
        while f".{ending.lower()}" in samples.get(key, {}):  # the same name once more is another sample
            number += 1
            key = f"{name.parent / stem} ({number})"
        samples.setdefault(key, {})[f".{ending.lower()}"] = member
    return samples


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)  # read in place, never unpacked: no path of it reaches the disk
    return file.read() if file else b""


def _text(tar: tarfile.TarFile, members: Members) -> tuple[str, str]:
    """(text, ending of the member that it is of). Raises EntryError."""
    for ending in TEXTS:
        if ending in members:
            text = _read(tar, members[ending]).decode("utf-8-sig", "surrogateescape").strip()
            check_text(text)
            return text, ending
    if ".json" in members:
        raw = json.loads(_read(tar, members[".json"]))
        if isinstance(raw, Mapping):
            columns = by_name(list(raw))
            return next(iter(texts_in(raw.get((*columns.texts, columns.label)[0]))), ""), ".json"
    return "", ""


def records(source: Source) -> Iterator[Record]:
    """Two rows a sample that has a medium and a text. Raises DataError for a damaged tar."""
    for path in source.ending(*TARS):
        source.use(path)
        try:
            with tarfile.open(path) as tar:
                yield from _of_tar(tar, path, source)
        except tarfile.TarError as error:
            raise DataError(f"{path} is no whole tar ({error}); expected a WebDataset shard: fetch it anew") from error


def _of_tar(tar: tarfile.TarFile, path: Path, source: Source) -> Iterator[Record]:
    for key, members in _samples(tar, path, source).items():
        where = f"{source.label(path)}, {key}"
        with source.report.entry(where):
            text, text_ending = _text(tar, members)
            ending = next((ending for ending in endings() if ending in members), "")
            source.report.keys(source.label(path), members, (ending, text_ending))
            if not ending or not text:
                raise EntryError("it has no medium or no text", "a picture or clip, and .txt, .cls or .json")
            kind = endings()[ending]
            part = Part(kind, blob_of(_read(tar, members[ending]), ending, kind))
            yield from both_ways(part, text, "captions", split_in(path.name), where=where)
