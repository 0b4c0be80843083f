"""Checks every row before the first training step, so that a bad row never ends a run.

A row is bad when it breaks the row format, when a medium cannot be decoded completely, or when no part of it has a loss.
Bad rows are reported by file and line and left out. Memory stays flat: one 64-bit hash per good row.
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
CHUNK = 512  # rows checked together: all threads decode their media
MEDIA_A_JOB = 16  # submitting one small medium takes half as long as decoding it
MAX_CACHED_CHECKS = 100_000  # media; other rows that name one reuse its check
Medium = tuple[str, "str | Member", str]  # modality, value, options as JSON


@dataclass(frozen=True)
class BadRow:
    """One row that is left out, and why: what it has, what was expected, how to mend it."""

    file: str
    line: int
    id: str
    problem: str


@dataclass
class CheckReport:
    """Result of checking one file. `bad_lines` are line numbers from 1, ascending; `keys` has one 64-bit hash per good row,
    sorted at the end."""

    path: Path
    rows: int = 0
    bad_lines: array[int] = field(default_factory=lambda: array("q"))
    bad_ids: list[str] = field(default_factory=list)
    duplicates: int = 0
    keys: array[int] = field(default_factory=lambda: array("Q"))
    seconds: float = 0.0

    @property
    def good(self) -> int:
        """Number of good rows."""
        return self.rows - len(self.bad_lines)

    def __str__(self) -> str:
        rate = self.rows / max(self.seconds, 1e-9)
        return (
            f"{self.rows} rows checked in {self.seconds:.1f} s ({rate:.0f} a second): {self.good} good, "
            f"{len(self.bad_lines)} bad, {self.duplicates} said before"
        )


def list_bad_rows(
    paths: Sequence[Path],
    modalities: Mapping[str, Modality],
    out: Path,
    on_bad: Callable[[BadRow], Any] = lambda bad: None,
    progress: Callable[[Path, int], Any] = lambda path, rows: None,
) -> list[CheckReport]:
    """`check_file` of each path; writes the bad rows to `out`, a JSON object a line, which gets its name once it is complete.

    Raises ConfigError where `out` cannot be written, DataError for a missing file.
    """
    unfinished = out.with_name(out.name + ".partial")
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"{out} cannot be written; expected the name of a file in a folder that is there")
    reports = []
    with unfinished.open("w", encoding="utf-8") as file:
        for path in paths:
            checker = FileChecker(path, modalities)
            for bad in checker.bad_rows(progress):
                file.write(json.dumps(asdict(bad), ensure_ascii=False) + "\n")
                on_bad(bad)
            reports.append(checker.report)
    unfinished.rename(out)
    return reports


def check_file(
    path: Path,
    modalities: Mapping[str, Modality],
    on_bad: Callable[[BadRow], Any],
    progress: Callable[[Path, int], Any] = lambda path, rows: None,
) -> CheckReport:
    """Check every row of a JSONL file, or of a split's shards where FOLDER/SPLIT.jsonl is missing.

    Calls `on_bad(row)` for each bad row and `progress(path, number of rows checked)` after every CHUNK of them. Raises
    DataError for a missing file.
    """
    checker = FileChecker(path, modalities)
    for bad in checker.bad_rows(progress):
        on_bad(bad)
    return checker.report


@dataclass
class ParsedRow:
    """A row of sound format, with its media to decode and the FILE:LINE and message of each; or the `problem` of the row."""

    number: int
    id: str
    sample: Sample | None = None
    media: list[tuple[str, Medium]] = field(default_factory=list)
    problem: str = ""


class FileChecker:
    """Checks the rows of a file once, CHUNK rows at a time. `report` is complete once `bad_rows` is exhausted."""

    def __init__(self, path: Path, modalities: Mapping[str, Modality]) -> None:
        self.path, self.modalities = path, modalities
        self.report = CheckReport(path)
        self.media = MediaChecker(path.parent, modalities)

    def bad_rows(self, progress: Callable[[Path, int], Any]) -> Iterator[BadRow]:
        """Yield the bad rows in file order. Raises DataError for a missing file."""
        begin, report = time.perf_counter(), self.report
        with thread_pool(torch.get_num_threads()) as executor:
            for chunk in _chunks(self._parse_rows(), CHUNK):
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
        keys.sort()  # in place: np.unique would take five times the memory
        report.duplicates = int(np.count_nonzero(keys[1:] == keys[:-1]))
        report.seconds = time.perf_counter() - begin

    def _parse_rows(self) -> Iterator[ParsedRow]:
        """Yield every row of the file, or of the split's shards where the file is missing."""
        if not self.path.is_file() and shards_of(self.path.parent, self.path.stem):
            shards = ShardRows(self.path.parent, self.path.stem, self.modalities)
            for number in range(len(shards.rows)):
                yield self._parse(number + 1, shards.id_of(number), partial(shards.row, number))
            return
        for number, line, id in _lines(self.path):
            yield self._parse(number, id, partial(self._parse_line, number, line))

    def _parse_line(self, number: int, line: bytes | None) -> Sample:
        if line is None:
            raise RowError(
                f"{self.path.name}:{number}: a line of more than {LONGEST_LINE} bytes; expected one row a line: split it"
            )
        return parse_line(line, self.path, number, self.modalities)

    def _parse(self, number: int, id: str, read: Callable[[], Sample]) -> ParsedRow:
        try:
            sample = read()
            return ParsedRow(number, id, sample, list(media_of(sample, self.modalities)))
        except RowError as error:
            return ParsedRow(number, id, problem=str(error))


