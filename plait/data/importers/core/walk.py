"""One walk over folders and tars. Links are followed; what other programs leave behind is not data."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from plait.errors import DataError

LEAVINGS = {  # beside names that begin with a dot: file browsers, archivers, servers, systems
    "__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__",
}  # fmt: skip
LARGEST_MEMBER = 2**30  # bytes


def is_leaving(name: str) -> bool:
    """Whether a path has a part that is hidden, or that a file browser, an archiver or a server left behind."""
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part.strip(".")) or part.casefold() in LEAVINGS for part in parts)


def walk(folder: Path, passed: Counter[str], most: int | None = None) -> list[Path]:
    """Files under a folder in order, those of linked folders too; `passed` counts by reason what is passed over."""
    return list(islice(_files(folder, frozenset(), passed), most))


def _files(folder: Path, above: frozenset[str], passed: Counter[str]) -> Iterator[Path]:
    """`above` are the folders that this one lies in, so that a link to one of them is not followed for ever."""
    real = os.path.realpath(folder)
    try:
        entries = [] if real in above else sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        passed[f"folders that cannot be read ({error.strerror})"] += 1
        return
    for entry in entries:
        if is_leaving(entry.name):
            passed["hidden files, and what other programs left behind"] += 1
        elif entry.is_dir():
            yield from _files(Path(entry.path), above | {real}, passed)
        elif entry.is_file():
            yield Path(entry.path)
        else:
            passed["links to nothing, pipes and devices"] += 1


def tar_members(tar: tarfile.TarFile, path: Path, passed: Counter[str]) -> Iterator[tarfile.TarInfo]:
    """Files of a tar as `walk` gives those of a folder. Raises DataError for one that is too large to hold."""
    for member in tar:
        if member.isdir():
            continue
        if is_leaving(member.name):
            passed["hidden files, and what other programs left behind"] += 1
        elif not (member.isfile() or member.islnk() or member.issym()):  # a link leads to a member of the same tar
            passed["pipes and devices"] += 1
        elif member.size > LARGEST_MEMBER:
            raise DataError(
                f"{path}: {member.name} has {member.size} bytes; expected at most {LARGEST_MEMBER}: take it out of the tar"
            )
        else:
            yield member
