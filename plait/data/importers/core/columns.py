"""Which column of a list is the medium and which the text, and the rows that an entry makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from plait.contract import Message, Part, Sample
from plait.data.importers.core.keys import CONTEXTS, DESCRIBES, FILES, IDS, LABELS, PAIRS, SPLITS, TEXTS
from plait.data.importers.core.lists import Table
from plait.data.importers.core.marks import MARK, fill, marked
from plait.data.importers.core.media import is_medium
from plait.data.importers.core.records import NAMES_OF_SPLITS, Record, both_ways
from plait.data.importers.core.report import EntryError, Report
from plait.data.importers.core.source import Source

LIKE_TEXTS = 0.5  # of the different values that the column with the most has
THIRD = 2  # LJSpeech's: id, text as it is written, text as it is read


@dataclass(frozen=True)
class Columns:
    """Columns of a list by what they mean; an empty name where there is none. Of `texts` the first that is not empty
    counts."""

    medium: str = ""
    texts: tuple[str, ...] = ()
    label: str = ""
    question: str = ""
    answer: str = ""
    context: str = ""
    split: str = ""
    group: str = ""  # what must not be torn apart by splits, such as a speaker

    @property
    def used(self) -> set[str]:
        """Names of all that are read."""
        named = {getattr(self, entry.name) for entry in fields(self) if entry.name != "texts"}
        return (named | set(self.texts)) - {""}

    @property
    def says_something(self) -> bool:
        """Whether there is a text, a class, or a question with its answer."""
        return bool(self.texts or self.label or self.question)


def by_name(names: Sequence[str], medium: str = "") -> Columns:
    """What columns mean by their names alone."""
    table = {name.strip().casefold(): name for name in names if name != medium}

    def first(known: Iterable[str]) -> str:
        return next((table[name] for name in known if name in table), "")

    pair = next(((table[q], table[a]) for q, a in PAIRS if q in table and a in table), None)
    split = first(SPLITS)
    if pair is not None:
        context = next((table[name] for name in CONTEXTS if name in table and table[name] not in pair), "")
        return Columns(medium, question=pair[0], answer=pair[1], context=context, split=split)
    text = first(TEXTS)
    return Columns(medium, (text,) if text else (), "" if text else first(LABELS), split=split)


def choose(table: Table, source: Source, medium: str = "") -> Columns:
    """What the columns of a list mean: by their names, else by what is in them. `medium` is that of the media, if it is
    known."""
    medium = medium or _column_of_media(table, source)
    if table.has_head:
        columns = by_name(table.columns, medium)
        others = [name for name in table.columns if name != medium and not _is_numeric(table, name)]
        if medium and not columns.says_something and len(others) == 1 and _is_text(table, others[0]):
            columns = Columns(medium, (others[0],))
    else:
        columns = Columns(medium, _columns_of_texts(table, medium))
    return columns if _are_splits(table, columns.split) else replace(columns, split="")


def say_choice(table: Table, columns: Columns, report: Report) -> None:
    """Say which column of a list is read as the text, where that is not its name's doing."""
    named = bool(columns.texts) and columns.texts[0].strip().casefold() in TEXTS
    if columns.texts and not named and (table.has_head or len(table.columns) > THIRD):
        value = next((str(entry.values.get(columns.texts[0])) for entry in table.sample), "")
        report.note(f"{table.label}: text is {columns.texts[0]} of {len(table.columns)}, such as {value[:40]!r}")


def _values(table: Table, name: str) -> list[Any]:
    values = (entry.values.get(name) for entry in table.sample)
    return [value for value in values if value not in (None, "")]


def _column_of_media(table: Table, source: Source) -> str:
    """The column whose values name files of the source; where none does, one that is named like it."""
    known = {name: rank for rank, name in enumerate((*FILES, *IDS))}
    ranks = {name: known.get(name.strip().casefold(), len(known)) for name in table.columns}
    by_rank = sorted(table.columns, key=lambda name: ranks[name])
    for name in by_rank:
        values = _values(table, name)
        if values and 2 * sum(source.has(value, table.path.parent) for value in values) >= len(values):
            return name
    for name in by_rank:
        values = [value for value in _values(table, name) if isinstance(value, str)]
        if ranks[name] < len(FILES) and (values or not table.sample) and all(map(is_medium, values)):
            return name
    return ""


