"""Rows and media of a new data folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from plait.contract import Part
from plait.data.importers.core.records import Record
from plait.data.media import to_blob
from plait.data.rows import dump_row, with_parts
from plait.errors import ConfigError
from plait.runtime.files import atomic_write

NOTE = "import.json"
HELD_OUT = {"test": 0.1, "dev": 0.05}  # shares of the groups, where the source gives no splits


class Writer:
    """Rows and media of a new data folder. Use as a context; nothing is a data folder before all is written.

    Raises ConfigError for a folder that is in use or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._writing():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ConfigError(
                    f"{folder} is not empty; expected a new folder for the imported rows: choose another --to"
                )
            nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
                raise ConfigError(
                    f"{folder} cannot be made in {nearest}; expected a folder that may be written: choose another --to"
                )
        self.counts: Counter[str] = Counter()
        self._files: dict[str, IO[str]] = {}
        self._splits_given = False  # by a record

    def __enter__(self) -> Writer:
        self._new = not self.folder.exists()
        with self._writing():
            (self.folder / "media").mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        with suppress(OSError):  # a full disk, which `finish` says
            for file in self._files.values():
                file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"{self.folder} cannot be written ({error.strerror or error}); expected a new folder with room for the rows: "
                "choose another --to"
            ) from error

    def add(self, record: Record) -> None:
        """Write one row, its media first. Raises OSError for media that cannot be read."""
        sample = with_parts(record.sample, self._stored)
        group = record.group or next((str(p.value) for m in sample.messages for p in m.parts if p.type != "text"), "")
        split = record.split or (by_content(group) if group else "train")  # words are split by whoever trains on them
        self._splits_given |= bool(record.split)
        with self._writing():
            if split not in self._files:
                self._files[split] = self._partial(split).open("w", encoding="utf-8")
            self._files[split].write(dump_row(sample) + "\n")
        self.counts[split] += 1

    def finish(self) -> dict[str, int]:
        """Give the files their names; returns rows by split."""
        with self._writing():
            for file in self._files.values():
                file.close()
            if not self._splits_given and "train" not in self.counts:
                self._train_on_all()
            for split in self.counts:
                self._partial(split).rename(self.folder / f"{split}.jsonl")
        return dict(self.counts)

    def _train_on_all(self) -> None:
        """Make one training split of the others: a few rows may all have fallen to what is held out."""
        if self.counts:
            rows = b"".join(self._partial(split).read_bytes() for split in self.counts)
            self._partial("train").write_bytes(rows)
            for split in self.counts:
                self._partial(split).unlink()
            self.counts = Counter(train=sum(self.counts.values()))

    def _partial(self, split: str) -> Path:
        return self.folder / f"{split}.jsonl.partial"

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write `import.json`: where the rows come from."""
        with self._writing():
            atomic_write(self.folder / NOTE, json.dumps(facts, indent=1))

    def discard(self) -> None:
        """Remove what was written, so that no half of a data set is taken for a whole one."""
        self._close()
        shutil.rmtree(self.folder / "media", ignore_errors=True)
        for path in self.folder.glob("*.jsonl*"):
            path.unlink()
        if self._new:
            with suppress(OSError):
                self.folder.rmdir()

    def _stored(self, part: Part) -> Part:
        """The part with its medium in `media/`, named by content; text as it is."""
        if part.type == "text":
            return part
        blob = to_blob(part.value)
        name = f"media/{hashlib.sha256(blob.data).hexdigest()[:24]}{blob.suffix}"
        path = self.folder / name
        with self._writing():
            if not path.is_file():
                path.write_bytes(blob.data)
        return replace(part, value=name)


def by_content(group: str) -> str:
    """A split for a group, by its hash: the same group always lands in the same one."""
    digest = hashlib.blake2b(group.encode("utf-8", "replace"), digest_size=8).digest()
    share = int.from_bytes(digest, "little") / 2**64
    end = 0.0
    for split, width in HELD_OUT.items():
        end += width
        if share < end:
            return split
    return "train"
