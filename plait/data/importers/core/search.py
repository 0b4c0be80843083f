"""The one search for files that lists name: as they were named on another machine, or by another program."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePath
from urllib.parse import unquote

from plait.data.importers.core.media import kind_of
from plait.data.importers.core.records import split_in
from plait.data.importers.core.report import EntryError

# folders that say nothing of what is in them, beside those that are named for a split
PLAIN = {"images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "data", "media", "files", "wavs", "wav", "clips",
         "audio", "audios", "sounds", "dataset", "default", "obj_train_data", "upload", "uploads", "raw"}  # fmt: skip
_ORIGIN = re.compile(r"^(?:[a-z][a-z0-9+.-]+:/+[^/]*|[a-z]:)", re.IGNORECASE)  # of an address, or a drive
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio's names of uploaded files
Parts = tuple[str, ...]


def spellings(name: str) -> Iterator[Parts]:
    """What a name may mean, as the parts of a path: with the slashes of Windows, as an address, as Label Studio's."""
    text = name.strip().replace("\\", "/")
    if "?d=" in text:  # Label Studio's local files
        text = unquote(text.split("?d=", 1)[1])
    parts = tuple(part for part in _ORIGIN.sub("", text).split("/") if part not in ("", ".", ".."))
    yield parts
    if any("%" in part for part in parts):
        yield tuple(map(unquote, parts))
    if parts and (uploaded := _UPLOADED.fullmatch(parts[-1])):
        yield (*parts[:-1], uploaded[1])


def _is_plain(folder: str) -> bool:
    return folder.casefold() in PLAIN or bool(split_in(folder))


class FileIndex:
    """Media files under `root`, found by name."""

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self.root = root
        self._media = [path for path in files if kind_of(path)]
        self._reached: dict[Path, Parts] = {}

    def find(self, name: str, near: Path, split: str = "", claim: bool = True) -> Path:
        """The medium that a list in the folder `near`, of `split`, calls `name`. Raises EntryError where there is none, or
        more than one, or, if it is to `claim` the file, where another name that is not quite the file's own did."""
        for folder in (near, self.root, near / "images", self.root / "images"):
            path = Path(os.path.normpath(folder / name))
            if kind_of(path) and _is_file(path):
                return path
        for parts in spellings(name):
            if parts and (paths := self._best(parts, self._folders_to(near), split)):
                return self._only(paths, parts, name, claim)
        address = " (an address: fetch it first)" if re.match("https?:", name) else ""
        raise EntryError("its file is not there", f"it beside the list or in a folder of the source{address}", name)

    def _only(self, paths: Sequence[Path], parts: Parts, name: str, claim: bool) -> Path:
        if len(paths) > 1:
            raise EntryError("several files have the name of its file", "one: name it with its folder", name)
        path, named = paths[0], tuple(map(str.casefold, parts))
        whole = tuple(map(str.casefold, path.relative_to(self.root).parts))[-len(named) :]
        if claim and whole[:-1] != named[:-1] and self._reached.setdefault(path, named) != named:
            raise EntryError("its file is that of an entry with another name", "a file for each name", name)
        return path

    def _folders_to(self, near: Path) -> Parts:
        return tuple(map(str.casefold, near.relative_to(self.root).parts)) if near.is_relative_to(self.root) else ()

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        table: dict[str, list[Path]] = {}
        for path in self._media:
            table.setdefault(path.stem.casefold(), []).append(path)
        return table

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(part.casefold() for path in self._media for part in path.relative_to(self.root).parts[:-1])

    @cached_property
    def _in_one_folder(self) -> bool:
        return len({path.parent for path in self._media}) == 1

    def _best(self, parts: Parts, near: Parts, split: str) -> list[Path]:
        """The files that fit best: those of the longest common tail, then of the list's split, then near the list."""
        ending = kind_of(PurePath(parts[-1]))
        stem = (PurePath(parts[-1]).stem if ending else parts[-1]).casefold()
        scores: dict[Path, tuple[int, ...]] = {}
        for path in self._by_stem.get(stem, ()):
            score = self._score(path, (*parts[:-1], stem), near, split)
            if score is not None:
                same = path.name.casefold() == parts[-1].casefold()
                scores[path] = (*score, int(same), int(path.name == parts[-1]))
        best = max(scores.values(), default=())
        return [path for path, score in scores.items() if score == best]

    def _score(self, path: Path, parts: Parts, near: Parts, split: str) -> tuple[int, ...] | None:
        """How well a file fits; None where its folders, or those of the name, say that it is another."""
        own = (*map(str.casefold, path.relative_to(self.root).parts[:-1]), path.stem.casefold())
        named = tuple(map(str.casefold, parts))
        tail = _shared(own[::-1], named[::-1])
        above, rest = own[: len(own) - tail], named[: len(named) - tail]
        shared = _shared(above, near)
        if not self._may_be(above[shared:], rest):
            return None
        splits = [word for folder in own[:-1] if (word := split_in(folder))]
        if split and splits and split not in splits:
            return None
        return tail, int(bool(split) and split in splits), shared, -len(above)

    def _may_be(self, above: Parts, rest: Parts) -> bool:
        """Whether a file in the folders `above` what it has in common with a name may be meant by it, `rest` being what the
        name has above that: no folder says something that the name does not, and none of the name is elsewhere."""
        said = all(_is_plain(folder) or folder in rest for folder in above)
        elsewhere = bool(rest) and rest[-1] in self._folders and rest[-1] not in above and not _is_plain(rest[-1])
        return not elsewhere and (said or (not rest and self._in_one_folder))


def _shared(a: Parts, b: Parts) -> int:
    """How many parts two paths begin with alike."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
