"""The file of a project: its question, its items, what people said of them, what models guess. Nothing that was said is changed or
taken out: corrections, undoing and decisions are said after it."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from plait.annotate.kinds import Question
from plait.errors import ConfigError
from plait.runtime.database import Database, StorageError

SCHEMA = """
CREATE TABLE IF NOT EXISTS project (one INTEGER PRIMARY KEY CHECK (one = 1), question TEXT NOT NULL, plan TEXT);
CREATE TABLE IF NOT EXISTS items (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, row TEXT NOT NULL, split TEXT NOT NULL, gold TEXT
);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, item TEXT NOT NULL REFERENCES items (id),
    person TEXT NOT NULL, value TEXT NOT NULL, seconds REAL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS predictions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL REFERENCES items (id), model TEXT NOT NULL, value TEXT NOT NULL,
    uncertainty REAL, at REAL NOT NULL
);
CREATE TRIGGER IF NOT EXISTS events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'what was said is not changed: say something after it'); END;
CREATE TRIGGER IF NOT EXISTS events_are_not_taken_out BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'what was said is not taken out: say something after it'); END;
"""
EXPECTED_FILE = "the file of an annotation project, whole, or a place where it can be made: move a broken one away"
ANSWER, SKIP, UNDO, DECIDE = "answer", "skip", "undo", "decide"
IMPORT = "import"  # an answer that was given in another program; a value of None passes over

LOCK = ".lock"

Json = Any


@dataclass(frozen=True)
class Item:
    """Something people are asked about: a row, the split it is from, and its answer where that is known (`gold`)."""

    id: str
    row: dict[str, Any]
    split: str = "train"
    gold: Json = None


@dataclass(frozen=True)
class Event:
    """Something that was said. `id` is the page's name for it, so that what is sent twice is said once; `at` is the clock of the
    machine, which may jump: the order is that of `number`. `seconds`: how long the person looked, as the page measured."""

    id: str
    kind: str
    item: str
    person: str
    value: Json = None
    seconds: float | None = None
    at: float = 0.0
    number: int = 0


@dataclass(frozen=True)
class Prediction:
    """What a model guesses of an item, and how unsure it is, from 0 to 1 (None: it does not know)."""

    item: str
    model: str
    value: Json
    uncertainty: float | None = None


class Store(Database):
    """The project at `path`, of one process at a time, but for those that are `reading`. Raises ConfigError for a file that cannot be used, or
    that is in use."""

    def __init__(self, path: Path, question: Question | None = None, reading: bool = False) -> None:
        super().__init__(path, SCHEMA, EXPECTED_FILE)
        self._turn = threading.Lock()
        self._lock = None if reading else self._locked()
        try:
            self.question = self._asked(question)
            self._writing = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._writing.execute("PRAGMA synchronous = FULL")  # what was answered for outlives a power cut, too
            self._writing.execute("PRAGMA foreign_keys = ON")
        except BaseException as error:
            if self._lock is not None:
                self._lock.close()
            if isinstance(error, sqlite3.Error):
                raise ConfigError(f"{path}: {error}; expected {EXPECTED_FILE}") from error
            raise

    def _locked(self) -> IO[bytes]:
        """A lock beside the file, which ends with the process. Raises ConfigError."""
        lock = self.path.with_name(self.path.name + LOCK).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ConfigError(
                f"{self.path} is in use by another process; expected one at a time: end that one, or ask its pages"
            ) from error
        return lock

    def _asked(self, question: Question | None) -> Question:
        """The question of the project, which is settled when it begins. Raises ConfigError for another one."""
        rows = self.rows("SELECT question FROM project")
        if not rows:
            if question is None:
                raise ConfigError(
                    f"{self.path} asks nothing yet; expected --ask, such as: --ask label --options 'cat,dog'"
                )
            with closing(self._open()) as file:
                file.execute("INSERT INTO project (one, question) VALUES (1, ?)", (json.dumps(question.as_json()),))
            return question
        kept = json.loads(rows[0][0])
        earlier = Question(kept["kind"], kept["words"], tuple(kept["options"]))
        if question is not None and question != earlier and not self.rows("SELECT 1 FROM events LIMIT 1"):
            with closing(self._open()) as file:  # nobody has answered: it begins anew
                file.execute("BEGIN IMMEDIATE")
                file.execute("DELETE FROM predictions")
                file.execute("DELETE FROM items")
                file.execute("UPDATE project SET question = ?", (json.dumps(question.as_json()),))
                file.execute("COMMIT")
            return question
        if question is not None and question != earlier:
            raise ConfigError(
                f"{self.path} asks {kept}; got {question.as_json()}: answers to another question do not mix; leave --ask out to go on, or "
                "ask about another folder"
            )
        return earlier

    @property
    def plan(self) -> dict[str, Any] | None:
        """How items are shared out, as it was kept last."""
        (kept,) = self.rows("SELECT plan FROM project")[0]
        return None if kept is None else dict(json.loads(kept))

    @plan.setter
    def plan(self, shape: dict[str, Any]) -> None:
        with self._transaction() as file:
            file.execute("UPDATE project SET plan = ?", (json.dumps(shape),))

    def close(self) -> None:
        """Let another process have the file."""
        self._writing.close()
        if self._lock is not None:
            self._lock.close()

    def remove(self) -> None:
        """Take the closed file away, and what lies beside it."""
        for suffix in ("", "-wal", "-shm", LOCK):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, one thread at a time. Raises StorageError."""
        with self._turn:
            try:
                self._writing.execute("BEGIN IMMEDIATE")
                yield self._writing
                self._writing.execute("COMMIT")
            except sqlite3.Error as error:
                raise StorageError(
                    f"{self.path}: {error}; nothing was kept of it: make room on the disk, and send it again"
                ) from error
            finally:
                if self._writing.in_transaction:
                    self._writing.execute("ROLLBACK")

    def add_items(self, items: Iterable[Item]) -> int:
        """Add items that are not there yet; returns how many. Raises StorageError."""
        rows = [
            (
                item.id,
                json.dumps(item.row, ensure_ascii=False),
                item.split,
                None if item.gold is None else json.dumps(item.gold),
            )
            for item in items
        ]
        with self._transaction() as file:
            before = file.total_changes
            file.executemany("INSERT OR IGNORE INTO items (id, row, split, gold) VALUES (?, ?, ?, ?)", rows)
            return file.total_changes - before

    def append(self, events: Iterable[Event]) -> list[Event]:
        """Keep what was said; returns it with its numbers. What was kept under the same id before is not kept again. Raises StorageError."""
        kept = []
        with self._transaction() as file:
            for event in events:
                at = event.at or time.time()
                values = (
                    event.id,
                    event.kind,
                    event.item,
                    event.person,
                    json.dumps(event.value, ensure_ascii=False),
                    event.seconds,
                    at,
                )
                insert = "INSERT OR IGNORE INTO events (id, kind, item, person, value, seconds, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
                cursor = file.execute(insert, values)
                if cursor.rowcount:
                    kept.append(Event(*values[:4], event.value, event.seconds, at, int(cursor.lastrowid or 0)))
        return kept

    def add_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Keep what a model guesses. Raises StorageError."""
        now = time.time()
        rows = [(p.item, p.model, json.dumps(p.value, ensure_ascii=False), p.uncertainty, now) for p in predictions]
        with self._transaction() as file:
            file.executemany(
                "INSERT INTO predictions (item, model, value, uncertainty, at) VALUES (?, ?, ?, ?, ?)", rows
            )

    def items(self) -> list[Item]:
        """All items, in the order in which they came."""
        rows = self.rows("SELECT id, row, split, gold FROM items ORDER BY place")
        return [
            Item(id, json.loads(row), split, None if gold is None else json.loads(gold))
            for id, row, split, gold in rows
        ]

    def event(self, id: str) -> Event | None:
        """What was kept under an id."""
        events = self._events("WHERE id = ?", id)
        return events[0] if events else None

    def events(self) -> list[Event]:
        """All that was said, in order."""
        return self._events("ORDER BY number")

    def _events(self, query: str, *values: object) -> list[Event]:
        rows = self.rows(f"SELECT id, kind, item, person, value, seconds, at, number FROM events {query}", *values)
        return [
            Event(id, kind, item, person, json.loads(value), *rest) for id, kind, item, person, value, *rest in rows
        ]

    def predictions(self) -> list[Prediction]:
        """The latest guess of each model about each item."""
        rows = self.rows(
            "SELECT item, model, value, uncertainty FROM predictions WHERE number IN (SELECT max(number) FROM predictions GROUP BY item, model)"
        )
        return [Prediction(item, model, json.loads(value), uncertainty) for item, model, value, uncertainty in rows]
