"""Taking back: a person's items leave the store, the data sets that were written from it, and with them the next training.

What stays is the hash of each item, so that a copy that turns up is known. Models that were trained before do not forget by it; they are
listed.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from plait.collect import export
from plait.collect.project import MEDIA, Collection, Contribution
from plait.collect.purging import Removal, Withdrawn, purge
from plait.data.features import content_hash
from plait.errors import PlaitError
from plait.runtime.database import StorageError
from plait.runtime.persons import canonical

CONTENTS = "SELECT content, digest FROM withdrawn_contents JOIN withdrawn USING (item)"
NAMELESS = "somebody who left"
FORGOTTEN = 3600.0  # seconds after which a file that no item has is one that a kill left


def withdraw(
    collection: Collection, person: str, items: Container[str] | None = None, also: Iterable[Path] = ()
) -> Removal:
    """Remove some or all items of a person from the store, from every data set that was written from it, and from what lies in the folders
    `also`, such as runs that hold copies. With all items the person's name leaves the store, too. Raises ConfigError for a bad name,
    StorageError where nothing could be removed; what could be removed in part is told."""
    person = canonical(person)
    with collection.exclusive():
        pending = _pending(collection)
        mine, is_known = _take_out(collection, person, items)
        removal = Removal([item.id for item in mine], is_known=is_known, is_retry=bool(pending))
        if is_known or pending:  # else whoever asks for nothing has everything read
            _clear(collection, also, removal, pending)
    return removal


def _pending(collection: Collection) -> set[str]:
    """What an earlier withdrawal could not clear, or did not end to."""
    return {folder for (folder,) in collection.rows("SELECT place FROM uncleared")}


def _take_out(collection: Collection, person: str, items: Container[str] | None) -> tuple[list[Contribution], bool]:
    """Items of a person, out of the store; whether anything of the person was there."""
    # media are read before others have to wait
    contents = {item.id: _content(collection, item) for item in collection.items_of(person)}
    with collection.lock, collection._transaction() as file:
        mine = [item for item in collection.items_of(person) if items is None or item.id in items]
        for item in mine:
            file.execute("INSERT OR IGNORE INTO withdrawn VALUES (?, ?, ?)", (item.id, item.digest, time.time()))
            content = contents[item.id] if item.id in contents else _content(collection, item)
            if content is not None:
                file.execute("INSERT OR IGNORE INTO withdrawn_contents VALUES (?, ?)", (item.id, content))
            file.execute("DELETE FROM votes WHERE item = ?", (item.id,))
            file.execute("DELETE FROM items WHERE id = ?", (item.id,))
        changes = len(mine)
        if items is None:
            nameless = f"{NAMELESS} {uuid.uuid4().hex[:8]}"
            changes += file.execute("UPDATE votes SET person = ? WHERE person = ?", (nameless, person)).rowcount
            changes += file.execute("DELETE FROM consents WHERE person = ?", (person,)).rowcount
        if changes:  # until it is done: a kill, or a full disk, leaves it to the next
            file.execute("INSERT OR REPLACE INTO uncleared VALUES (?, ?)", (str(collection.folder), "not cleared yet"))
    for item in mine:
        if item.file is not None:
            (collection.folder / MEDIA / item.file).unlink(missing_ok=True)
    return mine, changes > 0


def _content(collection: Collection, item: Contribution) -> str | None:
    """What features of an item's medium are kept by; None for words, and for a file that is not there."""
    with suppress(OSError):
        return None if item.file is None else content_hash(collection.part(item))
    return None


def finish(collection: Collection, also: Iterable[Path] = ()) -> Removal:
    """Remove what was withdrawn from every data set, and from the store itself, where a kill or a broken file came in between."""
    with collection.exclusive():
        removal = Removal()
        _clear(collection, also, removal, _pending(collection))
    return removal


def _clear(collection: Collection, also: Iterable[Path], removal: Removal, pending: Container[str]) -> None:
    digest_of = dict(collection.rows("SELECT item, digest FROM withdrawn"))
    ids, items = set(digest_of), collection.all_items()
    live, files = {item.digest for item in items}, {item.file for item in items}
    contents = {content for (content, digest) in collection.rows(CONTENTS) if digest not in live}
    withdrawn = Withdrawn(ids, set(digest_of.values()) - live, contents)
    for path in (collection.folder / MEDIA).iterdir():
        if path.name not in files and (path.stem in ids or time.time() - path.stat().st_mtime > FORGOTTEN):
            path.unlink(missing_ok=True)
    if ids:  # else nothing of it can be anywhere, and runs need not be read
        _clear_folders(collection, also, withdrawn, removal, pending)
    try:
        collection.vacuum()
    except sqlite3.Error as error:
        removal.left[str(collection.path)] = (
            f"{error}; what was deleted is overwritten, but the file was not written anew"
        )
    try:
        with collection._transaction() as file:
            file.execute("DELETE FROM uncleared")
            file.executemany("INSERT INTO uncleared VALUES (?, ?)", list(removal.left.items()))
    except StorageError as error:
        removal.left[str(collection.path)] = str(error)


