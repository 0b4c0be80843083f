"""Taking back: a person's items leave the store, the data sets that were written from it, and with them the next training.

What stays is the hash of each item, so that a copy that turns up is known. Models that were trained before do not forget by it; they are
listed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
import time
import uuid
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait import registry
from plait.collect.project import MEDIA, Collection
from plait.data.shards import index_of
from plait.runtime.files import atomic_write, sha256_of
from plait.runtime.persons import canonical

COLLECTED = "collected"  # in the meta of rows that come from a collection
NAMELESS = "somebody who left"
FORGOTTEN = 3600.0  # seconds after which a file that no item has is one that a kill left


@dataclass
class Removal:
    """What a withdrawal took out: items, and rows and media by the file or folder that they were in. `left`: what could not be cleared, and why."""

    items: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    media: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def withdraw(
    collection: Collection, person: str, items: Container[str] | None = None, also: Iterable[Path] = ()
) -> Removal:
    """Remove some or all items of a person from the store, from every data set that was written from it, and from what lies in the folders
    `also`, such as runs that hold copies. With all items the person's name leaves the store, too. Raises ConfigError for a bad name,
    StorageError where nothing could be removed; what could be removed in part is told."""
    person = canonical(person)
    with collection.exclusive():
        with collection.lock, collection._transaction() as file:
            mine = [item for item in collection.items_of(person) if items is None or item.id in items]
            for item in mine:
                file.execute("INSERT OR IGNORE INTO withdrawn VALUES (?, ?, ?)", (item.id, item.digest, time.time()))
                file.execute("DELETE FROM votes WHERE item = ?", (item.id,))
                file.execute("DELETE FROM items WHERE id = ?", (item.id,))
            if items is None:
                file.execute(
                    "UPDATE votes SET person = ? WHERE person = ?", (f"{NAMELESS} {uuid.uuid4().hex[:8]}", person)
                )
                file.execute("DELETE FROM consents WHERE person = ?", (person,))
        for item in mine:
            if item.file is not None:
                (collection.folder / MEDIA / item.file).unlink(missing_ok=True)
        removal = Removal([item.id for item in mine])
        _clear(collection, also, removal)
    return removal


def finish(collection: Collection, also: Iterable[Path] = ()) -> Removal:
    """Remove what was withdrawn from every data set, and from the store itself, where a kill or a broken file came in between."""
    with collection.exclusive():
        removal = Removal()
        _clear(collection, also, removal)
    return removal


def _clear(collection: Collection, also: Iterable[Path], removal: Removal) -> None:
    gone = dict(collection.rows("SELECT item, digest FROM withdrawn"))
    live = {item.digest for item in collection.all_items()}
    kept = {item.file for item in collection.all_items()}
    for path in (collection.folder / MEDIA).iterdir():
        if path.name not in kept and (path.stem in gone or time.time() - path.stat().st_mtime > FORGOTTEN):
            path.unlink(missing_ok=True)
    exports = [Path(folder) for (folder,) in collection.rows("SELECT DISTINCT folder FROM exports")]
    for folder in dict.fromkeys((*exports, *also)):
        if folder.is_dir():
            purge(folder, set(gone), set(gone.values()) - live, removal)
            if folder in exports:
                collection.note_export(folder, collection.exported(folder) - set(gone))  # it is another data set now
        elif folder in exports and collection.exported(folder) & set(gone):
            removal.left[str(folder)] = "the data set is not there any more; clear it where it is now"
    try:
        collection.vacuum()
    except sqlite3.Error as error:
        removal.left[str(collection.path)] = (
            f"{error}; what was deleted is overwritten, but the file was not written anew"
        )


def purge(folder: Path, items: Container[str], digests: Container[str], removal: Removal) -> None:
    """Remove rows of withdrawn items, and media with their hashes, from the JSONL files, shards and media anywhere in a folder. A file that cannot
    be cleared is told, and ends nothing."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file() and not path.is_symlink():
                _purge_file(path, items, digests, removal)
        except (OSError, tarfile.TarError, ValueError) as error:
            removal.left[str(path)] = str(error) or type(error).__name__


def _purge_file(path: Path, items: Container[str], digests: Container[str], removal: Removal) -> None:
    if ".jsonl" in path.suffixes:  # also of an export that was killed, .jsonl.partial
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not _is_of(line, items)]
        if len(kept) < len(lines):
            atomic_write(path, b"".join(kept).decode())
            removal.rows[str(path)] = len(lines) - len(kept)
    elif path.suffix == ".tar":
        _purge_shard(path, items, digests, removal)
    elif path.suffix == ".sqlite":
        if COLLECTED.encode() in path.read_bytes():
            removal.left[str(path)] = (
                "annotations of collected rows, which are only added to; remove the file, and annotate anew"
            )
    elif registry.kind_of_file(path.suffix) and sha256_of(path) in digests:
        path.unlink()
        removal.media[str(path.parent)] = removal.media.get(str(path.parent), 0) + 1


