"""What an import did not take, and why: counted by reason, said at the end, and a stop where it is too much."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from plait.errors import DataError, PlaitError, RowError

MOST_UNUSABLE = 0.1  # of the entries; a source with more is not what it seems
EXAMPLES = 3  # places that are named for each reason
FEW_TEXTS = 3  # different values of a column of texts that look like no texts
ENOUGH_TEXTS = 10  # entries from which on that is said


class EntryError(RowError):
    """One entry of a source cannot be used. `reason` is what it has in common with others, `detail` its own."""

    def __init__(self, reason: str, expected: str, detail: str = "") -> None:
        self.reason, self.expected, self.detail = reason, expected, detail
        super().__init__(f"{reason}{f': {detail}' if detail else ''}; expected {expected}")


@dataclass
class Tally:
    """How often something happened for one reason, where it did first, and what was expected instead."""

    reason: str
    expected: str = ""
    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: str, count: int = 1) -> None:
        self.count += count
        if place and len(self.places) < EXAMPLES:
            self.places.append(place)

    def __str__(self) -> str:
        places = ", ".join(self.places) + (", ..." if self.count > len(self.places) else "")
        return f"{self.reason} ({places})" if self.places else self.reason


class Tallies(dict[str, Tally]):
    """Tallies by reason; numbers in a reason do not tell two apart."""

    def add(self, reason: str, place: str = "", expected: str = "", count: int = 1) -> None:
        key = re.sub(r"\d+", "0", reason)
        self.setdefault(key, Tally(reason, expected)).add(place, count)


@dataclass
class KeyUse:
    """Keys of the entries of a list, and those of them that an importer reads."""

    seen: dict[str, None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


@dataclass
class Texts:
    """The first few different values of a column of texts, and how many entries have one."""

    values: dict[str, None] = field(default_factory=dict)
    count: int = 0


class Report:
    """The account of one import. With `strict` the first entry that cannot be used stops it."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.taken = self.unusable = 0  # entries
        self.current = ""  # the entry at hand, for errors that nobody foresaw
        self._unusable, self._left, self._remarks = Tallies(), Tallies(), Tallies()
        self._notes: list[str] = []
        self._keys: dict[str, KeyUse] = {}
        self._texts: dict[tuple[str, str], Texts] = {}
        self._last_taken = self._last_unusable = ""

    @contextmanager
    def entry(self, where: str) -> Iterator[None]:
        """Errors about the entry `where` pass it over; errors about the whole source go on. Raises DataError if strict."""
        self.current = where
        try:
            yield
        except RowError as error:
            self.pass_over(where, error)
        except PlaitError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            self.pass_over(where, EntryError("it cannot be read", "an entry of the format", repr(error)))

    def take(self, where: str) -> None:
        """Count an entry that became rows; rows of one entry follow one another."""
        if not where or where != self._last_taken:
            self.taken += 1
        self._last_taken = where

    def pass_over(self, where: str, error: RowError) -> None:
        """Count an entry that cannot be used. Raises DataError if strict."""
        if self.strict:
            raise DataError(f"{where}: {error}") from error
        if where and where == self._last_unusable:
            return
        self._last_unusable = where
        self.unusable += 1
        if isinstance(error, EntryError):
            place = f"{where} {error.detail}" if error.detail else where
            self._unusable.add(error.reason, place, error.expected)
        else:
            reason, _, expected = str(error).partition("; expected ")
            self._unusable.add(reason, where, expected)

    def leave(self, reason: str, place: str = "", count: int = 1) -> None:
        """Count what is no entry and is not used: files, boxes."""
        self._left.add(reason, place, count=count)

    def remark(self, text: str, place: str) -> None:
        """Count what is used, but not as it stands."""
        self._remarks.add(text, place)

    def note(self, text: str) -> None:
        """Say `text` at the end, once."""
        if text not in self._notes:
            self._notes.append(text)

    def keys(self, listed: str, seen: Iterable[str], used: Iterable[str] = ()) -> None:
        """Take note of keys (columns) of the list `listed`: those that are there, and those that are read."""
        use = self._keys.setdefault(listed, KeyUse())
        use.seen.update(dict.fromkeys(seen))
        use.used.update(used)

    def text(self, listed: str, column: str, value: str) -> None:
        """Take note of a value of a column of texts."""
        texts = self._texts.setdefault((listed, column), Texts())
        texts.count += 1
        if len(texts.values) <= FEW_TEXTS:
            texts.values[value[:60]] = None

    def check_share(self) -> None:
        """Raise DataError where more than MOST_UNUSABLE of the entries cannot be used."""
        total = self.taken + self.unusable
        if self.unusable > MOST_UNUSABLE * total:
            reasons = "; ".join(
                f"{tally.count}: {tally}{f', expected {tally.expected}' if tally.expected else ''}"
                for tally in self._unusable.values()
            )
            raise DataError(
                f"{self.unusable} of {total} entries cannot be used; expected at most {MOST_UNUSABLE:.0%}: mend them, or "
                f"take them out of the source: {reasons}"
            )

    def lines(self) -> list[str]:
        """What is to be said of the import, a line each."""
        passed = [f"{tally.count} passed over: {tally}" for tally in (*self._unusable.values(), *self._left.values())]
        remarks = [f"{tally.count} {tally}" for tally in self._remarks.values()]
        unused = [
            f"{listed}: not used: {', '.join(key for key in use.seen if key not in use.used)}"
            for listed, use in self._keys.items()
            if set(use.seen) - use.used
        ]
        few = [
            f"warning: {listed}: {column!r} has {len(texts.values)} values in all in {texts.count} entries "
            f"({', '.join(texts.values)}): is it the text?"
            for (listed, column), texts in self._texts.items()
            if texts.count >= ENOUGH_TEXTS and len(texts.values) <= FEW_TEXTS
        ]
        return [*self._notes, *passed, *remarks, *unused, *few]
