"""Which item shows what another program showed: the same file, the same medium whole, or the same words."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from plait import registry
from plait.annotate.items import asked_parts, sample_of
from plait.annotate.store import Item
from plait.contract import WORDS, Part
from plait.data.importers.core.media import embedded
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.errors import RowError
from plait.runtime.pictures import pixels_digest

Key = str | tuple[str, ...]  # words, or names of files relative to the folder
LONGEST_NAME = 4096


class ItemIndex:
    """Items by what they show. `folder`: where their media are."""

    def __init__(self, items: Mapping[str, Item], folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.source = Source(self.folder)
        modalities = registry.build_all(registry.available())
        self._ids: dict[Key, list[str]] = defaultdict(list)
        self._media: dict[str, None] = {}  # names of files, each once
        self._names: dict[str, str] = {}  # of files that are like a medium that came whole, by its digest
        for id, item in items.items():
            parts = asked_parts(sample_of(item, self.folder, modalities))
            media = [Part(part.type, self._name(Path(part.value))) for part in parts if part.type != WORDS]
            self._media |= dict.fromkeys(str(part.value) for part in media)
            self._ids[_key([*media, *(part for part in parts if part.type == WORDS)])].append(id)

    def id_of(self, shown: Sequence[Part]) -> str | None:
        """The item that shows these parts; media are named, or whole as data addresses. None for words that none shows. Raises EntryError
        for a medium that is not in the folder, and where several items show it."""
        ids = self._ids.get(self._key_of(shown), [])
        if len(ids) > 1:
            raise EntryError("it is shown by several items", "one", f"{self._key_of(shown)!r:.60}")
        return ids[0] if ids else None

    def add(self, id: str, shown: Sequence[Part]) -> str:
        """Take note of a new item; returns its id."""
        self._ids[self._key_of(shown)].append(id)
        return id

    def _key_of(self, shown: Sequence[Part]) -> Key:
        if not shown:
            raise EntryError("it shows nothing", "words or media")
        return _key([part if part.type == WORDS else Part(part.type, self._file(part)) for part in shown])

    def _file(self, part: Part) -> str:
        """The name of the file that a part names or holds. Raises EntryError."""
        blob = embedded(part.value, part.type)
        if blob is not None:
            return self._like(blob.data)
        if len(part.value) > LONGEST_NAME:
            raise EntryError(
                "it names no file", "the name of one, or data:image/png;base64,...", f"{part.value:.60}..."
            )
        return self._name(self.source.find(part.value, self.folder))

    def _name(self, path: Path) -> str:
        """A file's name relative to the folder. Raises EntryError."""
        path = Path(os.path.abspath(path))
        if not path.is_relative_to(self.folder):
            raise EntryError("its file is outside the folder", "one within it", f"{str(path)!r:.200}")
        return path.relative_to(self.folder).as_posix()

    def _like(self, data: bytes) -> str:
        """The name of the file with the same bytes, or else of the picture with the same pixels. Raises EntryError."""
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._names:
            names = self._by_bytes.get(digest)
            if not names and (pixels := _pixels(data)):
                names = self._by_pixels.get(pixels)
            if not names:
                raise EntryError("it is like no file in the folder", "the same bytes, or a picture of the same pixels")
            if len(names) > 1:
                raise EntryError("several files are like it", "one", ", ".join(names)[:200])
            self._names[digest] = names[0]
        return self._names[digest]

    @cached_property
    def _by_bytes(self) -> Mapping[str, list[str]]:
        return self._grouped(lambda path: hashlib.sha256(path.read_bytes()).hexdigest())

    @cached_property
    def _by_pixels(self) -> Mapping[str, list[str]]:
        return self._grouped(_pixels)

    def _grouped(self, digest_of: Callable[[Path], str | None]) -> Mapping[str, list[str]]:
        """Names by digest; files that cannot be read have none."""
        groups = defaultdict[str, list[str]](list)
        for name in self._media:
            try:
                digest = digest_of(self.folder / name)
            except OSError:
                continue
            if digest:
                groups[digest].append(name)
        return groups


def _pixels(value: Path | bytes) -> str | None:
    """A digest of a picture's pixels; None of what is no picture."""
    try:
        return pixels_digest(value)
    except RowError:
        return None


def _key(parts: Sequence[Part]) -> Key:
    media = tuple(str(part.value) for part in parts if part.type != WORDS)
    return media or " ".join(str(part.value) for part in parts).strip()