def _is_of(line: bytes, items: Container[str]) -> bool:
    """Whether a row is of one of some items."""
    if COLLECTED.encode() not in line:
        return False
    with suppress(ValueError):
        row = json.loads(line)
        meta = row.get("meta") if isinstance(row, dict) else None
        collected = meta.get(COLLECTED) if isinstance(meta, dict) else None
        return isinstance(collected, dict) and collected.get("item") in items
    return False


def _purge_shard(path: Path, items: Container[str], digests: Container[str], removal: Removal) -> None:
    """Write a shard anew without what was withdrawn, and remove the index of its split, which is rebuilt."""
    partial, rows, media = path.with_name(path.name + ".partial"), 0, 0
    with tarfile.open(path) as old, tarfile.open(partial, "w") as new:
        for member in old:
            source = old.extractfile(member)
            data = source.read() if source else b""
            if member.name.endswith(".jsonl"):
                lines = data.splitlines(keepends=True)
                kept = [line for line in lines if not _is_of(line, items)]
                rows += len(lines) - len(kept)
                data = b"".join(kept)
                if not kept:
                    continue
                member.size = len(data)
            elif hashlib.sha256(data).hexdigest() in digests:
                media += 1
                continue
            new.addfile(member, io.BytesIO(data))
    if rows or media:
        partial.replace(path)
        shutil.rmtree(index_of(path.parent, path.name.rpartition("-")[0]), ignore_errors=True)
        removal.rows[str(path)], removal.media[str(path)] = rows, media
    else:
        partial.unlink()


def trained_models(collection: Collection, runs: Path, items: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Checkpoints below `runs` that learned from data sets with withdrawn items (or those of `items`), and those that stand on them: path, and
    why. Known by the hash of their rows, or by the folder that their recipe names."""
    gone = set(items) if items is not None else {id for (id,) in collection.rows("SELECT item FROM withdrawn")}
    digests, folders = set[str](), set[Path]()
    for folder, rows, held in collection.rows("SELECT folder, rows, items FROM exports"):
        if gone & set(json.loads(held)):
            digests |= set(json.loads(rows))
            folders.add(Path(folder).resolve())
    configs = _configs(runs)
    reasons: dict[Path, str] = {}
    for folder, config in configs.items():
        learned, data = _rows_of(folder), str(config["recipe"].get("data", ""))
        if learned & digests:
            reasons[folder] = "it learned from rows that held them"
        elif not learned and data and Path(data).resolve() in folders:
            reasons[folder] = f"its recipe names {data}"
    grew = True
    while grew:
        seals = {configs[folder]["config_sha256"] for folder in reasons}
        new = {
            folder: "it stands on one that did"
            for folder, config in configs.items()
            if folder not in reasons
            and ((config.get("parent") or {}).get("sha256") in seals or _begins_with(config, reasons))
        }
        grew = bool(new)
        reasons |= new
    return [{"model": str(folder), "why": why} for folder, why in sorted(reasons.items())]


def _configs(runs: Path) -> dict[Path, dict[str, Any]]:
    """Configurations of all checkpoints below a folder."""
    configs = {}
    for path in sorted(runs.rglob("config.json")):
        with suppress(OSError, ValueError):
            config = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(config, dict) and isinstance(config.get("recipe"), dict) and "config_sha256" in config:
                configs[path.parent] = config
    return configs


def _begins_with(config: dict[str, Any], models: Iterable[Path]) -> bool:
    """Whether a checkpoint's training began with one of some, by the place that its recipe names: the checkpoint's, or its run's."""
    named = config["recipe"].get("init")
    if not named:
        return False
    init = Path(str(named)).resolve()
    return any(model.resolve() == init or model.resolve().is_relative_to(init) for model in models)


def _rows_of(checkpoint: Path) -> set[str]:
    """Hashes of the files of rows that a checkpoint's run checked; none where it kept none."""
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
    with suppress(OSError, ValueError):
        sums = json.loads((run / "checked.json").read_text(encoding="utf-8"))
        return set(sums.values()) if isinstance(sums, dict) else set()
    return set()


def digests_in(paths: Iterable[Path]) -> set[str]:
    """SHA-256 of every file below some folders, and of every member of their shards: to prove that something is gone."""
    digests = set()
    for root in paths:
        for path in root.rglob("*"):
            if path.is_file():
                digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
            if path.suffix == ".tar" and path.is_file():
                with tarfile.open(path) as tar:
                    digests |= {
                        hashlib.sha256(file.read()).hexdigest() for member in tar if (file := tar.extractfile(member))
                    }
    return digests
