"""Fetching through package managers, without installing: cached, and checked against a pinned hash."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from plait.errors import DataError, MissingError


def checked(path: Path, sha256: str) -> Path:
    """`path` if its content has the pinned hash; otherwise it is deleted and DataError says so."""
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != sha256:
        path.unlink()
        raise DataError(f"{path.name} has sha256 {got}; expected {sha256}: deleted it, fetch again")
    return path


def run(command: list[str], cwd: Path) -> None:
    """Run a package manager. Raises MissingError when it is not installed, DataError when it fails."""
    if shutil.which(command[0]) is None:
        raise MissingError(f"{command[0]} is not installed; install it, or use another source")
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"`{' '.join(command)}` gave no answer in {error.timeout:.0f} s; is there a network?"
        ) from error
    if done.returncode:
        raise DataError(f"`{' '.join(command)}` failed with {done.returncode}: {done.stderr.strip()[-400:]}")


def npm(name: str, version: str, sha256: str, cache: Path) -> Path:
    """The npm package's tarball in `cache`, downloaded if it is not there."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{name.replace('@', '').replace('/', '-')}-{version}.tgz"
    if not path.exists():
        run(["npm", "pack", "--silent", f"{name}@{version}"], cache)
    return checked(path, sha256)


def apt(name: str, cache: Path) -> Path:
    """The Debian package's folder of unpacked files in `cache`. The archive's own signatures vouch for its content."""
    folder = cache / name
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        run(["apt-get", "download", name], cache)
        archive = max(cache.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
        run(["dpkg", "-x", str(archive.name), f"{name}.partial"], cache)
        (cache / f"{name}.partial").rename(folder)
    return folder


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


def member(archive: Path, name: str) -> bytes:
    """One file of a tarball."""
    with tarfile.open(archive) as tar:
        found = tar.extractfile(name)
        if found is None:
            raise DataError(f"{archive.name} holds no file {name}")
        return found.read()
