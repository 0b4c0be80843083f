"""Which item shows what another program showed: the same file, the same medium whole, or the same words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from plait import registry
from plait.annotate.items import asked_parts, sample_of
from plait.annotate.store import Item
from plait.contract import WORDS, Part
from plait.data.importers.core.media import embedded
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.errors import ConfigError, RowError

Key = str | tuple[str, ...]  # words, or names of files relative to the folder


class Shown:
    """Items by what they show. `folder`: where their media are."""

    def __init__(self, items: Mapping[str, Item], folder: Path) -> None:
        self.folder, self.source = folder, Source(folder)
        self.modalities = registry.build_all(registry.available())
        self._items: dict[Key, str] = {}
        self._media: dict[str, str] = {}  # modality by name
        self._several: set[Key] = set()
        for id, item in items.items():
            parts = asked_parts(sample_of(item, folder, self.modalities))
            media = [Part(part.type, self._name(Path(part.value))) for part in parts if part.type != WORDS]
            self._media |= {str(part.value): part.type for part in media}
            key = _key([*media, *(part for part in parts if part.type == WORDS)])
            if key in self._items:
                self._several.add(key)
            self._items[key] = id

    def item(self, shown: Sequence[Part]) -> str | None:
        """The item that shows these parts; media are named, or whole as data addresses. None for words that none shows. Raises EntryError
        for a medium that is not in the folder, ConfigError where several items show them."""
        key = self._found(shown)
        if key in self._several:
            raise ConfigError(f"{key!r:.60} is shown by several items; expected one")
        return self._items.get(key)

    def add(self, id: str, shown: Sequence[Part]) -> str:
        """Take note of a new item; returns its id."""
        self._items[self._found(shown)] = id
        return id

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder.absolute() if path.is_absolute() else self.folder).as_posix()

    def _found(self, shown: Sequence[Part]) -> Key:
        return _key([part if part.type == WORDS else Part(part.type, self._file(part)) for part in shown])

    def _file(self, part: Part) -> str:
        """The name of the file that a part names or holds. Raises EntryError."""
        blob = embedded(part.value, part.type)
        if blob is None:
            return self._name(self.source.find(part.value, self.folder))
        digest = hashlib.sha256(blob.data).hexdigest()
        if digest not in self._by_bytes:
            digest = self._content(Part(part.type, blob.data)) or ""
        name = self._by_bytes.get(digest) or self._by_content.get(digest)
        if name is None:
            what = f"{part.type} of {len(blob.data):,} bytes"
            raise EntryError("it is like none in the folder", "one with the same bytes, or the same content", what)
        return name

    @cached_property
    def _by_bytes(self) -> dict[str, str]:
        return {
            hashlib.sha256((self.folder / name).read_bytes()).hexdigest(): name
            for name in self._media
            if (self.folder / name).is_file()
        }

    @cached_property
    def _by_content(self) -> dict[str, str]:
        """Names by what is read, which is the same for a picture that another program wrote anew as PNG."""
        contents = {name: self._content(Part(kind, self.folder / name)) for name, kind in self._media.items()}
        return {digest: name for name, digest in contents.items() if digest}

    def _content(self, part: Part) -> str | None:
        """A digest of what the modality reads; None where it reads nothing, or must learn from data first."""
        try:
            segment = self.modalities[part.type].read(part)
        except RowError:
            return None
        blocks = [(block.header, block.tokens.tobytes()) for block in segment.blocks]
        return hashlib.sha256(repr(blocks).encode()).hexdigest()


def _key(parts: Sequence[Part]) -> Key:
    media = tuple(str(part.value) for part in parts if part.type != WORDS)
    return media or " ".join(str(part.value) for part in parts).strip()
