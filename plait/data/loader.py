"""Resumable stream of optimizer steps. All randomness of a row comes from (seed, draw number)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plait.contract import Sample
from plait.data.mix import Mix, Rows
from plait.data.pack import Batch, best_fit, collate
from plait.data.row import Row, with_rejected
from plait.data.sequence import Encoder
from plait.errors import ConfigError, RowError

MAX_CONSECUTIVE_TOO_LONG = 1000  # rows; more raise an error
MEASURED_AT_ONCE = 16  # rows a rank, where there are several: one message for all of them
UNKNOWN, FAILED = -1, -2  # lengths of rows


class PackConfig(BaseModel):
    """Shape of one optimizer step: `sequences` of `length` tokens, in micro-batches of `micro` sequences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(256, ge=8, description="tokens of a packed sequence")
    sequences: int = Field(16, ge=1, description="packed sequences an optimizer step, over all ranks")
    micro: int = Field(0, ge=0, description="sequences a micro-batch on one rank; 0: all at once")
    workers: int = Field(0, ge=0, description="processes that prepare rows; 0: a thread of the one that trains")


def _unchanged(numbers: np.ndarray) -> np.ndarray:
    return numbers


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, and what adds up [n] int64 numbers over all of them."""

    rank: int = 0
    world: int = 1
    add: Callable[[np.ndarray], np.ndarray] = _unchanged


ALONE = Ranks()


@dataclass
class Drawn:
    """A sample, by its draw number. Every rank knows the length of its row; those that encoded it hold the row."""

    draw: int
    sample: Sample
    length: int = UNKNOWN
    row: Row | None = None


class Loader:
    """Packs rows drawn from a Mix. Rows that are drawn in the first `steps_in_full` steps hide nothing (`flow.mask_from`).

    Every rank draws the same samples and plans the same step, for which the lengths of rows suffice. It encodes a share of
    the samples to tell the others their lengths, and then the rows of its own sequences (docs/adr/0019-rank-local-rows.md).
    """

    def __init__(
        self, samples: Rows, weights: Mapping[str, float], encoder: Encoder, config: PackConfig, seed: int,
        steps_in_full: int = 0,
    ) -> None:  # fmt: skip
        self.mix = Mix(samples, weights, seed)
        self.encoder, self.config, self.seed = encoder, config, seed
        begins = len(encoder.preamble) if encoder.preamble is not None else 0
        self.room = config.length - begins  # for rows, beside what they begin with alike
        if self.room <= 0:
            raise ConfigError(
                f"pack.length={config.length}: every conversation begins with {begins} tokens of the chat template; expected "
                f"more, such as {4 * begins}"
            )
        self.ahead: deque[Drawn] = deque()  # measured, not yet looked at
        self.waiting: list[Drawn] = []  # not yet packed
        self.consecutive_too_long = 0
        self.too_long: dict[str, tuple[str, str]] = {}  # id of a skipped row -> (its file:line, the problem)
        self.steps_in_full, self.steps_planned = steps_in_full, 0
        self.hides_from = 0 if not steps_in_full else None  # the draw number from which on rows may hide something
        self.left_over = 0  # of the waiting rows, those the last step had no room for: packed first, so none starves
        self._yielded_state: dict[str, Any] | None = None  # the state after the last step that `steps` yielded

    def _row(self, drawn: Drawn) -> Row:
        """The encoded row, which is then kept. Raises RowError."""
        if drawn.row is None:
            hides = self.hides_from is not None and drawn.draw >= self.hides_from
            drawn.row = self.encoder.row(drawn.sample, np.random.default_rng([self.seed, 0, drawn.draw]), hides)
        return drawn.row

    def _places(self, row: Row) -> int:
        """Tokens that a row takes of a sequence, beside what rows begin with alike. A row that begins otherwise and is longer
        than the room takes it all, since it needs a sequence to itself; one longer than a sequence has its own length."""
        if len(row) > self.config.length:
            return len(row)
        rejected = self._places(row.rejected) if row.rejected is not None else 0
        return min(len(row) - row.shared, self.room) + rejected

    def _measure(self, samples: Sequence[Drawn], ranks: Ranks) -> None:
        """Set the lengths of rows. Each rank encodes every `world`-th; if one cannot, all raise RowError."""
        lengths = np.zeros(len(samples), np.int64)
        problem: Exception | None = None
        for number, drawn in enumerate(samples):
            if drawn.draw % ranks.world != ranks.rank:
                continue
            try:
                lengths[number] = self._places(self._row(drawn))
            except Exception as error:  # told only after the others, who wait for this rank's lengths, have them
                lengths[number], problem = FAILED, problem or error
        for drawn, length in zip(samples, ranks.add(lengths).tolist(), strict=True):
            if length == FAILED:
                raise problem or RowError(f"{_where(drawn.sample)} cannot be encoded; another process says why")
            drawn.length = length

    def _next_drawn(self, ranks: Ranks) -> Drawn:
        """The next sample, measured. With several ranks, some are drawn and measured at once."""
        if not self.ahead:
            count = 1 if ranks.world == 1 else MEASURED_AT_ONCE * ranks.world
            samples = [Drawn(*next(self.mix)) for _ in range(count)]
            self._measure(samples, ranks)
            self.ahead.extend(samples)
        return self.ahead.popleft()

    def _fits(self, drawn: Drawn) -> bool:
        """Whether a row is no longer than a sequence; others are noted. Raises RowError after MAX_CONSECUTIVE_TOO_LONG."""
        if drawn.length <= self.room:
            self.consecutive_too_long = 0
            return True
        problem = (
            f"{_where(drawn.sample)} takes {drawn.length} tokens with its copies; expected at most "
            f"pack.length={self.config.length}: raise it, or shorten the row"
        )
        self.too_long.setdefault(drawn.sample.id or drawn.sample.where, (drawn.sample.where, problem))
        self.consecutive_too_long += 1
        if self.consecutive_too_long > MAX_CONSECUTIVE_TOO_LONG:
            raise RowError(f"{self.consecutive_too_long} rows in succession are too long, the last: {problem}")
        return False

    def _draw_until_full(self, ranks: Ranks) -> None:
        """Draw rows until they overfill the step by a tenth, so that best-fit packing has a choice."""
        if unknown := [drawn for drawn in self.waiting if drawn.length == UNKNOWN]:  # of a run that is resumed
            self._measure(unknown, ranks)
        target = 1.1 * self.room * self.config.sequences
        num_tokens = sum(drawn.length for drawn in self.waiting)
        while num_tokens < target:
            drawn = self._next_drawn(ranks)
            if self._fits(drawn):
                self.waiting.append(drawn)
                num_tokens += drawn.length

    def _plan(self, ranks: Ranks) -> list[list[Drawn]]:
        """What the sequences of the next optimizer step hold, the same on every rank."""
        if self.hides_from is None and self.steps_planned >= self.steps_in_full:
            self.hides_from = self._next_draw
            for drawn in self.ahead:
                drawn.row = None  # as when the run is resumed here; its length stays
        self.steps_planned += 1
        self._draw_until_full(ranks)
        waiting = self.waiting
        contents, unplaced = best_fit(
            [drawn.length for drawn in waiting], self.config.sequences, self.room, first=self.left_over
        )
        self.waiting = [waiting[index] for index in unplaced]
        self.left_over = len(unplaced)
        return [[waiting[index] for index in indices] for indices in contents]

    def next_sequences(self, ranks: Ranks = ALONE) -> list[list[Row]]:
        """Rows of this rank's part of the next optimizer step: one list per sequence. Raises RowError."""
        plan = self._plan(ranks)[ranks.rank :: ranks.world]
        return [[row for drawn in contents for row in with_rejected(self._row(drawn))] for contents in plan]

    def next_step(self, ranks: Ranks = ALONE) -> list[Batch]:
        """Micro-batches of this rank's part of the next optimizer step. Raises RowError."""
        self._discard_prepared()
        return self._next(ranks)

    def _next(self, ranks: Ranks) -> list[Batch]:
        sequences = self.next_sequences(ranks)
        size = self.config.micro or len(sequences)
        return [
            collate(sequences[start : start + size], self.config.length, self.encoder.vocabulary, self.encoder.preamble)
            for start in range(0, len(sequences), size)
        ]

    @contextmanager
    def steps(self, ranks: Ranks = ALONE) -> Iterator[Iterator[list[Batch]]]:
        """An endless iterator of `next_step`. A thread prepares each step while the model computes the one before it, since
        torch releases Python's lock. An error is raised when its step is requested. Prepared steps that were not yielded
        are drawn again by the next use."""
        self._discard_prepared()

        def prepare() -> tuple[list[Batch], dict[str, Any]]:
            return self._next(ranks), self._current_state()

        with ThreadPoolExecutor(1) as thread:

            def yield_steps() -> Iterator[list[Batch]]:
                job = thread.submit(prepare)
                while True:
                    batches, self._yielded_state = job.result()
                    job = thread.submit(prepare)
                    yield batches

            self._yielded_state = self._current_state()
            yield yield_steps()

    def _discard_prepared(self) -> None:
        """Return to the state after the last yielded step."""
        if self._yielded_state is not None:
            self.load_state(self._yielded_state)

    @property
    def _next_draw(self) -> int:
        """The number of the next row that is looked at; what is measured ahead is drawn again by a run that is resumed."""
        return self.ahead[0].draw if self.ahead else self.mix.draws

    def _current_state(self) -> dict[str, Any]:
        state = {"draws": self._next_draw, "waiting": [drawn.draw for drawn in self.waiting]}
        return (
            state | {"steps_planned": self.steps_planned, "hides_from": self.hides_from}
            if self.steps_in_full
            else state
        )

    def state(self) -> dict[str, Any]:
        """JSON: the number of rows drawn and the draw numbers of those still waiting, after the last yielded step."""
        return self._yielded_state or self._current_state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state` was taken; draws the waiting rows again, and measures them with the next step."""
        self._yielded_state = None
        if self.steps_in_full:
            self.steps_planned, self.hides_from = state.get("steps_planned", 0), state.get("hides_from")
        waiting = set(state["waiting"])
        self.mix.seek(min(waiting, default=int(state["draws"])))
        samples = [Drawn(*next(self.mix)) for _ in range(int(state["draws"]) - self.mix.draws)]
        self.waiting = [drawn for drawn in samples if drawn.draw in waiting]
        self.left_over = len(self.waiting)
        self.ahead.clear()


def _where(sample: Sample) -> str:
    return f"{sample.where or 'a row'} of task {sample.task!r}"
