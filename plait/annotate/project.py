"""A project at work: who is asked what next, and what everybody has said, folded from the store's events.

The state is in memory, the events are on disk before it changes: a process that is killed comes back with all that it answered for.
What is handed out is not kept: after a restart it is handed out again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from plait.annotate.kinds import Json
from plait.annotate.store import ANSWER, DECIDE, IMPORT, SKIP, UNDO, Event, Item, Prediction, Store
from plait.errors import ConfigError
from plait.runtime.persons import canonical

LEASE = 600.0  # seconds that an item is kept for whom it was handed to
MANY_SKIPS = 2  # persons who pass over an item, after which it is left to a review
LONGEST_ID = 100  # characters


@dataclass(frozen=True)
class Plan:
    """How items are shared out. `overlap`: persons an item; `gold_every`: every so many-th item of a person is one whose answer is known
    (0: none); `is_active`: items of which models are unsure come first; `reviewers`: who may decide (none: everybody)."""

    overlap: int = 1
    gold_every: int = 10
    is_active: bool = True
    reviewers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.overlap <= 100:
            raise ConfigError(f"overlap={self.overlap}: expected 1 to 100 persons an item")
        if self.gold_every < 0:
            raise ConfigError(f"gold_every={self.gold_every}: expected 0 (none) or more")


@dataclass(frozen=True)
class Vote:
    """What one person says of one item now: an answer, or that it was passed over (`value` None)."""

    person: str
    value: Json
    event: Event

    @property
    def is_answer(self) -> bool:
        """Whether it says something of the item."""
        return self.event.kind != SKIP and self.value is not None


class Project:
    """People at work on the items of a store, as it was planned last where no `plan` is given. Its methods may be called from several threads."""

    def __init__(self, store: Store, plan: Plan | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        if plan is not None:
            store.plan = asdict(plan)
        kept = store.plan or {}
        self.store, self.clock = store, clock
        self.plan = Plan(**{**kept, "reviewers": tuple(kept.get("reviewers", ()))})
        self.question = store.question
        self.lock = threading.RLock()
        self.items: dict[str, Item] = {}
        self.votes: dict[str, dict[str, Vote]] = {}  # by item and person
        self.decisions: dict[str, dict[str, Vote]] = {}  # by item and reviewer
        self.predictions: dict[str, dict[str, Prediction]] = {}  # by item and model
        self._history: dict[
            str, list[tuple[Event, Vote | None]]
        ] = {}  # by person: what was said, what stood there before
        self._leases: dict[str, tuple[str, float]] = {}  # by person: the item, until when
        self._queue: list[str] = []  # items that nobody has answered, in the order in which they are handed out
        self._begun: dict[str, None] = {}  # items that have some of their answers, in order
        self._golds: list[str] = []
        self._absent: set[str] = set()  # items whose medium is not what it was
        self._undone: dict[str, str] = {}  # items by the id of the event that took back what was said of them
        self._complete: set[str] = set()  # items that have all their answers, or a decision
        self._answers = 0  # of items whose answer is not known
        self.load()

    def load(self) -> None:
        """Take in what the store holds."""
        with self.lock:
            for item in self.store.items():
                self.items.setdefault(item.id, item)
                self.votes.setdefault(item.id, {})
                self.decisions.setdefault(item.id, {})
            for prediction in self.store.predictions():
                self.predictions.setdefault(prediction.item, {})[prediction.model] = prediction
            for event in self.store.events():
                self._fold(event)
            self._order()

    def add_predictions(self, predictions: list[Prediction]) -> None:
        """Keep what a model guesses; what is handed out next follows it. Raises StorageError."""
        self.store.add_predictions(predictions)
        with self.lock:
            for prediction in predictions:
                self.predictions.setdefault(prediction.item, {})[prediction.model] = prediction
            self._order()

    def leave_out(self, items: set[str]) -> None:
        """Ask about some items no more; what was said of them stays."""
        with self.lock:
            self._absent = items
            self._order()

    def has_results(self, item: str) -> bool:
        """Whether anybody answered or decided."""
        return bool(self.decisions[item]) or bool(self.answers_of(item))

    def is_absent(self, item: str) -> bool:
        """Whether an item is asked about no more."""
        return item in self._absent

    def uncertainty(self, item: str) -> float:
        """How unsure models are of an item: the share of them that contradict the most of them, and the mean doubt of each."""
        guesses = list(self.predictions.get(item, {}).values())
        if not guesses:
            return 0.0
        most = Counter(repr(guess.value) for guess in guesses).most_common(1)[0][1]
        doubts = [guess.uncertainty for guess in guesses if guess.uncertainty is not None]
        return 1 - most / len(guesses) + (sum(doubts) / len(doubts) if doubts else 0.0)

    def _order(self) -> None:
        self._golds = [id for id, item in self.items.items() if item.gold is not None]
        fresh = [id for id, item in self.items.items() if item.gold is None and not self.answers_of(id)]
        if self.plan.is_active:
            fresh.sort(key=lambda id: -self.uncertainty(id))
        self._queue = fresh[::-1]  # the next one is the last
        self._begun = dict.fromkeys(
            id
            for id, item in self.items.items()
            if item.gold is None and 0 < len(self.answers_of(id)) < self.plan.overlap
        )

    @property
    def decided(self) -> dict[str, Vote]:
        """The decision that stands, by item: the latest of those that were not taken back."""
        return {id: decision for id in self.decisions if (decision := self.decision(id)) is not None}

    def decision(self, item: str) -> Vote | None:
        """The decision about an item that stands."""
        return max(self.decisions[item].values(), key=lambda vote: vote.event.number, default=None)

    def answers_of(self, item: str) -> dict[str, Json]:
        """What people say of an item, by person."""
        return {person: vote.value for person, vote in self.votes[item].items() if vote.is_answer}

    def _fold(self, event: Event) -> None:
        """Change the state by what was said."""
        history = self._history.setdefault(event.person, [])
        if event.kind == UNDO:
            self._undone[event.id] = event.item
            if history:
                undone, before = history.pop()
                kind, item = undone.kind, undone.item
                standing = self._table(kind)[item].get(event.person)
                if standing is not None and standing.event.number != undone.number:
                    return  # an answer that was given elsewhere since is not taken back here
                self._put(kind, item, event.person, before)
                if kind != DECIDE and self.items[item].gold is None and not self.answers_of(item):
                    self._queue.append(item)  # nobody has answered it now
            return
        if event.kind != IMPORT:  # what was given elsewhere is not taken back here
            history.append((event, self._table(event.kind)[event.item].get(event.person)))
        self._put(event.kind, event.item, event.person, Vote(event.person, event.value, event))

    def _table(self, kind: str) -> dict[str, dict[str, Vote]]:
        """What is said by a kind of event, by item and person."""
        return self.decisions if kind == DECIDE else self.votes

    def _put(self, kind: str, item: str, person: str, vote: Vote | None) -> None:
        before = len(self.answers_of(item))
        _set(self._table(kind)[item], person, vote)
        if self.items[item].gold is not None:
            return
        count = len(self.answers_of(item))
        self._answers += count - before
        (self._complete.add if self.is_complete(item) else self._complete.discard)(item)
        if 0 < count < self.plan.overlap:
            self._begun[item] = None
        else:
            self._begun.pop(item, None)

    def next(self, person: str) -> Item | None:
        """The item that a person is asked about next, kept for them for a while; None where nothing is left for them. The one that they have
        not answered yet comes again. Raises ConfigError for a bad name."""
        person = canonical(person)
        with self.lock:
            now = self.clock()
            held = self._leases.get(person)
            if held is not None and held[1] > now and person not in self.votes[held[0]]:
                return self.items[held[0]]
            id = self._gold(person) or self._open(person, now)
            if id is None:
                self._leases.pop(person, None)
                return None
            self._leases[person] = (id, now + LEASE)
            return self.items[id]

    def _gold(self, person: str) -> str | None:
        """A known item, where it is time for one."""
        every = self.plan.gold_every
        count = sum(event.kind == ANSWER for event, _ in self._history.get(person, ()))
        if not every or (count + 1) % every:
            return None
        return next((id for id in self._golds if person not in self.votes[id] and id not in self._absent), None)

    def _open(self, person: str, now: float) -> str | None:
        """What others have begun, before what nobody has."""
        leased = Counter(id for other, (id, until) in self._leases.items() if other != person and until > now)

        def is_free(id: str) -> bool:
            votes = self.votes[id]
            skips = sum(not vote.is_answer for vote in votes.values())
            return (
                person not in votes
                and id not in self._absent
                and not self.decisions[id]
                and skips < MANY_SKIPS
                and len(votes) - skips + leased[id] < self.plan.overlap
            )

        begun = next((id for id in self._begun if is_free(id)), None)
        if begun is not None:
            return begun
        while self._queue and self.answers_of(self._queue[-1]):
            self._queue.pop()
        return next((id for id in reversed(self._queue) if is_free(id)), None)

    def say(
        self, kind: str, item: str, person: str, value: Json, id: str, seconds: float | None = None
    ) -> Event | None:
        """Keep what a person says of an item: an answer, that they pass it over, or a decision; None where it was kept under this id
        already. Raises ConfigError for what does not fit, StorageError for what could not be kept."""
        person = canonical(person)
        if item not in self.items:
            raise ConfigError(f"got the item {item!r:.60}; expected one of this project's: ask for the next")
        if not id or len(id) > LONGEST_ID:
            raise ConfigError(
                f"got the id {id!r:.60}; expected 1 to {LONGEST_ID} characters that are new with every answer"
            )
        if kind == DECIDE:
            self.check_reviewer(person)
        value = None if kind == SKIP else self.question.checked(value)
        return self._kept(Event(id, kind, item, person, value, seconds))

    def undo(self, person: str, id: str) -> Item | None:
        """Take back the last thing that a person said; returns the item that it was about, which is theirs again, or None where there is
        nothing to take back. Raises StorageError."""
        person = canonical(person)
        with self.lock:
            if id in self._undone:  # it was sent twice
                return self.items[self._undone[id]]
            history = self._history.get(person)
            if not history:
                return None
            kind, item = history[-1][0].kind, history[-1][0].item
            if self._kept(Event(id, UNDO, item, person)) is not None and kind != DECIDE:
                self._leases[person] = (item, self.clock() + LEASE)
            return self.items[item]

    def _kept(self, event: Event) -> Event | None:
        with self.lock:
            kept = self.store.append([event])
            if not kept:
                before = self.store.event(event.id)
                if before is None or (before.person, before.item, before.value) != (
                    event.person,
                    event.item,
                    event.value,
                ):
                    raise ConfigError(
                        f"the id {event.id!r} is another answer's; expected one that is new with every answer"
                    )
            for each in kept:
                self._fold(each)
            if event.kind in (ANSWER, SKIP) and self._leases.get(event.person, ("", 0))[0] == event.item:
                self._leases.pop(event.person)
            return kept[0] if kept else None

    def take(self, items: list[Item], events: list[Event]) -> tuple[int, int]:
        """Add items and what was said of them elsewhere; returns how many of each are new. Raises ConfigError, StorageError."""
        checked = [e if e.value is None else replace(e, value=self.question.checked(e.value)) for e in events]
        count = self.store.add_items(items)
        with self.lock:
            for item in self.store.items():
                self.items.setdefault(item.id, item)
                self.votes.setdefault(item.id, {})
                self.decisions.setdefault(item.id, {})
            kept = self.store.append(checked)
            for event in kept:
                self._fold(event)
            self._order()
        return count, len(kept)

    def may_decide(self, person: str) -> bool:
        """Whether a person is a reviewer, as everybody is where none are named."""
        reviewers = {canonical(name) for name in self.plan.reviewers}
        return not reviewers or (bool(person) and canonical(person) in reviewers)

    def check_reviewer(self, person: str) -> None:
        """Raise ConfigError unless a person may decide."""
        if not self.may_decide(person):
            raise ConfigError(
                f"{person} decides nothing here; expected one of the reviewers: {', '.join(self.plan.reviewers)}"
            )

    def is_complete(self, item: str) -> bool:
        """Whether an item has all its answers, or a decision."""
        return bool(self.decisions[item]) or len(self.answers_of(item)) >= self.plan.overlap

    def progress(self, person: str = "") -> dict[str, Any]:
        """How far the work is, all in all and of one person."""
        with self.lock:
            mine = self._history.get(canonical(person), ()) if person else ()
            return {
                "items": len(self.items) - len(self._golds) - len(self._absent - self._complete - set(self._golds)),
                "complete": len(self._complete),
                "answers": self._answers,
                "yours": sum(event.kind == ANSWER for event, _ in mine),
                "can_undo": bool(mine),
            }


def _set(table: dict[str, Vote], key: str, vote: Vote | None) -> None:
    if vote is None:
        table.pop(key, None)
    else:
        table[key] = vote
