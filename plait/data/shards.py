"""Rows in WebDataset shards: a tar is a folder of rows and media, in groups that are read, and held out, together.

    train-00000.tar
        000000.jsonl          rows of a group, one JSON object a line, as plait.data.rows has them
        000000.0.png          the media they name, each once, however many rows ask about it
        000000.1.flac
    train.index/              where every row and medium lies: made beside the shards, and made anew where it is missing

Unpacked, a shard is the documented row format; for WebDataset's own readers a sample is a group. Any row can be read
alone, so training draws rows in any order, resumes in the middle of a shard, and holds nothing of them in memory
but the index, which the system maps and drops as it likes (40 bytes a row, 28 a medium).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from plait.contract import Modality, Part, Sample
from plait.data.media import Member, encoded
from plait.data.rows import dump_row, parse_line, row_id
from plait.errors import DataError, RowError
from plait.runtime.files import atomic_write, sha256_of

FORMAT = 2  # of the index
SHARD_BYTES = 256 * 2**20
ROW = np.dtype([("shard", "u4"), ("task", "u4"), ("group", "u8"), ("offset", "u8"), ("length", "u8"), ("id", "u8")])
MEDIUM = np.dtype([("name", "u8"), ("shard", "u4"), ("offset", "u8"), ("size", "u8")])
FACTS, ROWS, MEDIA = "shards.json", "rows.npy", "media.npy"


class ShardWriter:
    """Writes groups of rows to `folder/SPLIT-NNNNN.tar`, and the index at the end. Use as a context: a shard has its name
    only when it is whole."""

    def __init__(self, folder: Path, split: str, known: Mapping[str, Modality], shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.split, self.known, self.shard_bytes = folder, split, known, shard_bytes
        self.groups = self.shards = 0
        self._tar: tarfile.TarFile | None = None
        self._place = Path()

    def __enter__(self) -> ShardWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in (*shards_of(self.folder, self.split), *self.folder.glob(f"{self.split}-*.tar.partial")):
            old.unlink()
        shutil.rmtree(index_of(self.folder, self.split), ignore_errors=True)
        return self

    def add(self, samples: Sequence[Sample]) -> None:
        """One group: its rows, whose media are files, bytes, pictures or (samples, rate); equal media are stored once."""
        names: dict[Any, str] = {}
        stored: dict[bytes, str] = {}
        lines = []
        for sample in samples:
            messages = []
            for message in sample.messages:
                parts = (self._stored(part, names, stored) for part in message.parts)
                messages.append(replace(message, parts=tuple(parts)))
            lines.append(dump_row(replace(sample, messages=tuple(messages))))
        self._write(f"{self.groups:08d}.jsonl", ("\n".join(lines) + "\n").encode())
        self.groups += 1
        if self._tar is not None and self._tar.offset >= self.shard_bytes:
            self._close()

    def _stored(self, part: Part, names: dict[Any, str], stored: dict[bytes, str]) -> Part:
        if self.known[part.type].head != "flow":
            return part
        key = part.value if isinstance(part.value, str | Path) else id(part.value)  # alive as long as its rows are
        if key not in names:
            blob = encoded(part.value)
            digest = hashlib.blake2b(blob.data, digest_size=16).digest()
            if digest not in stored:
                stored[digest] = f"{self.groups:08d}.{len(stored)}{blob.suffix}"
                self._write(stored[digest], blob.data)
            names[key] = stored[digest]
        return replace(part, value=names[key])

    def _write(self, name: str, data: bytes) -> None:
        if self._tar is None:
            self._place = self.folder / f"{self.split}-{self.shards:05d}.tar"
            self._tar = tarfile.open(f"{self._place}.partial", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            Path(f"{self._place}.partial").rename(self._place)
            self._tar = None
            self.shards += 1

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self._close()
            index(self.folder, self.split)
        elif self._tar is not None:
            self._tar.close()
            Path(f"{self._place}.partial").unlink()


def shards_of(folder: Path, split: str) -> list[Path]:
    """Shards of a split, in order."""
    return sorted(folder.glob(f"{split}-[0-9]*.tar"))


def index_of(folder: Path, split: str) -> Path:
    return folder / f"{split}.index"


def _hash(shard: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{shard}/{name}".encode(), digest_size=8).digest(), "little")


def index(folder: Path, split: str) -> Path:
    """Write where every row and medium of a split's shards lies; returns the index's folder. Raises DataError."""
    rows: list[tuple[int, int, int, int, int, int]] = []
    media: list[tuple[int, int, int, int]] = []
    tasks: dict[str, int] = {}
    facts = []
    paths = shards_of(folder, split)
    if not paths:
        raise DataError(f"{folder} has no {split}-*.tar; expected shards: build the data first, or check the path")
    groups = 0
    for number, path in enumerate(paths):
        for name, offset, data in _members(path, number, media):
            for start, line in _lines(data):
                tasks_name = _task_of(line, f"{path.name}/{name}")
                task = tasks.setdefault(tasks_name, len(tasks))
                rows.append((number, task, groups, offset + start, len(line), int(row_id(line), 16)))
            groups += 1
        facts.append({"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)})
    partial = folder / f"{split}.index.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    np.save(partial / ROWS, np.array(rows, ROW))
    np.save(partial / MEDIA, np.sort(np.array(media, MEDIUM), order="name"))
    held = {"format": FORMAT, "shards": facts, "tasks": list(tasks), "rows": len(rows), "groups": groups}
    atomic_write(partial / FACTS, json.dumps(held, indent=1, ensure_ascii=False))
    place = index_of(folder, split)
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)
    return place


def _members(path: Path, number: int, media: list[tuple[int, int, int, int]]) -> Iterator[tuple[str, int, bytes]]:
    """(name, offset, bytes) of every file of rows in a shard; its other members are added to `media`."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".jsonl"):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield member.name, member.offset_data, file.read()
                elif member.isfile():
                    media.append((_hash(number, member.name), number, member.offset_data, member.size))
                tar.members = []  # type: ignore[attr-defined]  # or it would remember them all
    except tarfile.TarError as error:
        raise DataError(
            f"{path} is no whole tar ({error}); expected a shard of rows: fetch or build it anew"
        ) from error


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    for line in data.splitlines(keepends=True):
        if line.strip():
            yield start, line
        start += len(line)


