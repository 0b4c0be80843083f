"""The one reader of list files: JSON, JSON lines, and columns between commas, semicolons, tabs or bars.

Byte order marks, blank lines, long fields and quotes that are never closed are no reason to lose an entry.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any

from plait.data.importers.core.keys import CHATS, FILES, KNOWN
from plait.data.importers.core.media import is_medium
from plait.data.importers.core.report import EntryError, Report
from plait.errors import DataError, RowError

JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
COLUMN_ENDINGS = (".csv", ".tsv", ".psv", ".txt")
DELIMITERS = ("\t", "|", ";", ",")  # the rarest in prose first: it wins where several fit equally well
LOOKED_AT = 50  # lines that settle the delimiter, or entries that settle the columns
LONGEST_FIELD = 200  # lines; a quote that is closed later is a stray one
MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class Entry:
    """One entry of a list, by column, and where it stands."""

    where: str
    values: Mapping[str, Any]


@dataclass
class Table:
    """A list file with its columns. `entries` reads it anew each time, an entry at a time."""

    path: Path
    label: str  # its name in what is said
    columns: tuple[str, ...]
    has_head: bool  # the columns have names of their own
    delimiter: str  # empty for JSON
    _read: Callable[[Report], Iterator[tuple[str, Mapping[str, Any] | RowError]]] = field(repr=False)
    sample: tuple[Entry, ...] = ()  # the first sound ones

    def entries(self, report: Report) -> Iterator[Entry]:
        """Sound entries; the others are passed over. Raises DataError for a file that is no list."""
        for where, values in self._read(report):
            if isinstance(values, RowError):
                report.pass_over(where, values)
            else:
                report.keys(self.label, values)
                yield Entry(where, values)


def open_table(path: Path, label: str, load: Callable[[Path], Any], quoted: bool = True) -> Table | None:
    """The list in a file; None where it is none, such as prose or an object. `quoted`: a field may stand in quotes;
    `load` gives what a JSON file holds.

    Raises DataError for JSON that is broken, and for a file that cannot be read.
    """
    try:
        if path.suffix.lower() in JSON_ENDINGS:
            return _json_table(path, label, load)
        return _column_table(path, label, quoted)
    except OSError as error:
        raise DataError(f"{label} cannot be read ({error.strerror}); expected a list: check who may read it") from error


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file, UTF-8 or UTF-16, without the mark of their byte order and without their ends. Bytes
    that are no text become surrogates, which `check_text` refuses."""
    with path.open("rb") as file:
        start = file.read(2)
    encoding = next((name for mark, name in MARKS if start == mark), "utf-8-sig")
    with path.open(encoding=encoding, errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.rstrip("\n")


def text_of(path: Path) -> str:
    """A text file whole. Raises EntryError for bytes that are no text."""
    text = "\n".join(line for _, line in lines_of(path))
    check_text(text)
    return text


def check_text(text: str) -> None:
    """Raise EntryError for bytes that were no text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EntryError("it is not UTF-8", "UTF-8: save the list so", f"character {error.start}") from error


def load_json(path: Path, label: str) -> Any:
    """What a JSON file holds. Raises DataError naming file and line."""
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{label}:{error.lineno}: not JSON ({error.msg}); expected JSON: is the file whole?") from error
    except (EntryError, RecursionError) as error:
        raise DataError(f"{label} is not JSON ({error}); expected JSON in UTF-8") from error


def _sampled(table: Table) -> Table:
    report = Report()  # what is wrong is said when the list is read in earnest
    for entry in islice(table.entries(report), LOOKED_AT):
        table.sample += (entry,)
    if not table.columns:
        table.columns = tuple(dict.fromkeys(key for entry in table.sample for key in entry.values))
    return table


def _json_table(path: Path, label: str, load: Callable[[Path], Any]) -> Table | None:
    first, second = islice(chain((line for _, line in lines_of(path) if line.strip()), ("", "")), 2)
    is_list = first.lstrip().startswith("[")
    if (second and not is_list and _is_json(first)) or (path.suffix.lower() != ".json" and first and not is_list):
        return _sampled(Table(path, label, (), True, "", lambda _: _json_lines(path, label)))
    entries = _listed_in(load(path)) if first else None
    return _sampled(Table(path, label, (), True, "", lambda _: _json_entries(entries, label))) if entries else None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _listed_in(raw: Any) -> list[Any] | None:
    """A list as it is; of an object its only list of objects, or itself if it is one conversation."""
    if not isinstance(raw, dict):
        return raw if isinstance(raw, list) else None
    if any(isinstance(raw.get(key), list) for key in CHATS):
        return [raw]
    lists = [value for value in raw.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return lists[0] if len(lists) == 1 else None


def _json_lines(path: Path, label: str) -> Iterator[tuple[str, Mapping[str, Any] | RowError]]:
    for number, line in lines_of(path):
        if not line.strip():
            continue
        try:
            check_text(line)
            yield f"{label}:{number}", _object(json.loads(line))
        except EntryError as error:
            yield f"{label}:{number}", error
        except (ValueError, RecursionError) as error:
            yield f"{label}:{number}", EntryError("it is not JSON", "one object a line", str(error))


def _json_entries(entries: Iterable[Any], label: str) -> Iterator[tuple[str, Mapping[str, Any] | RowError]]:
    for number, entry in enumerate(entries):
        yield f"{label}, entry {number}", _object(entry)


def _object(entry: Any) -> Mapping[str, Any] | RowError:
    return entry if isinstance(entry, dict) else EntryError("it is no object", "an object of keys and values")


def _column_table(path: Path, label: str, quoted: bool) -> Table | None:
    lines = [line for _, line in islice(((n, line) for n, line in lines_of(path) if line.strip()), LOOKED_AT)]
    layout = _layout(lines, quoted)
    if layout is None:
        return None
    delimiter, width = layout
    quoted = quoted and delimiter != "|"
    rows = [[cell.strip() for cell in _fields(line, delimiter, quoted)] for line in lines]
    head, has_head = rows[0], _is_head(rows[0], rows[1:])
    if (
        not has_head
        and delimiter != "|"
        and len({len(row) for row in rows}) > 1
        and all(is_medium(row[0]) for row in rows)
    ):
        width = 2  # names and texts, some of which have the delimiter in them
    columns = tuple(head) if has_head else tuple(f"column {number}" for number in range(1, width + 1))
    grid = _Grid(path, label, delimiter, columns, has_head, quoted)
    return _sampled(Table(path, label, columns, has_head, delimiter, grid.entries))


def _is_head(cells: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first line names columns rather than being an entry: by known names, or because it names no file where all
    others do."""
    if len(set(cells)) < len(cells) or any(map(is_medium, cells)):
        return False
    known = [cell.casefold() for cell in cells if cell.casefold() in KNOWN]
    if len(known) > 1 or any(name in FILES for name in known):
        return True
    return bool(rows) and any(all(map(is_medium, column)) for column in zip(*rows, strict=False))


def _layout(lines: Sequence[str], quoted: bool) -> tuple[str, int] | None:
    """The delimiter that cuts the head into known names, or the most lines into one same number of fields, and that number;
    None where none does."""
    for delimiter in DELIMITERS if lines else ():
        head = _fields(lines[0], delimiter, quoted and delimiter != "|")
        if _is_head([cell.strip() for cell in head], ()):
            return delimiter, len(head)
    best: tuple[int, str, int] | None = None
    for delimiter in DELIMITERS:
        counts = Counter(len(_fields(line, delimiter, quoted and delimiter != "|")) for line in lines)
        width, count = max(counts.items(), key=lambda item: (item[1], item[0]), default=(0, 0))
        if width > 1 and (best is None or count > best[0]):
            best = (count, delimiter, width)
    if best and 2 * best[0] >= len(lines):
        return best[1:]
    return next(((delimiter, 2) for delimiter in DELIMITERS if _names_media(lines, delimiter)), None)


def _names_media(lines: Sequence[str], delimiter: str) -> bool:
    """Whether each line, but for a head, begins with the name of a medium and the delimiter."""
    names = [line.split(delimiter)[0].strip('"') for line in lines if delimiter in line]
    return bool(names) and len(names) == len(lines) and all(map(is_medium, names[1:] or names))


def _fields(line: str, delimiter: str, quoted: bool) -> list[str]:
    """Fields of a line that stands alone; quotes that do not enclose whole fields are letters."""
    fields, is_open = split_quoted(line, delimiter) if quoted else (None, False)
    return line.split(delimiter) if fields is None or is_open else fields


def split_quoted(text: str, delimiter: str) -> tuple[list[str] | None, bool]:
    """Fields of a line, and whether a quote is still open at its end. No fields where it is, or where a quote closes
    before the field ends. A doubled quote inside quotes is one."""
    fields: list[str] = []
    start = 0
    while True:
        if text.startswith('"', start):
            end = text.find('"', start + 1)
            while end >= 0 and text.startswith('"', end + 1):
                end = text.find('"', end + 2)
            if end < 0:
                return None, True
            fields.append(text[start + 1 : end].replace('""', '"'))
            start = end + 1
        else:
            end = text.find(delimiter, start)
            fields.append(text[start : end if end >= 0 else len(text)])
            start = end if end >= 0 else len(text)
        if start == len(text):
            return fields, False
        if not text.startswith(delimiter, start):
            return None, False
        start += len(delimiter)


@dataclass(frozen=True)
class _Grid:
    """Entries of a file of columns."""

    path: Path
    label: str
    delimiter: str
    columns: tuple[str, ...]
    has_head: bool
    quoted: bool

    def entries(self, report: Report) -> Iterator[tuple[str, Mapping[str, Any] | RowError]]:
        rows = self._rows(report)
        for number, fields in islice(rows, int(self.has_head), None):
            where = f"{self.label}:{number}"
            try:
                check_text("".join(fields))
                yield where, self._by_column(fields)
            except EntryError as error:
                yield where, error

    def _by_column(self, fields: Sequence[str]) -> Mapping[str, str]:
        if len(fields) > len(self.columns) == 2 and is_medium(fields[0]):  # then the rest can only be one text
            fields = (fields[0], self.delimiter.join(fields[1:]))
        if len(fields) > len(self.columns):
            raise EntryError(
                f"it has {len(fields)} fields", f"{len(self.columns)}: put what holds {self.delimiter!r} in quotes"
            )
        return dict(zip(self.columns, chain(fields, [""] * len(self.columns)), strict=False))

    def _rows(self, report: Report) -> Iterator[tuple[int, list[str]]]:
        """(number of the first line, fields) of each row. A quote that opens a field may close on a later line, if that
        gives a whole row and none of the lines between is a row of its own; otherwise it is a letter."""
        lines = lines_of(self.path)
        ahead: deque[tuple[int, str]] = deque()
        while line := ahead.popleft() if ahead else next(lines, None):
            number, text = line
            if not text.strip():
                continue
            fields, is_open = split_quoted(text, self.delimiter) if self.quoted else (None, False)
            if is_open:
                fields = self._over_lines(text, lines, ahead)
                if fields is None:
                    report.remark("quotes are never closed, and read as letters", f"{self.label}:{number}")
            yield number, text.split(self.delimiter) if fields is None else fields

    def _over_lines(
        self, text: str, lines: Iterator[tuple[int, str]], ahead: deque[tuple[int, str]]
    ) -> list[str] | None:
        """Fields of a row whose first line leaves a quote open, its other lines taken from `ahead`; None if it is no row."""
        joined = text
        for count in range(1, LONGEST_FIELD):
            if count > len(ahead):
                following = next(lines, None)
                if following is None:
                    return None
                ahead.append(following)
            line = ahead[count - 1][1]
            if self._is_row(line, text):
                return None
            joined = f"{joined}\n{line}"
            fields, is_open = split_quoted(joined, self.delimiter)
            if fields is not None and len(fields) == len(self.columns):
                for _ in range(count):
                    ahead.popleft()
                return fields
            if not is_open:
                return None
        return None

    def _is_row(self, line: str, other: str) -> bool:
        """Whether a line is a row of its own, and begins as another does."""
        fields, others = (_fields(row, self.delimiter, True) for row in (line, other))
        return len(fields) == len(self.columns) and _shape(fields[0]) == _shape(others[0])


def _shape(name: str) -> tuple[str, bool, bool]:
    """What names of one list have in common: their ending, and whether there are digits or spaces in them."""
    name = name.strip('"')
    return PurePath(name).suffix.casefold(), any(map(str.isdigit, name)), " " in name.strip()
