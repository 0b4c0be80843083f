"""A collection at work: who agreed to what, what they gave, what others say of it. Everything of a person can be taken out again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import random
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait import registry
from plait.collect import consent
from plait.collect.consent import Consent
from plait.collect.prompts import Prompt
from plait.contract import WORDS, Part
from plait.data.media import Blob, to_blob
from plait.errors import ConfigError, DataError, RowError
from plait.runtime.database import Database, StorageError
from plait.runtime.files import sha256_of, sync
from plait.runtime.persons import canonical

SCHEMA = """
CREATE TABLE IF NOT EXISTS secret (one INTEGER PRIMARY KEY CHECK (one = 1), salt TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS plan (one INTEGER PRIMARY KEY CHECK (one = 1), shape TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS prompts (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, shape TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS consents (number INTEGER PRIMARY KEY AUTOINCREMENT, person TEXT NOT NULL, version TEXT NOT NULL, purposes TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS consent_texts (version TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    id TEXT PRIMARY KEY, prompt TEXT NOT NULL, person TEXT NOT NULL, type TEXT NOT NULL, words TEXT, file TEXT, digest TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS votes (item TEXT NOT NULL, person TEXT NOT NULL, is_good INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (item, person));
CREATE TABLE IF NOT EXISTS withdrawn (item TEXT PRIMARY KEY, digest TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS withdrawn_contents (item TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS uncleared (place TEXT PRIMARY KEY, why TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS licences (text_version TEXT PRIMARY KEY, licence TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS asked (prompt TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS exports (number INTEGER PRIMARY KEY AUTOINCREMENT, folder TEXT NOT NULL, rows TEXT NOT NULL, items TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS items_by_person ON items (person, at);
CREATE INDEX IF NOT EXISTS items_by_prompt ON items (prompt);
"""
EXPECTED_FILE = "the file of a collection, or a place where it can be made"
STORE, MEDIA, LOCK = "collected.sqlite", "media", "collected.lock"
VOTES = 2  # of one mind that settle an item
LONGEST_ID, LONGEST_WORDS = 100, 20_000  # characters
ACCEPTED, REJECTED, OPEN = "accepted", "rejected", "open"


@dataclass(frozen=True)
class Plan:
    """`per_prompt`: items that are wanted of each prompt; `votes`: of one mind that settle an item; `licence` of what is handed on."""

    per_prompt: int = 3
    votes: int = VOTES
    licence: str = "CC0-1.0"

    def __post_init__(self) -> None:
        if not (1 <= self.per_prompt <= 10_000 and 1 <= self.votes <= 100 and self.licence.strip()):
            raise ConfigError(f"got {self}; expected per_prompt from 1 to 10000, votes from 1 to 100, and a licence")


@dataclass(frozen=True)
class Contribution:
    """Something that a person gave: `words`, or the name of a file in the folder's `media`."""

    id: str
    prompt: str
    person: str
    type: str
    words: str | None
    file: str | None
    digest: str
    at: float


class NotGoodError(DataError):
    """What somebody made will not do; it says why, and what would mend it."""


class Collection(Database):
    """The collection in `folder`, with the prompts, text and plan that it had, and prompts and a plan that are given. Its methods may be called from several
    threads. Raises ConfigError for a folder that cannot be used."""

    def __init__(self, folder: Path, prompts: Sequence[Prompt] = (), plan: Plan | None = None) -> None:
        super().__init__(folder / STORE, SCHEMA, EXPECTED_FILE)
        self.folder, self.lock = folder, threading.RLock()
        (folder / MEDIA).mkdir(mode=0o700, exist_ok=True)
        with self._transaction() as file:
            for prompt in prompts:
                shape = json.dumps({**prompt.__dict__, "rows": list(prompt.rows)}, ensure_ascii=False)
                file.execute("INSERT OR IGNORE INTO prompts (id, shape) VALUES (?, ?)", (prompt.id, shape))
            if prompts:
                file.execute("DELETE FROM asked")
                file.executemany("INSERT INTO asked VALUES (?)", [(prompt.id,) for prompt in prompts])
            _note_licences(file)
            if plan is not None:
                file.execute("INSERT OR REPLACE INTO plan VALUES (1, ?)", (json.dumps(plan.__dict__),))
            file.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (uuid.uuid4().hex,))
        plans = self.rows("SELECT shape FROM plan")
        self.plan = Plan(**json.loads(plans[0][0])) if plans else Plan()
        self.terms = self._last_terms()
        self.salt = str(self.rows("SELECT salt FROM secret")[0][0])
        listed = self.rows("SELECT shape FROM prompts ORDER BY place")
        self.prompts = {prompt.id: prompt for (shape,) in listed for prompt in [_prompt(json.loads(shape))]}
        of_file = {prompt for (prompt,) in self.rows("SELECT prompt FROM asked")}
        self.current_prompts = [id for id in self.prompts if id in of_file or not of_file]  # of others there are items

    def use_terms(self, text: str) -> None:
        """Let people agree to a text from now on, under the licence of the plan."""
        with self._transaction() as file:
            file.execute("INSERT OR IGNORE INTO licences VALUES (?, ?)", (Consent(text).version, self.plan.licence))
        terms = self._terms_of(text)
        with self._transaction() as file:
            file.execute("INSERT OR REPLACE INTO consent_texts VALUES (?, ?)", (terms.version, terms.text))
        self.terms = terms

    def _terms_of(self, text: str) -> Consent:
        """A text, and the licence if it is another than when the text was new."""
        rows = self.rows("SELECT licence FROM licences WHERE text_version = ?", Consent(text).version)
        return Consent(text, "" if not rows or rows[0][0] == self.plan.licence else self.plan.licence)

    def _last_terms(self) -> Consent | None:
        """The text that people were to agree to last."""
        rows = self.rows("SELECT text FROM consent_texts ORDER BY rowid DESC LIMIT 1")
        return self._terms_of(rows[0][0]) if rows else None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing. Raises StorageError, as on a full disk."""
        with self.lock:
            file = self._open()
            try:
                file.execute("PRAGMA synchronous = FULL")
                file.execute("BEGIN IMMEDIATE")
                yield file
                file.execute("COMMIT")
            except sqlite3.Error as error:
                raise StorageError(
                    f"{self.path}: {error}; nothing was kept of it: make room on the disk, and send it again"
                ) from error
            finally:
                if file.in_transaction:
                    file.execute("ROLLBACK")
                file.close()

    # Consent

    def agree(self, person: str, version: str, purposes: Sequence[str]) -> None:
        """Keep what a person agrees to. Raises ConfigError for another version than that of the text, or purposes that do not do."""
        person, chosen = canonical(person), consent.checked(purposes)
        if self.terms is None or version != self.terms.version:
            raise ConfigError(
                f"got the consent {version!r:.40}; expected {self.terms.version if self.terms else 'none'}: read the text again"
            )
        with self._transaction() as file:
            file.execute(
                "INSERT INTO consents (person, version, purposes, at) VALUES (?, ?, ?, ?)",
                (person, version, json.dumps(chosen), time.time()),
            )

    def purposes(self, person: str) -> tuple[str, ...]:
        """What a person agreed to last; nothing where the text is another since."""
        rows = self.rows(
            "SELECT version, purposes FROM consents WHERE person = ? ORDER BY number DESC LIMIT 1", canonical(person)
        )
        if not rows or (self.terms is not None and rows[0][0] != self.terms.version):
            return ()
        return tuple(json.loads(rows[0][1]))

    # Giving

    def next(self, person: str) -> Prompt | None:
        """A prompt that has the fewest items of those that the person has not answered; None where all have enough, or this one has none left."""
        person = canonical(person)
        counts = dict(self.rows("SELECT prompt, count(*) FROM items GROUP BY prompt"))
        mine = {prompt for (prompt,) in self.rows("SELECT DISTINCT prompt FROM items WHERE person = ?", person)}
        standings = self._standings()
        rejected = Counter(
            prompt for item, prompt in self.rows("SELECT id, prompt FROM items") if standings.get(item) == REJECTED
        )
        wanted = {id: counts.get(id, 0) - rejected.get(id, 0) for id in self.current_prompts if id not in mine}
        wanted = {id: count for id, count in wanted.items() if count < self.plan.per_prompt}
        if not wanted:
            return None
        fewest = min(wanted.values())
        return self.prompts[random.choice([id for id, count in wanted.items() if count == fewest])]

    def give(self, person: str, prompt: str, part: Part, id: str = "") -> Contribution:
        """Keep what a person made for a prompt, without what its file said beside (places, names of devices). What is given again under one id is
        kept once. Raises ConfigError without consent or for a wrong type, NotGoodError for what will not do, DataError for a full disk."""
        person = canonical(person)
        wanted = self.prompts.get(prompt)
        if wanted is None or part.type != wanted.type:
            raise ConfigError(
                f"got a part of type {part.type} for the prompt {prompt!r:.40}; expected {wanted.type if wanted else 'a prompt that is asked here'}"
            )
        id = id or uuid.uuid4().hex
        if len(id) > LONGEST_ID or not (id.isascii() and id.isalnum()):
            raise ConfigError(
                f"got the id {id!r:.60}; expected up to {LONGEST_ID} ASCII letters and digits that are new with every item"
            )
        words, data, suffix = _kept_form(part)
        digest = hashlib.sha256(data).hexdigest()
        item = Contribution(
            id, prompt, person, part.type, words, None if words is not None else f"{id}{suffix}", digest, time.time()
        )
        with self.lock:  # what comes twice at once is kept once
            before = self._items("WHERE id = ?", id)
            if before and before[0].person == person:
                return before[0]
            if before or self.rows("SELECT 1 FROM withdrawn WHERE item = ?", id):
                raise ConfigError(f"the id {id!r} is another item's; expected one that is new")
            if (
                self.rows("SELECT count(*) FROM items WHERE prompt = ? AND person = ?", prompt, person)[0][0]
                >= self.plan.per_prompt
            ):
                raise ConfigError(
                    f"you gave {self.plan.per_prompt} to this prompt; expected something for another one: ask for the next"
                )
            if item.file is not None and self.rows("SELECT 1 FROM items WHERE digest = ? AND file IS NOT NULL", digest):
                raise NotGoodError("this very file was given before; expected something of your own")
            self._insert(item, data)
        return item

    def _insert(self, item: Contribution, data: bytes) -> None:
        """Keep an item and its file, if its person agrees to that at this moment."""
        path = self.folder / MEDIA / (item.file or "none")
        try:
            if item.file is not None:
                path.write_bytes(data)
                sync(path)
            with self._transaction() as file:
                if not self.purposes(item.person):
                    raise ConfigError("nothing is agreed to; expected a consent first")
                file.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", tuple(item.__dict__.values()))
        except BaseException as error:
            if item.file is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise StorageError(
                    f"{path}: {error.strerror}; nothing was kept of it: make room on the disk, and send it again"
                ) from error
            raise

    # Reviewing

    def to_review(self, person: str) -> Contribution | None:
        """Somebody else's item that is not settled and that the person has not voted on, the oldest first. Raises ConfigError without consent."""
        self._must_agree(person)
        query = (
            "WHERE person != ?1 AND id NOT IN (SELECT item FROM votes WHERE person = ?1) "
            "AND (SELECT count(*) FROM votes WHERE item = id AND is_good) < ?2 "
            "AND (SELECT count(*) FROM votes WHERE item = id AND NOT is_good) < ?2 ORDER BY at LIMIT 1"
        )
        items = self._items(query, canonical(person), self.plan.votes)
        return items[0] if items else None

    def vote(self, person: str, item: str, is_good: bool) -> str:
        """Keep whether an item will do; returns how it stands. Raises ConfigError for one's own, and for one that is not here (any more)."""
        person = canonical(person)
        with self._transaction() as file:  # nothing is taken back meanwhile
            reviewed = self.find(item)
            self._must_agree(person)
            if self.standing(item) != OPEN:
                raise ConfigError("this is settled; expected a vote on an item that is open")
            if reviewed.person == person:
                raise ConfigError("this is your own; expected a vote on somebody else's")
            file.execute("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?)", (item, person, int(is_good), time.time()))
        return self.standing(item)

    def _must_agree(self, person: str) -> None:
        if not self.purposes(person):
            raise ConfigError("nothing is agreed to; expected a consent before a review")

    def standing(self, item: str) -> str:
        """`accepted` or `rejected`, by whichever had the votes first; `open` before that."""
        return self._standings(item).get(item, OPEN)

    def _standings(self, item: str = "") -> dict[str, str]:
        """How items stand that are not open, or that one."""
        where, values = ("WHERE item = ?", [item]) if item else ("", [])
        counts, standings = dict[str, list[int]](), dict[str, str]()
        for id, is_good in self.rows(f"SELECT item, is_good FROM votes {where} ORDER BY at", *values):
            of_item = counts.setdefault(id, [0, 0])
            of_item[is_good] += 1
            if of_item[is_good] >= self.plan.votes:
                standings.setdefault(id, ACCEPTED if is_good else REJECTED)
        return standings

    # What there is

    def find(self, item: str) -> Contribution:
        """An item. Raises ConfigError."""
        items = self._items("WHERE id = ?", item)
        if not items:
            raise ConfigError(f"the item {item!r:.40} is not here; expected one that was given and not taken back")
        return items[0]

    def items_of(self, person: str) -> list[Contribution]:
        """What a person gave, the latest first."""
        return self._items("WHERE person = ? ORDER BY at DESC", canonical(person))

    def all_items(self) -> list[Contribution]:
        """All that was given, in order."""
        return self._items("ORDER BY at")

    def _items(self, query: str, *values: object) -> list[Contribution]:
        return [
            Contribution(*row)
            for row in self.rows(
                f"SELECT id, prompt, person, type, words, file, digest, at FROM items {query}", *values
            )
        ]

    def part(self, item: Contribution) -> Part:
        """An item as a part: words, or the path of its file."""
        return Part(item.type, item.words if item.file is None else str(self.folder / MEDIA / item.file))

    def note_export(self, folder: Path, items: Iterable[str]) -> None:
        """Keep that a data folder holds some items, and the hashes of its files of rows, so that it can be cleared of them."""
        digests = json.dumps([sha256_of(path) for path in sorted(folder.glob("*.jsonl"))])
        held, place = json.dumps(sorted(items)), str(folder.resolve())
        query = "SELECT rows, items FROM exports WHERE folder = ? ORDER BY number DESC LIMIT 1"
        if self.rows(query, place) == [(digests, held)]:
            return
        with self._transaction() as file:
            file.execute(
                "INSERT INTO exports (folder, rows, items, at) VALUES (?, ?, ?, ?)",
                (place, digests, held, time.time()),
            )

    def ever_exported(self, folder: Path) -> set[str]:
        """The items that a data folder has ever held."""
        rows = self.rows("SELECT items FROM exports WHERE folder = ?", str(folder.resolve()))
        return {item for (items,) in rows for item in json.loads(items)}

    def exported(self, folder: Path) -> set[str]:
        """The items that a data folder was last known to hold."""
        rows = self.rows(
            "SELECT items FROM exports WHERE folder = ? ORDER BY number DESC LIMIT 1", str(folder.resolve())
        )
        return set(json.loads(rows[0][0])) if rows else set()

    def status(self) -> dict[str, int]:
        """Counts of prompts, persons and items by standing."""
        ((items, persons),) = self.rows("SELECT count(*), count(DISTINCT person) FROM items")
        withdrawn = self.rows("SELECT count(*) FROM withdrawn")[0][0]
        counts = Counter(self._standings().values())
        by_standing = {ACCEPTED: counts[ACCEPTED], REJECTED: counts[REJECTED], OPEN: items - counts.total()}
        return {
            "prompts": len(self.current_prompts),
            "persons": persons,
            "items": items,
            **by_standing,
            "withdrawn": withdrawn,
        }

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """While this is held nobody else writes data sets of the collection, or clears them: no thread, no process."""
        with self.path.with_name(LOCK).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _note_licences(file: sqlite3.Connection) -> None:
    """Keep under which licence each text was new, where an earlier version of Plait did not: that of the plan as it is."""
    plan = file.execute("SELECT shape FROM plan").fetchone()
    licence = (Plan(**json.loads(plan[0])) if plan else Plan()).licence
    for (text,) in file.execute("SELECT text FROM consent_texts").fetchall():
        file.execute("INSERT OR IGNORE INTO licences VALUES (?, ?)", (Consent(text).version, licence))


def _prompt(shape: dict[str, Any]) -> Prompt:
    return Prompt(shape["id"], shape["type"], shape["words"], shape["how"], tuple(shape["rows"]))


def _kept_form(part: Part) -> tuple[str | None, bytes, str]:
    """What is kept of a part: its words, or bytes written anew from its samples, and their suffix. Raises NotGoodError for what will not do."""
    if part.type == WORDS:
        words = str(part.value).strip()
        if not 0 < len(words) <= LONGEST_WORDS or not any(
            letter.isprintable() and not letter.isspace() for letter in words
        ):
            raise NotGoodError(f"got {len(words)} characters; expected 1 to {LONGEST_WORDS}")
        return words, words.encode(), ""
    if registry.provenance(part).declared:
        raise NotGoodError("its file says that a model made it; expected something of your own")
    transfers, checks = registry.transfers(part.type), registry.checks(part.type)
    try:
        if transfers is not None and isinstance(part.value, str | Path | bytes | Blob):
            part = transfers.decode(part.value if isinstance(part.value, bytes) else to_blob(part.value).data)
        complaints = checks.complaints(part) if checks else []
    except (RowError, OSError) as error:
        raise NotGoodError(str(error)) from error
    if complaints:
        raise NotGoodError("; ".join(complaints))
    blob = to_blob(part.value)
    return None, blob.data, blob.suffix
