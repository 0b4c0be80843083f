"""Every row checked before the first step, so that a bad one never ends a run: what can be said of it is said here.

A row is bad when it breaks the row format, when a medium cannot be decoded whole, or when there is nothing in it to
learn. Bad rows are named by file and line, left out, and never silently. Memory stays flat: what is kept of a row is
eight bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from plait.contract import Modality, Part, Sample
from plait.data.media import Member, check
from plait.data.rows import parse_line
from plait.data.shards import ShardRows, shards_of
from plait.errors import ConfigError, DataError, PlaitError, RowError
from plait.threads import pool

LONGEST_LINE = 16 * 2**20  # bytes
LARGEST_FILE = 2**30  # bytes of one medium
AHEAD = 256  # rows whose media are being decoded while an earlier one is waited for
TOGETHER = 16  # media a job: handing over a small one alone takes half as long as decoding it
Problem = Callable[[], str]  # waits for a medium to be decoded; what is wrong with it, if anything
Decode = Callable[[str, "str | Member", str], Problem]  # (modality, medium or text, options as JSON)


@dataclass(frozen=True)
class BadRow:
    """One row that is left out, and why: what was got, what was expected, how to mend it."""

    file: str
    line: int
    problem: str


@dataclass
class Checked:
    """What a pass over one file found. `bad_lines` are line numbers from 1, ascending; `keys` one 64-bit hash a good row, sorted at the end."""

    path: Path
    rows: int = 0
    bad_lines: array[int] = field(default_factory=lambda: array("q"))
    duplicates: int = 0
    keys: array[int] = field(default_factory=lambda: array("Q"))
    seconds: float = 0.0

    @property
    def good(self) -> int:
        return self.rows - len(self.bad_lines)

    def __str__(self) -> str:
        rate = self.rows / max(self.seconds, 1e-9)
        return (
            f"{self.rows} rows checked in {self.seconds:.1f} s ({rate:.0f} a second): {self.good} good, "
            f"{len(self.bad_lines)} bad, {self.duplicates} said before"
        )


def list_bad_rows(
    paths: Sequence[Path], known: Mapping[str, Modality], listed: Path, tell: Callable[[BadRow], Any] = lambda bad: None
) -> list[Checked]:
    """`check_file` of each, with the bad rows written to `listed`, a JSON object a line, which has its name once it is whole."""
    unfinished = listed.with_name(listed.name + ".partial")
    if listed.is_dir() or not listed.parent.is_dir():
        raise ConfigError(f"{listed} cannot be written; expected the name of a file in a folder that is there")
    with unfinished.open("w", encoding="utf-8") as file:

        def note(bad: BadRow) -> None:
            file.write(json.dumps(asdict(bad), ensure_ascii=False) + "\n")
            tell(bad)

        found = [check_file(path, known, note) for path in paths]
    unfinished.rename(listed)
    return found


def check_file(path: Path, known: Mapping[str, Modality], tell: Callable[[BadRow], Any]) -> Checked:
    """Check every row of a JSONL file (of a split's shards, where FOLDER/SPLIT.jsonl is none); `tell` hears of each bad one as it is found. Raises DataError for a missing file."""
    begin = time.perf_counter()

    root = os.path.realpath(path.parent)
    real_folder = lru_cache(1000)(os.path.realpath)  # once a folder: following links for every file would be slow

    def problem(kind: str, value: str | Member, options: str) -> str:
        try:
            if known[kind].head == "flow" and not isinstance(value, Member):
                _check_path(value, root, real_folder)
            check(known[kind], Part(kind, value, json.loads(options)))
        except PlaitError as error:
            return str(error)
        except (Exception, MemoryError) as error:  # a decoder may raise anything for a damaged file
            return f"{kind} {value!r} cannot be decoded: {error!r}; expected a whole file: save it anew"
        return ""

    found = Checked(path)
    with pool(torch.get_num_threads()) as executor:
        batch = Batch(executor, problem)

        @lru_cache(100_000)  # a medium that many rows name; only its name is kept, and what is wrong with it
        def decode_medium(kind: str, value: str | Member, options: str) -> Problem:
            nonlocal batch
            if batch.begun or len(batch.media) == TOGETHER:
                batch.begin()
                batch = Batch(executor, problem)
            return batch.add(kind, value, options)

        def decode(kind: str, value: str | Member, options: str) -> Problem:
            if known[kind].head == "flow":
                return decode_medium(kind, value, options)
            said = problem(kind, value, options)
            return lambda: said

        for number, checked in _ahead(_checks(path, known, decode)):
            found.rows += 1
            if isinstance(checked, RowError):
                found.bad_lines.append(number)
                tell(BadRow(path.name, number, str(checked)))
            else:
                found.keys.append(key(checked))
    keys = np.frombuffer(found.keys, np.uint64)
    keys.sort()  # in place: a million rows are eight megabytes, and np.unique would take five times that
    found.duplicates = int(np.count_nonzero(keys[1:] == keys[:-1]))
    found.seconds = time.perf_counter() - begin
    return found


class Batch:
    """Media that one job decodes, one after the other."""

    def __init__(self, executor: Executor, problem: Callable[[str, str | Member, str], str]) -> None:
        self.executor, self.problem = executor, problem
        self.media: list[tuple[str, str | Member, str]] = []
        self.job: Future[list[str]] | None = None

    @property
    def begun(self) -> bool:
        return self.job is not None

    def add(self, kind: str, value: str | Member, options: str) -> Awaited:
        self.media.append((kind, value, options))
        return Awaited(self, len(self.media) - 1)

    def begin(self) -> Future[list[str]]:
        if self.job is None:
            self.job = self.executor.submit(lambda: [self.problem(*medium) for medium in self.media])
        return self.job


class Awaited:
    """What is wrong with one medium of a batch, once that is known; the batch is then forgotten."""

    __slots__ = ("batch", "place", "said")

    def __init__(self, batch: Batch, place: int) -> None:
        self.batch: Batch | None = batch
        self.place = place
        self.said = ""

    def __call__(self) -> str:
        if self.batch is not None:
            self.said, self.batch = self.batch.begin().result()[self.place], None
        return self.said


class Begun:
    """A row whose media are being decoded."""

    def __init__(self, sample: Sample, parts: list[tuple[str, Problem]]) -> None:
        self.sample, self.parts = sample, parts

    def finished(self) -> Sample:
        """The row, once all of it is decoded. Raises RowError naming where the first part stands that is not sound."""
        for where, problem in self.parts:
            if said := problem():
                raise RowError(f"{where}: {said}")
        return self.sample


def _ahead(checks: Iterator[tuple[int, Callable[[], Begun]]]) -> Iterator[tuple[int, Sample | RowError]]:
    """Rows in their order, while the media of up to AHEAD later ones are being decoded."""
    begun: deque[tuple[int, Begun | RowError]] = deque()
    for number, begin in checks:
        try:
            begun.append((number, begin()))
        except RowError as error:
            begun.append((number, error))
        if len(begun) > AHEAD:
            yield _finished(*begun.popleft())
    while begun:
        yield _finished(*begun.popleft())


def _finished(number: int, row: Begun | RowError) -> tuple[int, Sample | RowError]:
    if isinstance(row, RowError):
        return number, row
    try:
        return number, row.finished()
    except RowError as error:
        return number, error


def _checks(path: Path, known: Mapping[str, Modality], decode: Decode) -> Iterator[tuple[int, Callable[[], Begun]]]:
    """(number, check of that row) of every row of a file, or, where it is not there and shards are, of those."""
    if not path.is_file() and shards_of(path.parent, path.stem):
        rows = ShardRows(path.parent, path.stem, known)
        for number in range(len(rows.rows)):
            yield number + 1, partial(check_row, rows, number, known, decode)
        return
    for number, line in _lines(path):
        yield number, partial(check_line, line, path, number, known, decode)


def check_row(rows: ShardRows, number: int, known: Mapping[str, Modality], decode: Decode) -> Begun:
    """Row `number` (from 0) of shards. Raises RowError naming shard and row."""
    sample = rows.row(number)
    return check_parts(sample, sample.where, known, decode)


def _lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """(number, bytes) of every line that is not blank; None for one that is too long to hold."""
    if not path.is_file():
        raise DataError(f"{path} is not a file; expected JSONL rows: build the data first, or check the path")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if not line.endswith(b"\n") and len(line) == LONGEST_LINE:
                _skip_line(file)
                yield number, None
            elif line.strip():
                yield number, line


def _skip_line(file: BinaryIO) -> None:
    while (piece := file.readline(LONGEST_LINE)) and not piece.endswith(b"\n"):
        pass


def check_line(line: bytes | None, path: Path, number: int, known: Mapping[str, Modality], decode: Decode) -> Begun:
    """The row of a line. Raises RowError naming file and line."""
    where = f"{path.name}:{number}"
    if line is None:
        raise RowError(f"{where}: a line of more than {LONGEST_LINE} bytes; expected one row a line: split it")
    return check_parts(parse_line(line, path, number, known), where, known, decode)


def check_parts(sample: Sample, where: str, known: Mapping[str, Modality], decode: Decode) -> Begun:
    """Begin to check every part, and see that somebody answers. Raises RowError naming `where`."""
    parts = []
    for place, message in enumerate(sample.messages):
        here = f"{where}, message {place}"
        parts += [(here, check_part(part, here, known, decode)) for part in message.parts]
    if all(message.role not in (None, "assistant") for message in sample.messages):
        raise RowError(f"{where}: nobody answers; expected an assistant's message, or 'content' for a document")
    return Begun(sample, parts)


def check_part(part: Part, where: str, known: Mapping[str, Modality], decode: Decode) -> Problem:
    """Begin to decode a part whole. Raises RowError naming `where`."""
    if known[part.type].head == "flow":
        if not isinstance(part.value, str | Member):
            raise RowError(f"{where}: got {part.value!r}; expected the path of a file, relative to that of the rows")
    elif not isinstance(part.value, str) or not part.value:
        raise RowError(f"{where}: {part.type} is {part.value!r}; expected text that is not empty")
    elif not _encodable(part.value):
        raise RowError(
            f"{where}: {part.type} has half of a surrogate pair; expected Unicode: write the row anew as UTF-8"
        )
    return decode(part.type, part.value, json.dumps(dict(part.options)))


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_path(value: str, root: str, real_folder: Callable[[str], str]) -> None:
    """A plain file inside the folder `root`, links followed, of a size that can be held. Raises RowError."""
    try:
        facts = os.lstat(value)
        linked = stat.S_ISLNK(facts.st_mode)
        folder, name = os.path.split(value)
        real = os.path.realpath(value) if linked else os.path.join(real_folder(folder), name)
        if not real.startswith(root + os.sep):
            raise RowError(f"{value} is a link out of the data folder {root}; expected a file in it: copy it there")
        facts = os.stat(real) if linked else facts
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise RowError(f"{value!r}: {what}; expected a file that can be read") from error
    if not stat.S_ISREG(facts.st_mode):
        raise RowError(f"{value} is a folder, a pipe or a device; expected a plain file")
    if not 0 < facts.st_size <= LARGEST_FILE:
        raise RowError(f"{value} has {facts.st_size} bytes; expected 1 to {LARGEST_FILE}")


def key(sample: Sample) -> int:
    """64-bit hash of what a row says: roles, types and values; neither its task nor its notes."""
    says = [[m.role, [[p.type, str(p.value)] for p in m.parts]] for m in sample.messages]
    digest = hashlib.blake2b(json.dumps(says, ensure_ascii=False).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