def _columns_of_texts(table: Table, medium: str) -> tuple[str, ...]:
    """Of columns without names, those that have about as many different values as the richest: the third first, as in
    LJSpeech, then the last, then the others."""
    names = [name for name in table.columns if name != medium]
    texts = [name for name in names if _is_text(table, name) and not _is_numeric(table, name)] or names
    different = {name: len(set(map(str, _values(table, name)))) for name in texts}
    rich = [name for name in texts if different[name] > LIKE_TEXTS * max(different.values())]
    third = [name for name in table.columns[THIRD : THIRD + 1] if name in rich]
    return tuple(dict.fromkeys((*third, *reversed(rich)))) or tuple(names)


def _is_numeric(table: Table, name: str) -> bool:
    values = _values(table, name)
    return bool(values) and all(_is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_text(table: Table, name: str) -> bool:
    values = _values(table, name)
    return bool(values) and all(isinstance(value, str) and not is_medium(value) for value in values)


def _are_splits(table: Table, name: str) -> bool:
    return all(str(value).casefold() in NAMES_OF_SPLITS for value in _values(table, name))


def texts_in(value: Any) -> list[str]:
    """The texts of a value: one, several of a list, or none. Raises EntryError for what is no text."""
    values = [entry for entry in (value if isinstance(value, list | tuple) else [value]) if entry is not None]
    if not all(isinstance(entry, str | int | float) for entry in values):
        raise EntryError("its text is no text", "words", f"{value!r:.60}")
    texts = (str(entry).strip() for entry in values if entry == entry)  # a missing number is not itself
    return [text for text in texts if text]


def task_of(kind: str, column: str) -> str:
    """The task of a medium and the texts of a column: what is heard of a clip is mostly what is said in it."""
    return "speech" if kind == "audio" and column.strip().casefold() not in DESCRIBES else "captions"


def rows_of(
    part: Part | None, values: Mapping[str, Any], columns: Columns, split: str, where: str, report: Report, listed: str
) -> Iterator[Record]:
    """Rows of an entry of the list `listed`: a question and its answer, or a medium with its text or class, both ways.
    Raises EntryError for an entry that lacks one of them."""
    if columns.question:
        yield _answered(part, values, columns, split, where)
        return
    assert part is not None
    column = next((name for name in columns.texts if texts_in(values.get(name))), "")
    texts = texts_in(values.get(column or columns.label))
    if not texts:
        raise EntryError("it has no text", f"one under {' or '.join(columns.texts) or columns.label!r}: fill it in")
    for text in texts:
        if MARK.search(text):
            raise EntryError("its text has a mark of a medium", "words", text[:40])
        if column:
            report.text(listed, column, text)
            yield from both_ways(part, text, task_of(part.type, column), split, where=where)
        else:
            yield from both_ways(part, text.replace("_", " "), "classes", split, where=where)


def _answered(part: Part | None, values: Mapping[str, Any], columns: Columns, split: str, where: str) -> Record:
    asked, context, answer = (
        "\n".join(texts_in(values.get(name))) for name in (columns.question, columns.context, columns.answer)
    )
    if not (asked and answer):
        raise EntryError("it has no question or no answer", f"both, under {columns.question!r} and {columns.answer!r}")
    media = [part] if part else []
    question, reply = fill([list(marked("\n\n".join(filter(None, (asked, context))))), list(marked(answer))], media)
    turns = (Message("user", tuple(question)), Message("assistant", tuple(reply)))
    return Record(Sample(turns, f"{part.type if part else 'text'}->text answers"), split, "" if part else asked, where)


def records_of(
    table: Table, columns: Columns, source: Source, folder: Path | None = None, split: str = ""
) -> Iterator[Record]:
    """Rows of all entries of a list whose media lie near `folder` (that of the list), of a `split` if it is of one. Entries
    that cannot be used are passed over."""
    report = source.report
    source.use(table.path)
    say_choice(table, columns, report)
    report.keys(table.label, table.columns, columns.used)
    for entry in table.entries(report):
        with report.entry(entry.where):
            own = NAMES_OF_SPLITS.get(str(entry.values.get(columns.split) or "").casefold(), "") or split
            part = source.part(entry.values.get(columns.medium), folder or table.path.parent, split=own)
            own = own or (source.split(part.value) if isinstance(part.value, Path) else "") or source.split(table.path)
            group = str(entry.values.get(columns.group) or "")
            for record in rows_of(part, entry.values, columns, own, entry.where, report, table.label):
                yield replace(record, group=group) if group else record
