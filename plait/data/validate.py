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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from plait.contract import Modality, Part, Sample
from plait.data.media import Member, check
from plait.data.rows import parse_line, row_id
from plait.data.shards import ShardRows, shards_of
from plait.errors import ConfigError, DataError, PlaitError, RowError
from plait.runtime.parallel import thread_pool

LONGEST_LINE = 16 * 2**20  # bytes
LARGEST_FILE = 2**30  # bytes of one medium
CHUNK = 512  # rows that are checked together: their media are decoded on all threads
TOGETHER = 16  # media a job: handing over a small one alone takes half as long as decoding it
REMEMBERED = 100_000  # media whose check is not repeated when other rows name them
Medium = tuple[str, "str | Member", str]  # modality, value, options as JSON


@dataclass(frozen=True)
class BadRow:
    """One row that is left out, and why: what was got, what was expected, how to mend it."""

    file: str
    line: int
    id: str
    problem: str


@dataclass
class CheckReport:
    """What a pass over one file found. `bad_lines` are line numbers from 1, ascending; `keys` one 64-bit hash a good row, sorted at the end."""

    path: Path
    rows: int = 0
    bad_lines: array[int] = field(default_factory=lambda: array("q"))
    bad_ids: list[str] = field(default_factory=list)
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
    paths: Sequence[Path],
    known: Mapping[str, Modality],
    listed: Path,
    tell: Callable[[BadRow], Any] = lambda bad: None,
    progress: Callable[[Path, int], Any] = lambda path, rows: None,
) -> list[CheckReport]:
    """`check_file` of each, with the bad rows written to `listed`, a JSON object a line, which has its name once it is whole."""
    unfinished = listed.with_name(listed.name + ".partial")
    if listed.is_dir() or not listed.parent.is_dir():
        raise ConfigError(f"{listed} cannot be written; expected the name of a file in a folder that is there")
    reports = []
    with unfinished.open("w", encoding="utf-8") as file:
        for path in paths:
            checker = FileChecker(path, known)
            for bad in checker.bad_rows(progress):
                file.write(json.dumps(asdict(bad), ensure_ascii=False) + "\n")
                tell(bad)
            reports.append(checker.report)
    unfinished.rename(listed)
    return reports


def check_file(
    path: Path,
    known: Mapping[str, Modality],
    tell: Callable[[BadRow], Any],
    progress: Callable[[Path, int], Any] = lambda path, rows: None,
) -> CheckReport:
    """Check every row of a JSONL file (of a split's shards, where FOLDER/SPLIT.jsonl is none); `tell` hears of each bad one
    as it is found, `progress` of how many were checked. Raises DataError for a missing file."""
    checker = FileChecker(path, known)
    for bad in checker.bad_rows(progress):
        tell(bad)
    return checker.report


@dataclass
class ParsedRow:
    """A row whose format is sound, with the media that are still to be decoded and where in it each stands; or what is
    wrong with the row."""

    number: int
    id: str
    sample: Sample | None = None
    media: list[tuple[str, Medium]] = field(default_factory=list)
    problem: str = ""


class FileChecker:
    """One pass over the rows of a file, CHUNK rows at a time. `report` is complete once `bad_rows` is exhausted."""

    def __init__(self, path: Path, known: Mapping[str, Modality]) -> None:
        self.path, self.known = path, known
        self.report = CheckReport(path)
        self.media = MediaChecker(path.parent, known)

    def bad_rows(self, progress: Callable[[Path, int], Any]) -> Iterator[BadRow]:
        """Rows that are left out, in their order. Raises DataError for a missing file."""
        begin, report = time.perf_counter(), self.report
        with thread_pool(torch.get_num_threads()) as executor:
            for chunk in _chunks(self._parsed(), CHUNK):
                problems = self.media.problems([medium for row in chunk for _, medium in row.media], executor)
                for row in chunk:
                    report.rows += 1
                    problem = row.problem or next(
                        (f"{where}: {problems[medium]}" for where, medium in row.media if problems[medium]), ""
                    )
                    if problem:
                        report.bad_lines.append(row.number)
                        report.bad_ids.append(row.id)
                        yield BadRow(self.path.name, row.number, row.id, problem)
                    else:
                        assert row.sample is not None
                        report.keys.append(key(row.sample))
                progress(self.path, report.rows)
        keys = np.frombuffer(report.keys, np.uint64)
        keys.sort()  # in place: a million rows are eight megabytes, and np.unique would take five times that
        report.duplicates = int(np.count_nonzero(keys[1:] == keys[:-1]))
        report.seconds = time.perf_counter() - begin

    def _parsed(self) -> Iterator[ParsedRow]:
        """Every row of the file, or, where it is not there and shards are, of those."""
        if not self.path.is_file() and shards_of(self.path.parent, self.path.stem):
            shards = ShardRows(self.path.parent, self.path.stem, self.known)
            for number in range(len(shards.rows)):
                yield self._parse(number + 1, shards.id_of(number), partial(shards.row, number))
            return
        for number, line, name in _lines(self.path):
            yield self._parse(number, name, partial(self._of_line, number, line))

    def _of_line(self, number: int, line: bytes | None) -> Sample:
        if line is None:
            raise RowError(
                f"{self.path.name}:{number}: a line of more than {LONGEST_LINE} bytes; expected one row a line: split it"
            )
        return parse_line(line, self.path, number, self.known)

    def _parse(self, number: int, name: str, read: Callable[[], Sample]) -> ParsedRow:
        try:
            sample = read()
            return ParsedRow(number, name, sample, list(media_of(sample, self.known)))
        except RowError as error:
            return ParsedRow(number, name, problem=str(error))


