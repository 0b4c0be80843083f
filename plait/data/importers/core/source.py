"""What is to be imported: its files, its lists, and the account of what became of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from plait.contract import Part
from plait.data.importers.core.lists import COLUMN_ENDINGS, JSON_ENDINGS, Table, load_json, open_table, text_of
from plait.data.importers.core.media import KINDS, embedded, kind_of
from plait.data.importers.core.records import split_of
from plait.data.importers.core.report import EntryError, Report
from plait.data.importers.core.search import FileIndex
from plait.data.importers.core.walk import walk
from plait.errors import DataError

MOST_AROUND = 200_000  # files around a list that stands for itself
ENDINGS_SAID = 8


class Source:
    """A file or folder to import. `report` is the account of it."""

    def __init__(self, path: Path, report: Report | None = None) -> None:
        self.path = Path(os.path.normpath(path))
        self.report = report or Report()
        self.passed: Counter[str] = Counter()  # by the walk, by reason
        self._used: set[Path] = set()
        self._json: dict[Path, object] = {}
        self._tables: dict[tuple[Path, bool], Table | None] = {}

    @cached_property
    def root(self) -> Path:
        """The folder that names in its lists belong to."""
        if self.path.is_dir():
            return self.path
        return self.path.parent.parent if self.path.parent.name == "annotations" else self.path.parent

    @cached_property
    def files(self) -> list[Path]:
        """Its files in order: all of a folder's, what other programs left behind excepted."""
        return walk(self.path, self.passed) if self.path.is_dir() else [self.path]

    @cached_property
    def media(self) -> list[tuple[Path, str]]:
        """Its pictures and clips, each with its modality."""
        return [(path, kind) for path in self.files if (kind := kind_of(path))]

    @cached_property
    def _index(self) -> FileIndex:
        return FileIndex(self.root, self.files if self.path.is_dir() else walk(self.root, Counter(), MOST_AROUND))

    @cached_property
    def _by_stem(self) -> dict[tuple[Path, str], list[Path]]:
        table: dict[tuple[Path, str], list[Path]] = {}
        for path in self.files:
            table.setdefault((path.parent, path.stem), []).append(path)
        return table

    def label(self, path: Path) -> str:
        """How a file of it is called in what is said."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def split(self, path: Path) -> str:
        """The split that a folder of it is named for, between it and a file."""
        return split_of(path, self.root)

    def ending(self, *endings: str) -> list[Path]:
        """Its files with one of some endings (lower case)."""
        return [path for path in self.files if path.name.lower().endswith(endings)]

    def beside(self, path: Path, endings: Iterable[str]) -> Path | None:
        """The file of the same name beside one, with the first of some endings that is there."""
        names = (path.name, path.stem)  # a.png.txt, and before it a.txt
        files = {other.suffix.lower(): other for name in names for other in self._by_stem.get((path.parent, name), ())}
        return next((files[ending] for ending in endings if ending in files), None)

    def use(self, *paths: Path) -> None:
        """Take note of files that are read, or named by a list."""
        self._used.update(paths)

    def text(self, path: Path) -> str:
        """A text file. Raises EntryError."""
        self.use(path)
        return text_of(path)

    def json(self, path: Path) -> object:
        """What a JSON file holds, read once. Raises DataError."""
        if path not in self._json:
            self._json[path] = load_json(path, self.label(path))
        return self._json[path]

    def table(self, path: Path, quoted: bool = True) -> Table | None:
        """The list in a file, if it is one. Raises DataError for one that is broken."""
        if (path, quoted) not in self._tables:
            self._tables[path, quoted] = open_table(path, self.label(path), self.json, quoted)
        return self._tables[path, quoted]

    def list_files(self, *endings: str) -> list[Path]:
        """Its files that may be lists: not those of one medium, which have its name, nor texts that lie deeper."""
        return [
            path
            for path in self.ending(*(endings or (*JSON_ENDINGS, *COLUMN_ENDINGS)))
            if not any(kind_of(other) for other in self._by_stem[path.parent, path.stem])
            and (path.suffix.lower() != ".txt" or path.parent == self.root or path == self.path)
        ]

    def tables(self, *endings: str) -> Iterator[Table]:
        """Lists among its files; those that are broken are left to whoever reads them in earnest."""
        for path in self.list_files(*endings):
            try:
                table = self.table(path)
            except DataError:
                if path == self.path:
                    raise
                continue
            if table is not None:
                yield table

    def find(self, name: str, near: Path, split: str = "") -> Path:
        """The medium that a list in the folder `near` calls `name`. Raises EntryError."""
        path = self._index.find(name, near, split)
        self.use(path)
        return path

    def has(self, name: object, near: Path) -> bool:
        """Whether a value names a medium of it."""
        if not isinstance(name, str) or not name.strip() or len(name) > 1000:
            return False
        try:
            self._index.find(name, near, claim=False)
        except EntryError as error:
            return error.reason.startswith("several")
        return True

    def part(self, value: object, near: Path, kind: str = "", split: str = "") -> Part:
        """The medium that a value of a list names or holds. Raises EntryError."""
        blob = embedded(value, kind or KINDS[0])
        if blob is not None:
            return Part(kind or kind_of(Path(f"x{blob.suffix}")) or KINDS[0], blob)
        name = value.get("path", value.get("url")) if isinstance(value, dict) else value
        if not isinstance(name, str) or not name.strip():
            raise EntryError("it names no file", "the name of a picture or clip", f"{value!r:.60}")
        path = self.find(name, near, split)
        return Part(kind_of(path) or kind, path)

    def account(self) -> None:
        """Count in the report what the walk passed over, and files that nothing read or named."""
        for reason, count in self.passed.items():
            self.report.leave(reason, count=count)
        if not self.path.is_dir():
            return
        unused = [path for path in self.files if path not in self._used]
        for path in unused:
            kind = kind_of(path)
            if kind:
                self.report.leave(f"{kind} files that nothing names or describes", self.label(path))
        endings = Counter(path.suffix.lower() or path.name for path in unused if not kind_of(path))
        for ending, count in endings.most_common(ENDINGS_SAID):
            self.report.leave(ending, count=count)

    def seen(self) -> str:
        """What is there, in a few words."""
        if not self.path.is_dir():
            return f"a file {self.path.suffix.lower() or self.path.name}"
        endings = Counter(path.suffix.lower() or path.name for path in self.files)
        files = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(ENDINGS_SAID))
        passed = ", ".join(f"{count} {reason}" for reason, count in self.passed.items())
        return f"{files or 'no files'}{f' ({passed})' if passed else ''}"
