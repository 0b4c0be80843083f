"""Reads a built data folder row by row in bounded memory, from shards or from JSONL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from plait import registry
from plait.contract import Modality, Sample
from plait.data.rows import read_rows
from plait.data.shards import ShardRows, shards_of
from plait.data.splits import TRAIN
from plait.errors import DataError
from plait.runtime.files import manifest_of
from plait.train.config import TrainingConfig

SEED = (2026, 60)
Thing = TypeVar("Thing")


class Reservoir(Generic[Thing]):
    """A uniform sample of up to `most` of the things added (Vitter 1985, algorithm R)."""

    def __init__(self, most: int, draw: int = 0) -> None:
        self.most, self.seen = most, 0
        self.sample: list[Thing] = []
        self._rng = np.random.default_rng([*SEED, draw])

    def add(self, thing: Thing) -> None:
        self.seen += 1
        if len(self.sample) < self.most:
            self.sample.append(thing)
        elif (index := int(self._rng.integers(self.seen))) < self.most:
            self.sample[index] = thing


def drawn(samples: Iterable[Sample], count: int, draw: int = 0) -> dict[str, list[Sample]]:
    """Up to `count` samples of each task; `draw` seeds the choice."""
    reservoirs: dict[str, Reservoir[Sample]] = {}
    for sample in samples:
        reservoirs.setdefault(sample.task, Reservoir(count, draw)).add(sample)
    return {task: reservoir.sample for task, reservoir in reservoirs.items()}


@dataclass(frozen=True)
class DataFolder:
    """What `recipe` built in the folder `path`, and the modalities that read it."""

    recipe: TrainingConfig
    path: Path
    manifest: Mapping[str, Any]
    known: Mapping[str, Modality]

    def _shards(self) -> ShardRows | None:
        in_shards = not (self.path / f"{TRAIN}.jsonl").is_file() and shards_of(self.path, TRAIN)
        return ShardRows(self.path, TRAIN, self.known) if in_shards else None

    def train(self) -> Iterator[Sample]:
        """All training rows in stored order. Raises DataError where there are none, RowError for a bad one."""
        shards = self._shards()
        if shards is None:
            return read_rows(self.path / f"{TRAIN}.jsonl", self.known)
        return (shards.row(number) for number in range(len(shards.rows)))

    def some(self, count: int) -> dict[str, list[Sample]]:
        """Up to `count` training rows of each task, the same ones at every call."""
        shards = self._shards()
        if shards is None:
            return drawn(self.train(), count)
        rng = np.random.default_rng(SEED)
        rows_by_task = {task: sorted(rng.permutation(len(rows))[:count].tolist()) for task, rows in shards.items()}
        return {task: [shards[task][row] for row in row_numbers] for task, row_numbers in rows_by_task.items()}

    def held_out(self) -> dict[str, list[Path]]:
        """Files of held-out rows by split: TASK.SPLIT.jsonl, or SPLIT.jsonl for splits that the recipe names."""
        paths = [*self.path.glob("*.*.jsonl"), *(self.path / f"{split}.jsonl" for split in self.recipe.hold_out)]
        paths_by_split: dict[str, list[Path]] = {}
        for path in sorted(filter(Path.is_file, paths)):
            paths_by_split.setdefault(path.stem.rpartition(".")[2], []).append(path)
        return {
            split: paths_by_split[split]
            for split in sorted(paths_by_split, key=lambda name: (name == "dev", name != "test", name))
        }

    def held_out_rows(self, split: str) -> Iterator[Sample]:
        """All rows of a held-out split."""
        return chain.from_iterable(read_rows(path, self.known) for path in self.held_out()[split])

    def some_held_out(self, count: int) -> dict[str, list[tuple[str, Sample]]]:
        """Up to `count` held-out rows of each task with their splits, one of each split in turn."""
        by_task: dict[str, list[list[tuple[str, Sample]]]] = {}
        for draw, split in enumerate(self.held_out()):  # splits may ask about the same things, in the same order
            for task, samples in drawn(self.held_out_rows(split), count, draw).items():
                by_task.setdefault(task, []).append([(split, sample) for sample in samples])
        return {
            task: [row for rank in zip_longest(*splits) for row in rank if row is not None][:count]
            for task, splits in by_task.items()
        }


def open_folder(recipe: TrainingConfig, folder: Path | None = None) -> DataFolder:
    """The folder that `recipe` built (its own if `folder` is None). Raises DataError when nothing is built there."""
    path = folder or Path(recipe.data)
    manifest = manifest_of(path)
    if not manifest:
        raise DataError(f"{path} holds no built data; build it with: plait data build {recipe.name} --folder {path}")
    return DataFolder(recipe, path, manifest, registry.build_all(recipe.modalities))
