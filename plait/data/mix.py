"""The order of samples: tasks are drawn by weight, samples of a task by a fresh shuffle each epoch.

The draw number alone decides the task, so the stream depends only on the seed and a counter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from plait.contract import Sample
from plait.errors import ConfigError

Rows = Sequence[Sample] | Mapping[str, Sequence[Sample]]  # samples, or samples by task, which may be on disk


def group_by_task(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Samples by task, order preserved."""
    by_task: dict[str, list[Sample]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    return by_task


class Mix:
    """Endless, resumable stream of samples. `weights` maps task -> share; the default weight is 1. Raises ConfigError for a
    weight whose task has no rows."""

    def __init__(self, samples: Rows, weights: Mapping[str, float], seed: int) -> None:
        by_task = samples if isinstance(samples, Mapping) else group_by_task(samples)
        unknown = set(weights) - set(by_task)
        if unknown or not by_task:
            raise ConfigError(
                f"mix: weights name tasks {sorted(unknown)} without rows; the data has {sorted(by_task) or 'no rows'}"
            )
        self.samples = by_task
        self.tasks = sorted(task for task in by_task if weights.get(task, 1.0) > 0)
        shares = np.array([weights.get(task, 1.0) for task in self.tasks])
        self.cumulative = np.cumsum(shares / shares.sum())
        self.seed = seed
        self.seek(0)
        self._order = lru_cache(maxsize=2 * len(self.tasks))(self._shuffle)

    def _shuffle(self, task: int, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, 1, task, epoch])
        return rng.permutation(len(self.samples[self.tasks[task]]))

    def _tasks_of(self, draws: np.ndarray) -> np.ndarray:
        """[n] task index of each of [n] draw numbers, by the golden-ratio low-discrepancy sequence: every stretch of draws
        has the configured shares."""
        share = (draws * 0.6180339887498949 + 0.5) % 1.0
        return np.searchsorted(self.cumulative, share, side="right").clip(max=len(self.tasks) - 1)

    def seek(self, draws: int) -> None:
        """Continue at draw number `draws`, which determines the position within every task."""
        self.draws = draws
        self.positions = np.zeros(len(self.tasks), np.int64)
        for start in range(0, draws, 1_000_000):
            tasks = self._tasks_of(np.arange(start, min(start + 1_000_000, draws)))
            self.positions += np.bincount(tasks, minlength=len(self.tasks))

    def __next__(self) -> tuple[int, Sample]:
        """The draw number and its sample."""
        task = int(self._tasks_of(np.array([self.draws]))[0])
        samples = self.samples[self.tasks[task]]
        epoch, index = divmod(int(self.positions[task]), len(samples))
        self.positions[task] += 1
        self.draws += 1
        return self.draws - 1, samples[int(self._order(task, epoch)[index])]