class MediaChecker:
    """Decodes media on several threads and reports their problems. Files must lie in `folder`, links followed."""

    def __init__(self, folder: Path, modalities: Mapping[str, Modality]) -> None:
        self.modalities = modalities
        self.root = os.path.realpath(folder)
        self._folders: dict[str, str] = {}  # folder -> its real path: resolving links for every file is slow
        self._cache: dict[Medium, str] = {}  # medium -> its problem, empty for a sound one; oldest first

    def problems(self, media: Sequence[Medium], executor: Executor) -> dict[Medium, str]:
        """The problem of each medium, empty for a sound one. Decodes each once."""
        new = [medium for medium in dict.fromkeys(media) if medium not in self._cache]
        jobs = [new[start : start + MEDIA_A_JOB] for start in range(0, len(new), MEDIA_A_JOB)]
        new_problems = dict(zip(new, chain.from_iterable(executor.map(self._problems_of, jobs)), strict=True))
        problems = {m: new_problems[m] if m in new_problems else self._cache[m] for m in media}
        self._cache.update(new_problems)
        for medium in list(islice(self._cache, max(0, len(self._cache) - MAX_CACHED_CHECKS))):  # the oldest
            del self._cache[medium]
        return problems

    def _problems_of(self, media: Sequence[Medium]) -> list[str]:
        return [self._problem_of(*medium) for medium in media]

    def _problem_of(self, kind: str, value: str | Member, options: str) -> str:
        try:
            if self.modalities[kind].head == "flow" and not isinstance(value, Member):
                self._check_path(value)
            check(self.modalities[kind], Part(kind, value, json.loads(options)))
        except PlaitError as error:
            return str(error)
        except (Exception, MemoryError) as error:  # a decoder may raise anything for a damaged file
            return f"{kind} {value!r} cannot be decoded: {error!r}; expected a whole file: save it anew"
        return ""

    def _check_path(self, value: str) -> None:
        """Raise RowError unless `value` is a plain file inside the folder, links followed, of 1 to LARGEST_FILE bytes."""
        try:
            status = os.lstat(value)
            is_link = stat.S_ISLNK(status.st_mode)
            folder, name = os.path.split(value)
            if folder not in self._folders:
                self._folders[folder] = os.path.realpath(folder)
            real = os.path.realpath(value) if is_link else os.path.join(self._folders[folder], name)
            if not real.startswith(self.root + os.sep):
                raise RowError(
                    f"{value} is a link out of the data folder {self.root}; expected a file in it: copy it there"
                )
            status = os.stat(real) if is_link else status
        except (OSError, ValueError) as error:
            if isinstance(error, RowError):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise RowError(f"{value!r}: {reason}; expected a file that can be read") from error
        if not stat.S_ISREG(status.st_mode):
            raise RowError(f"{value} is a folder, a pipe or a device; expected a plain file")
        if not 0 < status.st_size <= LARGEST_FILE:
            raise RowError(f"{value} has {status.st_size} bytes; expected 1 to {LARGEST_FILE}")


def _chunks(rows: Iterator[ParsedRow], size: int) -> Iterator[list[ParsedRow]]:
    while chunk := list(islice(rows, size)):
        yield chunk


def _lines(path: Path) -> Iterator[tuple[int, bytes | None, str]]:
    """Yield (number from 1, bytes, id) of every line that is not blank; None for the bytes of a line over LONGEST_LINE.
    Raises DataError for a missing file."""
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
    """The rest of an overlong line; in memory only while its id is computed, which readers identify the row by."""
    return file.readline()


def media_of(sample: Sample, modalities: Mapping[str, Modality]) -> Iterator[tuple[str, Medium]]:
    """Yield the FILE:LINE and message of each part of a row, and its medium to decode. Raises RowError naming them for
    problems that show without decoding, and for a row without an assistant's message."""
    for number, message in enumerate((*sample.messages, *sample.rejected)):
        where = f"{sample.where}, {'message' if number < len(sample.messages) else 'rejected message'} {number}"
        for part in message.parts:
            _check_value(part, where, modalities)
            yield where, (part.type, part.value, json.dumps(dict(part.options)))
    if all(message.role not in (None, "assistant") for message in sample.messages):
        raise RowError(f"{sample.where}: nobody answers; expected an assistant's message, or 'content' for a document")


def _check_value(part: Part, where: str, modalities: Mapping[str, Modality]) -> None:
    """Raise RowError naming `where` for a value of a wrong type, an empty text, or text that is no valid Unicode."""
    if modalities[part.type].head == "flow":
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
    """64-bit hash of a row's roles, types and values, without its task and its notes."""
    content = [[m.role, [[p.type, str(p.value)] for p in m.parts]] for m in (*sample.messages, *sample.rejected)]
    digest = hashlib.blake2b(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
