"""Resumable stream of optimizer steps. Everything random about a row comes from (seed, draw number)."""

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

MOST_REFUSED = 1000  # rows in succession that are too long, before that is an error


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
        self.waiting: list[tuple[int, Sample, Row]] = []  # drawn, encoded, not yet placed
        self.refused = 0  # rows since the last that fitted
        self.too_long: dict[str, tuple[str, str]] = {}  # id of a row -> where it stands and what is wrong: left out
        self.left_over = 0  # how many of them were left over by the last step: placed first, so none waits long
        self._handed: dict[str, Any] | None = None  # the state after the last step that `steps` handed out

    def _encode(self, draw: int, sample: Sample) -> Row | None:
        """The row, or None for one that fits in no sequence. Raises RowError when no row fits."""
        row = self.encoder.row(sample, np.random.default_rng([self.seed, 0, draw]))
        if len(row) <= self.config.length:
            return row
        problem = (
            f"{sample.where or 'a row'} of task {sample.task!r} takes {len(row)} tokens with its copies; expected at most "
            f"pack.length={self.config.length}: raise it, or shorten the row"
        )
        self.too_long.setdefault(sample.id or sample.where, (sample.where, problem))
        self.refused += 1
        if self.refused > MOST_REFUSED:
            raise RowError(f"{self.refused} rows in succession are too long, the last: {problem}")
        return None

    def _draw_until_full(self) -> None:
        """Draw rows until they would overfill the step by a tenth, so that the best fit has a choice."""
        wanted = 1.1 * self.config.length * self.config.sequences
        have = sum(len(row) for _, _, row in self.waiting)
        while have < wanted:
            draw, sample = next(self.mix)
            row = self._encode(draw, sample)
            if row is not None:
                self.waiting.append((draw, sample, row))
                self.refused = 0
                have += len(row)

    def next_sequences(self) -> list[list[Row]]:
        """Rows of the next optimizer step, one list a sequence."""
        self._draw_until_full()
        rows = self.waiting
        contents, left = best_fit(
            [len(row) for _, _, row in rows], self.config.sequences, self.config.length, first=self.left_over
        )
        sequences = [[rows[index][2] for index in chosen] for chosen in contents]
        self.waiting = [rows[index] for index in left]
        self.left_over = len(left)
        return sequences

    def next_step(self, rank: int = 0, world: int = 1) -> list[Batch]:
        """Micro-batches of the next optimizer step that belong to `rank`."""
        self._return()
        return self._next(rank, world)

    def _next(self, rank: int, world: int) -> list[Batch]:
        mine = self.next_sequences()[rank::world]
        size = self.config.micro or len(mine)
        return [
            collate(mine[start : start + size], self.config.length, self.encoder.vocabulary)
            for start in range(0, len(mine), size)
        ]

    @contextmanager
    def steps(self, rank: int = 0, world: int = 1) -> Iterator[Iterator[list[Batch]]]:
        """Endless `next_step`, each prepared by a thread while the one before it is computed: torch lets go of Python's lock.
        Errors are raised where the step that has them is asked for. However it ends, the next use begins where the last step
        that was handed out left the loader."""
        self._return()

        def prepare() -> tuple[list[Batch], dict[str, Any]]:
            return self._next(rank, world), self._now()

        with ThreadPoolExecutor(1) as thread:

            def handed_out() -> Iterator[list[Batch]]:
                job = thread.submit(prepare)
                while True:
                    batches, self._handed = job.result()
                    job = thread.submit(prepare)
                    yield batches

            self._handed = self._now()
            yield handed_out()

    def _return(self) -> None:
        """Give up what was prepared and not handed out."""
        if self._handed is not None:
            self.load_state(self._handed)

    def _now(self) -> dict[str, Any]:
        return {"draws": self.mix.draws, "waiting": [draw for draw, _, _ in self.waiting]}

    def state(self) -> dict[str, Any]:
        """JSON: how many rows were drawn, and the draw numbers of those that still wait for a place, after the last step that
        was handed out."""
        return self._handed or self._now()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state` was taken: waiting rows are drawn and encoded again."""
        self._handed = None
        wanted = set(state["waiting"])
        self.mix.seek(min(wanted, default=int(state["draws"])))
        drawn = [next(self.mix) for _ in range(int(state["draws"]) - self.mix.draws)]
        encoded = [(draw, sample, self._encode(draw, sample)) for draw, sample in drawn if draw in wanted]
        self.waiting = [(draw, sample, row) for draw, sample, row in encoded if row is not None]
        self.left_over = len(self.waiting)
