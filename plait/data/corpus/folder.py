"""A built data folder as those see it who look at it: row by row, whichever way the rows lie, in little memory."""

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
    """Up to `most` of the things that pass by, each as likely to be kept as any other (Vitter 1985, algorithm R)."""

    def __init__(self, most: int, draw: int = 0) -> None:
        self.most, self.seen = most, 0
        self.kept: list[Thing] = []
        self._rng = np.random.default_rng([*SEED, draw])

    def add(self, thing: Thing) -> None:
        self.seen += 1
        if len(self.kept) < self.most:
            self.kept.append(thing)
        elif (place := int(self._rng.integers(self.seen))) < self.most:
            self.kept[place] = thing


def drawn(samples: Iterable[Sample], count: int, draw: int = 0) -> dict[str, list[Sample]]:
    """Up to `count` samples of each task; the number `draw` decides which."""
    held: dict[str, Reservoir[Sample]] = {}
    for sample in samples:
        held.setdefault(sample.task, Reservoir(count, draw)).add(sample)
    return {task: reservoir.kept for task, reservoir in held.items()}


@dataclass(frozen=True)
class DataFolder:
    """What `recipe` built in `place`, and the modalities that read it."""

    recipe: TrainingConfig
    place: Path
    manifest: Mapping[str, Any]
    known: Mapping[str, Modality]

    def _shards(self) -> ShardRows | None:
        in_shards = not (self.place / f"{TRAIN}.jsonl").is_file() and shards_of(self.place, TRAIN)
        return ShardRows(self.place, TRAIN, self.known) if in_shards else None

    def train(self) -> Iterator[Sample]:
        """All training rows, as they lie. Raises DataError where there are none, RowError for a bad one."""
        shards = self._shards()
        if shards is None:
            return read_rows(self.place / f"{TRAIN}.jsonl", self.known)
        return (shards.row(number) for number in range(len(shards.rows)))

    def some(self, count: int) -> dict[str, list[Sample]]:
        """Up to `count` training rows of each task, always the same."""
        shards = self._shards()
        if shards is None:
            return drawn(self.train(), count)
        rng = np.random.default_rng(SEED)
        chosen = {task: sorted(rng.permutation(len(rows))[:count].tolist()) for task, rows in shards.items()}
        return {task: [shards[task][place] for place in places] for task, places in chosen.items()}

    def held_out(self) -> dict[str, list[Path]]:
        """Files of held-out rows by split: TASK.SPLIT.jsonl, or SPLIT.jsonl where the recipe names the split."""
        paths = [*self.place.glob("*.*.jsonl"), *(self.place / f"{split}.jsonl" for split in self.recipe.hold_out)]
        found: dict[str, list[Path]] = {}
        for path in sorted(filter(Path.is_file, paths)):
            found.setdefault(path.stem.rpartition(".")[2], []).append(path)
        return {split: found[split] for split in sorted(found, key=lambda name: (name == "dev", name != "test", name))}

    def held_out_rows(self, split: str) -> Iterator[Sample]:
        """All rows of a held-out split."""
        return chain.from_iterable(read_rows(path, self.known) for path in self.held_out()[split])

    def some_held_out(self, count: int) -> dict[str, list[tuple[str, Sample]]]:
        """Up to `count` held-out rows of each task with their splits: one of each split in turn."""
        by_task: dict[str, list[list[tuple[str, Sample]]]] = {}
        for draw, split in enumerate(self.held_out()):  # splits may ask about the same things, in the same order
            for task, samples in drawn(self.held_out_rows(split), count, draw).items():
                by_task.setdefault(task, []).append([(split, sample) for sample in samples])
        return {
            task: [row for rank in zip_longest(*splits) for row in rank if row is not None][:count]
            for task, splits in by_task.items()
        }


def open_folder(recipe: TrainingConfig, folder: Path | None = None) -> DataFolder:
    """What `recipe` built in `folder` (its own if none is given). Raises DataError when nothing is built there."""
    place = folder or Path(recipe.data)
    manifest = manifest_of(place)
    if not manifest:
        raise DataError(f"{place} holds no built data; build it with: plait data build {recipe.name} --folder {place}")
    return DataFolder(recipe, place, manifest, registry.build_all(recipe.modalities))