class MediaChecker:
    """What is wrong with media, decoded on several threads; those of a folder, which none may leave."""

    def __init__(self, folder: Path, known: Mapping[str, Modality]) -> None:
        self.known = known
        self.root = os.path.realpath(folder)
        self._folders: dict[str, str] = {}  # folder -> where it really is: following links for every file would be slow
        self._remembered: dict[Medium, str] = {}

    def problems(self, media: Sequence[Medium], executor: Executor) -> dict[Medium, str]:
        """What is wrong with each of some media; nothing for those that are sound. Each is decoded once."""
        new = [medium for medium in dict.fromkeys(media) if medium not in self._remembered]
        jobs = [new[start : start + TOGETHER] for start in range(0, len(new), TOGETHER)]
        found = dict(zip(new, chain.from_iterable(executor.map(self._of_several, jobs)), strict=True))
        problems = {medium: found[medium] if medium in found else self._remembered[medium] for medium in media}
        self._remembered.update(found)
        for medium in list(islice(self._remembered, max(0, len(self._remembered) - REMEMBERED))):  # the oldest
            del self._remembered[medium]
        return problems

    def _of_several(self, media: Sequence[Medium]) -> list[str]:
        return [self._of(*medium) for medium in media]

    def _of(self, kind: str, value: str | Member, options: str) -> str:
        try:
            if self.known[kind].head == "flow" and not isinstance(value, Member):
                self._check_path(value)
            check(self.known[kind], Part(kind, value, json.loads(options)))
        except PlaitError as error:
            return str(error)
        except (Exception, MemoryError) as error:  # a decoder may raise anything for a damaged file
            return f"{kind} {value!r} cannot be decoded: {error!r}; expected a whole file: save it anew"
        return ""

    def _check_path(self, value: str) -> None:
        """A plain file inside the folder, links followed, of a size that can be held. Raises RowError."""
        try:
            facts = os.lstat(value)
            linked = stat.S_ISLNK(facts.st_mode)
            folder, name = os.path.split(value)
            if folder not in self._folders:
                self._folders[folder] = os.path.realpath(folder)
            real = os.path.realpath(value) if linked else os.path.join(self._folders[folder], name)
            if not real.startswith(self.root + os.sep):
                raise RowError(
                    f"{value} is a link out of the data folder {self.root}; expected a file in it: copy it there"
                )
            facts = os.stat(real) if linked else facts
        except (OSError, ValueError) as error:
            if isinstance(error, RowError):
                raise
            what = error.strerror if isinstance(error, OSError) else error
            raise RowError(f"{value!r}: {what}; expected a file that can be read") from error
        if not stat.S_ISREG(facts.st_mode):
            raise RowError(f"{value} is a folder, a pipe or a device; expected a plain file")
        if not 0 < facts.st_size <= LARGEST_FILE:
            raise RowError(f"{value} has {facts.st_size} bytes; expected 1 to {LARGEST_FILE}")


def _chunks(rows: Iterator[ParsedRow], size: int) -> Iterator[list[ParsedRow]]:
    while chunk := list(islice(rows, size)):
        yield chunk


def _lines(path: Path) -> Iterator[tuple[int, bytes | None, str]]:
    """(number, bytes, id) of every line that is not blank; no bytes of one that is too long to hold. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path} is not a file; expected JSONL rows: build the data first, or check the path")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if not line.endswith(b"\n") and len(line) == LONGEST_LINE:
                yield number, None, row_id(line + _rest_of_line(file))
            elif line.strip():
                yield number, line, row_id(line)


def _rest_of_line(file: BinaryIO) -> bytes:
    """What is left of a line: held for as long as its id is computed, since readers know the row by that."""
    return file.readline()


def media_of(sample: Sample, known: Mapping[str, Modality]) -> Iterator[tuple[str, Medium]]:
    """Where each part of a row stands, and what is to be decoded of it. Raises RowError naming where, for what can be said
    without decoding, and where nobody answers."""
    for number, message in enumerate(sample.messages):
        where = f"{sample.where}, message {number}"
        for part in message.parts:
            _check_value(part, where, known)
            yield where, (part.type, part.value, json.dumps(dict(part.options)))
    if all(message.role not in (None, "assistant") for message in sample.messages):
        raise RowError(f"{sample.where}: nobody answers; expected an assistant's message, or 'content' for a document")


def _check_value(part: Part, where: str, known: Mapping[str, Modality]) -> None:
    """A value that can be read or decoded at all. Raises RowError naming `where`."""
    if known[part.type].head == "flow":
        if not isinstance(part.value, str | Member):
            raise RowError(f"{where}: got {part.value!r}; expected the path of a file, relative to that of the rows")
    elif not isinstance(part.value, str) or not part.value:
        raise RowError(f"{where}: {part.type} is {part.value!r}; expected text that is not empty")
    elif not _encodable(part.value):
        raise RowError(
            f"{where}: {part.type} has half of a surrogate pair; expected Unicode: write the row anew as UTF-8"
        )


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def key(sample: Sample) -> int:
    """64-bit hash of what a row says: roles, types and values; neither its task nor its notes."""
    says = [[m.role, [[p.type, str(p.value)] for p in m.parts]] for m in sample.messages]
    digest = hashlib.blake2b(json.dumps(says, ensure_ascii=False).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
