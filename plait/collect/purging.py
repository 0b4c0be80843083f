"""Clearing folders of what was taken back: rows, media, shards, features."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Collection, Set
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from plait import registry
from plait.data import features
from plait.data.rows import SOURCES
from plait.data.shards import index_of
from plait.runtime.files import atomic_write, sha256_of

COLLECTED = "collected"  # in the meta of rows that come from a collection


@dataclass(frozen=True)
class Withdrawn:
    """What was taken back: ids of items; SHA-256 of their bytes, where no other item has the same; what features of them are found by."""

    items: Set[str]
    digests: Collection[str]
    contents: Collection[str] = ()


@dataclass
class Removal:
    """What a withdrawal took out: items, and rows, media and features by the file or folder that they were in, `pages` that showed them. `left`: what could not be cleared,
    and why. `is_known`: whether anything of the person was there, if only a consent; `is_retry`: whether something from before was to be cleared."""

    items: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    media: dict[str, int] = field(default_factory=dict)
    pages: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    is_known: bool = False
    is_retry: bool = False


def purge(folder: Path, withdrawn: Withdrawn, removal: Removal) -> None:
    """Remove rows of withdrawn items, media with their hashes, and features of these, from the JSONL files, shards, media and caches anywhere in a
    folder. A file that cannot be cleared is told, and ends nothing. Raises OSError for a folder that cannot be listed."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file() and not path.is_symlink():
                _purge_file(path, withdrawn, removal)
        except (OSError, tarfile.TarError, sqlite3.Error, ValueError, TypeError, KeyError) as error:
            removal.left[str(path)] = str(error) or type(error).__name__


def _purge_file(path: Path, withdrawn: Withdrawn, removal: Removal) -> None:
    if features.is_index(path):
        if count := features.forget(path, withdrawn.contents):
            removal.media[str(path)] = count
    elif ".jsonl" in path.suffixes:  # also of an export that was killed, .jsonl.partial
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not _is_of(line, withdrawn.items)]
        if len(kept) < len(lines):
            atomic_write(path, b"".join(kept))
            removal.rows[str(path)] = len(lines) - len(kept)
    elif path.suffix == ".tar":
        _purge_shard(path, withdrawn, removal)
    elif path.suffix == ".sqlite":
        if _tells_of(path, withdrawn.items):
            removal.left[str(path)] = (
                "annotations of what was taken back, which are only added to; remove the file, and annotate anew"
            )
    elif registry.kind_of_file(path.suffix) and sha256_of(path) in withdrawn.digests:
        path.unlink()
        removal.media[str(path.parent)] = removal.media.get(str(path.parent), 0) + 1


def _is_of(line: bytes, items: Collection[str]) -> bool:
    """Whether a row is of one of some items."""
    if COLLECTED.encode() not in line:
        return False
    with suppress(ValueError):
        row = json.loads(line)
        meta = row.get("meta") if isinstance(row, dict) else None
        sources = meta.get(SOURCES) if isinstance(meta, dict) else None
        return any(_item_in(each) in items for each in (meta, *(sources if isinstance(sources, list) else ())))
    return False


def _item_in(meta: object) -> str:
    """The item that a row's meta tells of; "" for none."""
    collected = meta.get(COLLECTED) if isinstance(meta, dict) else None
    item = collected.get("item") if isinstance(collected, dict) else None
    return item if isinstance(item, str) else ""


def _tells_of(path: Path, items: Collection[str]) -> bool:
    """Whether a database has a row of one of some items, also where a running program has not written it to the file yet."""
    is_open = path.with_name(f"{path.name}-wal").exists()
    how = "mode=ro" if is_open else "mode=ro&immutable=1"  # else SQLite leaves files of its own beside it
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=10)) as file:
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return any(
            isinstance(cell, str) and _is_of(cell.encode(), items)
            for table in tables
            for row in file.execute('SELECT * FROM "{}"'.format(table.replace('"', '""')))
            for cell in row
        )


def _purge_shard(path: Path, withdrawn: Withdrawn, removal: Removal) -> None:
    """Write a shard anew without what was withdrawn, and remove the index of its split, which is rebuilt."""
    if not _shard_has(path, withdrawn):
        return
    partial, rows, media = path.with_name(path.name + ".partial"), 0, 0
    with tarfile.open(path) as old, tarfile.open(partial, "w") as new:
        for member in old:
            source = old.extractfile(member)
            data = source.read() if source else b""
            if member.name.endswith(".jsonl"):
                lines = data.splitlines(keepends=True)
                kept = [line for line in lines if not _is_of(line, withdrawn.items)]
                rows += len(lines) - len(kept)
                data = b"".join(kept)
                if not kept:
                    continue
                member.size = len(data)
            elif hashlib.sha256(data).hexdigest() in withdrawn.digests:
                media += 1
                continue
            new.addfile(member, io.BytesIO(data))
    partial.replace(path)
    shutil.rmtree(index_of(path.parent, path.name.rpartition("-")[0]), ignore_errors=True)
    removal.rows[str(path)], removal.media[str(path)] = rows, media


def _shard_has(path: Path, withdrawn: Withdrawn) -> bool:
    """Whether anything in a shard was taken back."""
    with tarfile.open(path) as shard:
        for member in shard:
            if (source := shard.extractfile(member)) is None:
                continue
            if member.name.endswith(".jsonl"):
                if any(_is_of(line, withdrawn.items) for line in source):
                    return True
            elif hashlib.sha256(source.read()).hexdigest() in withdrawn.digests:
                return True
    return False
