"""Rows in WebDataset shards. A shard is a tar of groups: rows and their media, read and held out together.

    train-00000.tar
        000000.jsonl          rows of a group, one JSON object a line (plait.data.rows)
        000000.0.png          the media they name, each stored once
        000000.1.flac
    train.index/              offsets of all rows and media; rebuilt where it is missing

Unpacked, a shard is the documented row format; for WebDataset's own readers a sample is a group. Any row can be read
alone, so training draws rows in any order and resumes in the middle of a shard. Only the index is mapped into memory;
`ROW` and `MEDIUM` are its records.
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
from plait.data.media import Member, to_blob
from plait.data.rows import dump_row, parse_line, row_id, with_parts
from plait.errors import DataError, RowError
from plait.runtime.files import atomic_write, sha256_of

FORMAT = 2  # of the index
SHARD_BYTES = 256 * 2**20
ROW = np.dtype([("shard", "u4"), ("task", "u4"), ("group", "u8"), ("offset", "u8"), ("length", "u8"), ("id", "u8")])
MEDIUM = np.dtype([("name", "u8"), ("shard", "u4"), ("offset", "u8"), ("size", "u8")])
FACTS, ROWS, MEDIA = "shards.json", "rows.npy", "media.npy"


class ShardWriter:
    """Context manager that writes groups of rows to `folder/SPLIT-NNNNN.tar`, replacing earlier shards of the split, and
    the index at the end. A shard gets its name once it is complete."""

    def __init__(
        self, folder: Path, split: str, modalities: Mapping[str, Modality], shard_bytes: int = SHARD_BYTES
    ) -> None:
        self.folder, self.split, self.modalities, self.shard_bytes = folder, split, modalities, shard_bytes
        self.groups = self.shards = 0
        self._tar: tarfile.TarFile | None = None
        self._path = Path()

    def __enter__(self) -> ShardWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in (*shards_of(self.folder, self.split), *self.folder.glob(f"{self.split}-*.tar.partial")):
            old.unlink()
        shutil.rmtree(index_of(self.folder, self.split), ignore_errors=True)
        return self

    def add(self, samples: Sequence[Sample]) -> None:
        """Write one group of rows; their media are paths, blobs, pictures or (samples, rate). Stores equal media once."""
        names_by_source: dict[Any, str] = {}
        names_by_digest: dict[bytes, str] = {}
        lines = []
        for sample in samples:
            stored = with_parts(sample, lambda part: self._store(part, names_by_source, names_by_digest))
            lines.append(dump_row(stored))
        self._write(f"{self.groups:08d}.jsonl", ("\n".join(lines) + "\n").encode())
        self.groups += 1
        if self._tar is not None and self._tar.offset >= self.shard_bytes:
            self._close()

    def _store(self, part: Part, names_by_source: dict[Any, str], names_by_digest: dict[bytes, str]) -> Part:
        """Write the medium of a part, unless the group has it; returns the part with the medium's name as its value."""
        if self.modalities[part.type].head != "flow":
            return part
        key = (
            part.value if isinstance(part.value, str | Path) else id(part.value)
        )  # the rows keep the object alive, so its id stays unique
        if key not in names_by_source:
            blob = to_blob(part.value)
            digest = hashlib.blake2b(blob.data, digest_size=16).digest()
            if digest not in names_by_digest:
                names_by_digest[digest] = f"{self.groups:08d}.{len(names_by_digest)}{blob.suffix}"
                self._write(names_by_digest[digest], blob.data)
            names_by_source[key] = names_by_digest[digest]
        return replace(part, value=names_by_source[key])

    def _write(self, name: str, data: bytes) -> None:
        if self._tar is None:
            self._path = self.folder / f"{self.split}-{self.shards:05d}.tar"
            self._tar = tarfile.open(f"{self._path}.partial", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            Path(f"{self._path}.partial").rename(self._path)
            self._tar = None
            self.shards += 1

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self._close()
            index(self.folder, self.split)
        elif self._tar is not None:
            self._tar.close()
            Path(f"{self._path}.partial").unlink()


def shards_of(folder: Path, split: str) -> list[Path]:
    """Shards of a split, in order."""
    return sorted(folder.glob(f"{split}-[0-9]*.tar"))


def index_of(folder: Path, split: str) -> Path:
    """Folder of a split's index, which may not exist."""
    return folder / f"{split}.index"


def _hash(shard: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{shard}/{name}".encode(), digest_size=8).digest(), "little")


def index(folder: Path, split: str) -> Path:
    """Write the index of a split's shards; returns its folder. Raises DataError for missing or damaged shards, RowError for
    a line that is no JSON object."""
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
                task = tasks.setdefault(_task_of(line, f"{path.name}/{name}"), len(tasks))
                rows.append((number, task, groups, offset + start, len(line), int(row_id(line), 16)))
            groups += 1
        facts.append({"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)})
    partial = folder / f"{split}.index.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    np.save(partial / ROWS, np.array(rows, ROW))
    np.save(partial / MEDIA, np.sort(np.array(media, MEDIUM), order="name"))
    contents = {"format": FORMAT, "shards": facts, "tasks": list(tasks), "rows": len(rows), "groups": groups}
    atomic_write(partial / FACTS, json.dumps(contents, indent=1, ensure_ascii=False))
    final = index_of(folder, split)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final


def _members(path: Path, number: int, media: list[tuple[int, int, int, int]]) -> Iterator[tuple[str, int, bytes]]:
    """Yield (name, offset, bytes) of every file of rows in a shard; appends its other members to `media`."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".jsonl"):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield member.name, member.offset_data, file.read()
                elif member.isfile():
                    media.append((_hash(number, member.name), number, member.offset_data, member.size))
                tar.members = []  # type: ignore[attr-defined]  # or tarfile holds all of them in memory
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


def _read_facts(index_folder: Path) -> dict[str, Any]:
    """The FACTS of an index; empty where there is none."""
    path = index_folder / FACTS
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return facts


class ShardRows(Mapping[str, Sequence[Sample]]):
    """Rows of a split's shards by task, without those whose ids are in `skip`; reads each row from disk on access.

    Raises DataError where the sizes of the shards differ from those in the index.
    """

    def __init__(
        self, folder: Path, split: str, modalities: Mapping[str, Modality], skip: Collection[str] = ()
    ) -> None:
        index_folder = index_of(folder, split)
        facts = _read_facts(index_folder)
        if facts.get("format") != FORMAT:  # missing, or of another version
            facts = _read_facts(index(folder, split))
        self.modalities = modalities
        self.paths = [folder / shard["name"] for shard in facts["shards"]]
        for path, shard in zip(self.paths, facts["shards"], strict=True):
            size = path.stat().st_size if path.is_file() else 0
            if size != shard["bytes"]:
                raise DataError(
                    f"{path} has {size} bytes; {index_folder} was made of one of {shard['bytes']}: fetch or build the shards "
                    f"anew, or remove {index_folder} if they were changed on purpose"
                )
        self.tasks: list[str] = facts["tasks"]
        self.rows = np.load(index_folder / ROWS, mmap_mode="r")
        self.media = np.load(index_folder / MEDIA, mmap_mode="r")
        order = np.argsort(self.rows["task"], kind="stable").astype(np.uint32)
        skipped_ids = np.fromiter((int(name, 16) for name in skip), np.uint64)
        order = order[~np.isin(self.rows["id"][order], skipped_ids)] if len(skipped_ids) else order
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
        sample = parse_line(line, self.paths[shard] / self.paths[shard].name, number + 1, self.modalities)
        return with_parts(sample, lambda part: self._with_member(part, shard, sample.where))

    def _with_member(self, part: Part, shard: int, where: str) -> Part:
        """The part with its medium as a `Member`. Raises RowError where the shard lacks it."""
        if self.modalities[part.type].head != "flow":
            return part
        path = str(self.paths[shard])
        name = str(part.value)[len(str(self.paths[shard].absolute())) + 1 :]
        name_hash = np.uint64(_hash(shard, name))
        position = int(np.searchsorted(self.media["name"], name_hash))
        if position == len(self.media) or self.media["name"][position] != name_hash:
            raise RowError(f"{where}: {path} holds no {name}; expected the medium beside its rows: pack the shard anew")
        medium = self.media[position]
        return replace(part, value=Member(path, name, int(medium["offset"]), int(medium["size"])))


class TaskRows(Sequence[Sample]):
    """Rows of one task, read from disk on access."""

    def __init__(self, rows: ShardRows, numbers: np.ndarray) -> None:
        self.rows, self.numbers = rows, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, position: int) -> Sample: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Sample]: ...
    def __getitem__(self, position: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(position, slice):
            return TaskRows(self.rows, self.numbers[position])
        return self.rows.row(int(self.numbers[position]))
