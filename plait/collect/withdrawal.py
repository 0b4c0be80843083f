"""Taking back: a person's items leave the store, the data sets that were written from it, and with them the next training.

What stays is the hash of each item, so that a copy that turns up is known. Models that were trained before do not forget by it; they are
listed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import time
from collections.abc import Collection as Some
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait.collect.project import MEDIA, Collection
from plait.data.shards import index_of
from plait.runtime.files import atomic_write

COLLECTED = "collected"  # in the meta of rows that come from a collection
NAMELESS = "somebody who left"


@dataclass
class Removal:
    """What a withdrawal took out: items, rows and media by the file or folder that they were in."""

    items: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    media: dict[str, int] = field(default_factory=dict)


def withdraw(collection: Collection, person: str, items: Some[str] | None = None, also: Iterable[Path] = ()) -> Removal:
    """Remove some or all items of a person from the store, from every data set that was written from it, and from what lies in the folders
    `also`, such as runs that hold copies. With all items the person's name leaves the store, too."""
    mine = [item for item in collection.items_of(person) if items is None or item.id in items]
    removal = Removal([item.id for item in mine])
    now = time.time()
    with collection._transaction() as file:
        for item in mine:
            file.execute("INSERT OR IGNORE INTO withdrawn VALUES (?, ?, ?)", (item.id, item.digest, now))
            file.execute("DELETE FROM votes WHERE item = ?", (item.id,))
            file.execute("DELETE FROM items WHERE id = ?", (item.id,))
        if items is None:
            nameless = f"{NAMELESS} {hashlib.sha256(f'{person}{now}'.encode()).hexdigest()[:8]}"
            file.execute("UPDATE votes SET person = ? WHERE person = ?", (nameless, person))
            file.execute("DELETE FROM consents WHERE person = ?", (person,))
    for item in mine:
        if item.file is not None:
            (collection.folder / MEDIA / item.file).unlink(missing_ok=True)
    finish(collection, also, removal)
    return removal


def finish(collection: Collection, also: Iterable[Path] = (), removal: Removal | None = None) -> Removal:
    """Remove what was withdrawn from every data set, and from the files of the store itself; also what a kill left behind."""
    removal = removal or Removal()
    collection.removed("DELETE FROM votes WHERE item IN (SELECT item FROM withdrawn)")
    collection.vacuum()
    kept = {item.file for item in collection.all_items()}
    for path in (collection.folder / MEDIA).iterdir():
        if path.name not in kept and any(
            path.name.startswith(id) for (id,) in collection.rows("SELECT item FROM withdrawn")
        ):
            path.unlink()
    gone = dict(collection.rows("SELECT item, digest FROM withdrawn"))
    folders = [Path(folder) for (folder,) in collection.rows("SELECT DISTINCT folder FROM exports")]
    for folder in dict.fromkeys((*folders, *also)):
        if folder.is_dir():
            purge(folder, set(gone), set(gone.values()), removal)
            if folder in folders:
                collection.note_export(folder, collection.exported(folder) - set(gone))  # it is another data set now
    return removal


def purge(folder: Path, items: Some[str], digests: Some[str], removal: Removal) -> None:
    """Remove rows of withdrawn items, and media with their hashes, from the JSONL files, shards and media anywhere in a folder."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".jsonl" and path.is_file():
            lines = path.read_bytes().splitlines(keepends=True)
            left = [line for line in lines if not _is_of(line, items)]
            if len(left) < len(lines):
                atomic_write(path, b"".join(left).decode())
                removal.rows[str(path)] = len(lines) - len(left)
        elif path.suffix == ".tar" and path.is_file():
            _purge_shard(path, items, digests, removal)
        elif path.is_file() and path.parent.name == MEDIA and hashlib.sha256(path.read_bytes()).hexdigest() in digests:
            path.unlink()
            removal.media[str(path.parent)] = removal.media.get(str(path.parent), 0) + 1


def _is_of(line: bytes, items: Some[str]) -> bool:
    """Whether a row is of one of some items."""
    if COLLECTED.encode() not in line:
        return False
    with suppress(ValueError):
        row = json.loads(line)
        meta = row.get("meta") if isinstance(row, dict) else None
        collected = meta.get(COLLECTED) if isinstance(meta, dict) else None
        return isinstance(collected, dict) and collected.get("item") in items
    return False


def _purge_shard(path: Path, items: Some[str], digests: Some[str], removal: Removal) -> None:
    """Write a shard anew without what was withdrawn, and remove the index of its split, which is rebuilt."""
    partial, rows, media = path.with_name(path.name + ".partial"), 0, 0
    with tarfile.open(path) as old, tarfile.open(partial, "w") as new:
        for member in old:
            source = old.extractfile(member)
            data = source.read() if source else b""
            if member.name.endswith(".jsonl"):
                lines = data.splitlines(keepends=True)
                left = [line for line in lines if not _is_of(line, items)]
                rows += len(lines) - len(left)
                data = b"".join(left)
                if not left:
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


def trained_models(collection: Collection, runs: Path, items: Some[str] | None = None) -> list[dict[str, Any]]:
    """Checkpoints below `runs` that learned from data sets with withdrawn items (or those of `items`), and those that stand on them: path, and
    why. Known by the hash of their rows, or by the folder that their recipe names."""
    gone = set(items) if items is not None else {id for (id,) in collection.rows("SELECT item FROM withdrawn")}
    digests, folders = set[str](), set[Path]()
    for folder, rows, held in collection.rows("SELECT folder, rows, items FROM exports"):
        if gone & set(json.loads(held)):
            digests |= set(json.loads(rows))
            folders.add(Path(folder).resolve())
    configs = {}
    for path in sorted(runs.rglob("config.json")):
        with suppress(OSError, ValueError):
            config = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(config, dict) and "recipe" in config and "config_sha256" in config:
                configs[path.parent] = config
    reasons: dict[Path, str] = {}
    for folder, config in configs.items():
        run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
        learned = _rows_of(run)
        data = str(config["recipe"].get("data", ""))
        if learned & digests:
            reasons[folder] = "it learned from rows that held them"
        elif data and Path(data).resolve() in folders:
            reasons[folder] = f"its recipe names {data}"
    grew = True
    while grew:
        seals = {configs[folder]["config_sha256"] for folder in reasons}
        places = {str(folder.resolve()) for folder in reasons}
        new = {
            folder: "it stands on one that did"
            for folder, config in configs.items()
            if folder not in reasons
            and (
                (config.get("parent") or {}).get("sha256") in seals
                or any(str(config["recipe"].get("init") or "-").startswith(place) for place in places)
            )
        }
        grew = bool(new)
        reasons |= new
    return [{"model": str(folder), "why": why} for folder, why in sorted(reasons.items())]


def _rows_of(run: Path) -> set[str]:
    """Hashes of the files of rows that a run checked."""
    with suppress(OSError, ValueError):
        sums = json.loads((run / "checked.json").read_text(encoding="utf-8"))
        return set(sums.values()) if isinstance(sums, dict) else set()
    return set()


def digests_in(paths: Iterable[Path]) -> set[str]:
    """SHA-256 of every file below some folders, and of every member of their shards: to prove that something is gone."""
    found = set()
    for root in paths:
        for path in root.rglob("*"):
            if path.is_file():
                found.add(hashlib.sha256(path.read_bytes()).hexdigest())
            if path.suffix == ".tar" and path.is_file():
                with tarfile.open(path) as tar:
                    found |= {
                        hashlib.sha256(file.read()).hexdigest() for member in tar if (file := tar.extractfile(member))
                    }
    return found