def _clear_folders(
    collection: Collection, also: Iterable[Path], withdrawn: Withdrawn, removal: Removal, pending: Container[str]
) -> None:
    """Clear the data sets that were written, and the folders `also`. `pending`: folders that were not cleared to the end, that of the collection for
    any."""
    exports, also = [Path(folder) for (folder,) in collection.rows("SELECT DISTINCT folder FROM exports")], [*also]
    for folder in dict.fromkeys((*exports, *also, *_caches(also))):
        try:
            if folder.is_dir():
                purge(folder, withdrawn, removal)
                if folder in exports:  # it is another data set now
                    before = collection.exported(folder)
                    collection.note_export(folder, before - withdrawn.items)
                    was_cut_short = str(folder) in pending or str(collection.folder) in pending
                    if before & withdrawn.items or (
                        was_cut_short and collection.ever_exported(folder) & withdrawn.items
                    ):
                        export.recount(collection, folder, before - withdrawn.items)
            elif folder in exports and collection.exported(folder) & withdrawn.items:
                removal.left[str(folder)] = "the data set is not there any more; clear it where it is now"
        except (OSError, PlaitError) as error:
            removal.left[str(folder)] = str(error)
    _remove_reports(collection, also, removal)


def _remove_reports(collection: Collection, runs: Iterable[Path], removal: Removal) -> None:
    """Remove the pages of models that learned from what was taken back, which show rows with their media. Those of later are of what was left."""
    withdrawn_at = max((at for (at,) in collection.rows("SELECT at FROM withdrawn")), default=0.0)
    models = [Path(model["model"]) for folder in runs for model in trained_models(collection, folder)]
    for page in sorted({page for model in models for page in _run_of(model).rglob("*.html")}):
        try:
            if page.stat().st_mtime <= withdrawn_at:
                page.unlink()
                removal.pages.append(str(page))
        except OSError as error:
            removal.left[str(page)] = str(error)


def _caches(runs: Iterable[Path]) -> set[Path]:
    """Folders elsewhere in which runs keep features."""
    named = {str(config["recipe"].get("features") or "") for folder in runs for config in _configs(folder).values()}
    return {Path(folder) for folder in named if folder}


def trained_models(collection: Collection, runs: Path, items: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Checkpoints below `runs` that learned from data sets with withdrawn items (or those of `items`), and those that stand on them: path, and
    why. Known by the hash of their rows; where that is of no export, by the folders that their recipe names; what they replayed by its folder alone."""
    withdrawn = set(items) if items is not None else {id for (id,) in collection.rows("SELECT item FROM withdrawn")}
    digests, clean, folders = set[str](), set[str](), set[Path]()
    for folder, rows, held in collection.rows("SELECT folder, rows, items FROM exports"):
        if withdrawn & set(json.loads(held)):
            digests |= set(json.loads(rows))
            folders.add(Path(folder).resolve())
        else:
            clean |= set(json.loads(rows))
    configs = _configs(runs)
    reasons: dict[Path, str] = {}
    for folder, config in configs.items():
        learned = _rows_of(folder)
        is_clean = bool(learned) and learned <= clean  # else an export that was changed since may have held them
        for key in ("replay",) if is_clean else ("data", "replay"):
            data_folder = str(config["recipe"].get(key) or "")
            if data_folder and Path(data_folder).resolve() in folders:
                reasons[folder] = f"its recipe names {data_folder}"
        if learned & digests:
            reasons[folder] = "it learned from rows that held them"
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


def _run_of(checkpoint: Path) -> Path:
    """The folder of a checkpoint's run; the checkpoint's own where it lies alone."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint


def _rows_of(checkpoint: Path) -> set[str]:
    """Hashes of the files of rows that a checkpoint's run checked; none where it kept none."""
    with suppress(OSError, ValueError):
        sums = json.loads((_run_of(checkpoint) / "checked.json").read_text(encoding="utf-8"))
        return set(sums.values()) if isinstance(sums, dict) else set()
    return set()
