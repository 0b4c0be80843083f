"""Rows of a split of a data folder: from SPLIT.jsonl, in memory, or from shards, read as they are drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from plait.contract import Modality, Sample
from plait.data.mix import Rows
from plait.data.rows import read_rows
from plait.data.shards import FACTS, ShardRows, index, index_of, shards_of
from plait.runtime.files import manifest_of, sha256_of

MAX_FIT_ROWS = 50_000  # of shards, for fitting vocabularies and statistics


def file_of(folder: Path, split: str) -> Path | None:
    """The file that identifies a split's rows: its .jsonl, or the FACTS of its shards' index, written if missing; None where
    there is neither."""
    path = folder / f"{split}.jsonl"
    if path.is_file():
        return path
    if not shards_of(folder, split):
        return None
    facts = index_of(folder, split) / FACTS
    return facts if facts.is_file() else index(folder, split) / FACTS


def digest(folder: Path, split: str) -> str:
    """Hexadecimal sha256 of a split's rows (of the shards' own hashes); empty where it has none."""
    path = file_of(folder, split)
    return sha256_of(path) if path else ""


def open_rows(folder: Path, split: str, modalities: Mapping[str, Modality], skip: Collection[str] = ()) -> Rows:
    """Rows of a split without those whose ids are in `skip`. Raises DataError where it has no file, RowError for a bad row."""
    path = folder / f"{split}.jsonl"
    if path.is_file() or not shards_of(folder, split):
        return list(read_rows(path, modalities, skip))
    return ShardRows(folder, split, modalities, skip)


def missing_tasks(folder: Path) -> frozenset[str]:
    """Tasks without rows in a recipe's build, because a source was unavailable: their weights have no effect."""
    return frozenset(task for task, rows in (manifest_of(folder).get("tasks") or {}).items() if not rows)


def fitting_samples(rows: Rows, seed: int) -> list[Sample]:
    """Samples to fit modalities to: all rows in memory, or up to MAX_FIT_ROWS of those in shards, equally many a task."""
    if not isinstance(rows, Mapping):
        return list(rows)
    rng = np.random.default_rng([seed, 4])
    rows_a_task = -(-MAX_FIT_ROWS // len(rows))
    indices = {task: sorted(rng.permutation(len(of_task))[:rows_a_task]) for task, of_task in rows.items()}
    return list(chain.from_iterable((rows[task][index] for index in of_task) for task, of_task in indices.items()))
