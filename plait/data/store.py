"""The rows of a data folder's split, whichever way they lie: SPLIT.jsonl, held in memory, or shards, read as they are drawn."""

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

FIT_ROWS = 50_000  # of shards, that vocabularies and statistics are learned from


def file_of(folder: Path, split: str) -> Path | None:
    """What stands for a split's rows: its .jsonl, or the facts about its shards; None where there is neither."""
    path = folder / f"{split}.jsonl"
    if path.is_file():
        return path
    if not shards_of(folder, split):
        return None
    facts = index_of(folder, split) / FACTS
    return facts if facts.is_file() else index(folder, split) / FACTS


def digest(folder: Path, split: str) -> str:
    """sha256 of a split's rows (of the shards' own hashes), or nothing where it has none."""
    path = file_of(folder, split)
    return sha256_of(path) if path else ""


def open_rows(folder: Path, split: str, known: Mapping[str, Modality], skip: Collection[str] = ()) -> Rows:
    """Rows of a split without those whose ids are in `skip`. Raises DataError where there are none, RowError for a bad one."""
    path = folder / f"{split}.jsonl"
    if path.is_file() or not shards_of(folder, split):
        return list(read_rows(path, known, skip))
    return ShardRows(folder, split, known, skip)


def lacking(folder: Path) -> frozenset[str]:
    """Tasks that a recipe's build has no rows of, because a source could not be had: their weights mean nothing."""
    return frozenset(task for task, rows in (manifest_of(folder).get("tasks") or {}).items() if not rows)


def to_fit_on(rows: Rows, seed: int) -> list[Sample]:
    """All rows that are in memory; of those in shards up to FIT_ROWS, of every task alike."""
    if not isinstance(rows, Mapping):
        return list(rows)
    rng = np.random.default_rng([seed, 4])
    a_task = -(-FIT_ROWS // len(rows))
    chosen = {task: sorted(rng.permutation(len(of_task))[:a_task]) for task, of_task in rows.items()}
    return list(chain.from_iterable((rows[task][place] for place in places) for task, places in chosen.items()))
