"""Resumable stream of optimizer steps. All randomness of a row comes from (seed, draw number)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plait.contract import Sample
from plait.data.mix import Mix, Rows
from plait.data.pack import Batch, best_fit, collate
from plait.data.sequence import Encoder, Row
from plait.errors import RowError

MAX_CONSECUTIVE_TOO_LONG = 1000  # rows; more raise an error


class PackConfig(BaseModel):
    """Shape of one optimizer step: `sequences` of `length` tokens, in micro-batches of `micro` sequences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(256, ge=8, description="tokens of a packed sequence")
    sequences: int = Field(16, ge=1, description="packed sequences an optimizer step, over all ranks")
    micro: int = Field(0, ge=0, description="sequences a micro-batch on one rank; 0: all at once")


class Loader:
    """Packs rows drawn from a Mix. Every rank draws the same rows and keeps its own slice of the sequences."""

    def __init__(
        self, samples: Rows, weights: Mapping[str, float], encoder: Encoder, config: PackConfig, seed: int
    ) -> None:
        self.mix = Mix(samples, weights, seed)
        self.encoder, self.config, self.seed = encoder, config, seed
        self.waiting: list[tuple[int, Sample, Row]] = []  # (draw number, sample, row): encoded, not yet packed
        self.consecutive_too_long = 0
        self.too_long: dict[str, tuple[str, str]] = {}  # id of a skipped row -> (its file:line, the problem)
        self.left_over = 0  # of the waiting rows, those the last step had no room for: packed first, so none starves
        self._yielded_state: dict[str, Any] | None = None  # the state after the last step that `steps` yielded

    def _encode(self, draw: int, sample: Sample) -> Row | None:
        """The encoded row, or None if it is longer than a sequence. Raises RowError after MAX_CONSECUTIVE_TOO_LONG of those."""
        row = self.encoder.row(sample, np.random.default_rng([self.seed, 0, draw]))
        if len(row) <= self.config.length:
            return row
        problem = (
            f"{sample.where or 'a row'} of task {sample.task!r} takes {len(row)} tokens with its copies; expected at most "
            f"pack.length={self.config.length}: raise it, or shorten the row"
        )
        self.too_long.setdefault(sample.id or sample.where, (sample.where, problem))
        self.consecutive_too_long += 1
        if self.consecutive_too_long > MAX_CONSECUTIVE_TOO_LONG:
            raise RowError(f"{self.consecutive_too_long} rows in succession are too long, the last: {problem}")
        return None

    def _draw_until_full(self) -> None:
        """Draw rows until they overfill the step by a tenth, so that best-fit packing has a choice."""
        target = 1.1 * self.config.length * self.config.sequences
        num_tokens = sum(len(row) for _, _, row in self.waiting)
        while num_tokens < target:
            draw, sample = next(self.mix)
            row = self._encode(draw, sample)
            if row is not None:
                self.waiting.append((draw, sample, row))
                self.consecutive_too_long = 0
                num_tokens += len(row)

    def next_sequences(self) -> list[list[Row]]:
        """Rows of the next optimizer step: one list per sequence."""
        self._draw_until_full()
        rows = self.waiting
        contents, unplaced = best_fit(
            [len(row) for _, _, row in rows], self.config.sequences, self.config.length, first=self.left_over
        )
        sequences = [[rows[index][2] for index in indices] for indices in contents]
        self.waiting = [rows[index] for index in unplaced]
        self.left_over = len(unplaced)
        return sequences

    def next_step(self, rank: int = 0, world: int = 1) -> list[Batch]:
        """Micro-batches of the next optimizer step for rank `rank` of `world`. Raises RowError."""
        self._discard_prepared()
        return self._next(rank, world)

    def _next(self, rank: int, world: int) -> list[Batch]:
        sequences = self.next_sequences()[rank::world]
        size = self.config.micro or len(sequences)
        return [
            collate(sequences[start : start + size], self.config.length, self.encoder.vocabulary)
            for start in range(0, len(sequences), size)
        ]

    @contextmanager
    def steps(self, rank: int = 0, world: int = 1) -> Iterator[Iterator[list[Batch]]]:
        """An endless iterator of `next_step`. A thread prepares each step while the model computes the one before it, since
        torch releases Python's lock. An error is raised when its step is requested. Prepared steps that were not yielded
        are drawn again by the next use."""
        self._discard_prepared()

        def prepare() -> tuple[list[Batch], dict[str, Any]]:
            return self._next(rank, world), self._current_state()

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

    def _current_state(self) -> dict[str, Any]:
        return {"draws": self.mix.draws, "waiting": [draw for draw, _, _ in self.waiting]}

    def state(self) -> dict[str, Any]:
        """JSON: the number of rows drawn and the draw numbers of those still waiting, after the last yielded step."""
        return self._yielded_state or self._current_state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state` was taken; draws and encodes the waiting rows again."""
        self._yielded_state = None
        waiting = set(state["waiting"])
        self.mix.seek(min(waiting, default=int(state["draws"])))
        draws = [next(self.mix) for _ in range(int(state["draws"]) - self.mix.draws)]
        rows = [(draw, sample, self._encode(draw, sample)) for draw, sample in draws if draw in waiting]
        self.waiting = [(draw, sample, row) for draw, sample, row in rows if row is not None]
        self.left_over = len(self.waiting)