def _task_of(line: bytes, where: str) -> str:
    try:
        raw = json.loads(line)
        return str(raw.get("task", ""))
    except (ValueError, AttributeError) as error:
        raise RowError(f"{where}: a line is not a JSON object ({error}); expected one row a line") from error


def _facts(place: Path) -> dict[str, Any]:
    """What an index says of its shards; nothing where there is none."""
    path = place / FACTS
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return facts


class ShardRows(Mapping[str, Sequence[Sample]]):
    """Rows of a split's shards by task, each read from the disk when it is asked for, without those whose ids are in `skip`.

    Raises DataError where the shards are not those that the index was made of.
    """

    def __init__(self, folder: Path, split: str, known: Mapping[str, Modality], skip: Collection[str] = ()) -> None:
        place = index_of(folder, split)
        facts = _facts(place)
        if facts.get("format") != FORMAT:  # none, or of another version
            facts = _facts(index(folder, split))
        self.known = known
        self.paths = [folder / shard["name"] for shard in facts["shards"]]
        for path, shard in zip(self.paths, facts["shards"], strict=True):
            size = path.stat().st_size if path.is_file() else 0
            if size != shard["bytes"]:
                raise DataError(
                    f"{path} has {size} bytes; {place} was made of one of {shard['bytes']}: fetch or build the shards "
                    f"anew, or remove {place} if they were changed on purpose"
                )
        self.tasks: list[str] = facts["tasks"]
        self.rows = np.load(place / ROWS, mmap_mode="r")
        self.media = np.load(place / MEDIA, mmap_mode="r")
        order = np.argsort(self.rows["task"], kind="stable").astype(np.uint32)
        left_out = np.fromiter((int(name, 16) for name in skip), np.uint64)
        order = order[~np.isin(self.rows["id"][order], left_out)] if len(left_out) else order
        ends = np.searchsorted(self.rows["task"][order], np.arange(len(self.tasks) + 1))
        self.numbers = {task: order[ends[i] : ends[i + 1]] for i, task in enumerate(self.tasks)}

    def __getitem__(self, task: str) -> TaskRows:
        return TaskRows(self, self.numbers[task])

    def __iter__(self) -> Iterator[str]:
        return (task for task in self.tasks if len(self.numbers[task]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def id_of(self, number: int) -> str:
        """The id of row `number` of the split (from 0)."""
        return f"{int(self.rows['id'][number]):016x}"

    def row(self, number: int) -> Sample:
        """Row `number` of the split (from 0). Raises RowError for a bad one."""
        row = self.rows[number]
        shard = int(row["shard"])
        with self.paths[shard].open("rb") as file:
            file.seek(int(row["offset"]))
            line = file.read(int(row["length"]))
        sample = parse_line(line, self.paths[shard] / self.paths[shard].name, number + 1, self.known)
        messages = [
            replace(message, parts=tuple(self._found(part, shard, sample.where) for part in message.parts))
            for message in sample.messages
        ]
        return replace(sample, messages=tuple(messages))

    def _found(self, part: Part, shard: int, where: str) -> Part:
        """The part with its medium as a Member."""
        if self.known[part.type].head != "flow":
            return part
        path = str(self.paths[shard])
        name = str(part.value)[len(str(self.paths[shard].absolute())) + 1 :]
        wanted = np.uint64(_hash(shard, name))
        at = int(np.searchsorted(self.media["name"], wanted))
        if at == len(self.media) or self.media["name"][at] != wanted:
            raise RowError(f"{where}: {path} holds no {name}; expected the medium beside its rows: pack the shard anew")
        found = self.media[at]
        return replace(part, value=Member(path, name, int(found["offset"]), int(found["size"])))


class TaskRows(Sequence[Sample]):
    """Rows of one task."""

    def __init__(self, rows: ShardRows, numbers: np.ndarray) -> None:
        self.rows, self.numbers = rows, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(place, slice):
            return TaskRows(self.rows, self.numbers[place])
        return self.rows.row(int(self.numbers[place]))
