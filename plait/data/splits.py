"""Splits a user's rows by content, so that the test never contains media or questions seen in training.

A *group* must not be divided between splits. It is a medium, by the hash of its file, or in a row of words alone the
question, without case, repeated blanks and final punctuation. If the folder has a file for a split (`test.jsonl`), the
groups of that file belong to it, and training leaves out the rows that share one. Otherwise the split gets a share of the
groups of `train.jsonl`, selected by hash, so that a group always falls in the same split. A row whose media belong to
different splits belongs to none. A group of more than COMMON of the rows, such as one question asked over and over, stays
in training.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from plait.contract import Modality, Sample
from plait.data.rows import parts_of, read_rows
from plait.runtime.files import atomic_write, sha256_of

TRAIN, APART = "train", "apart"
FORMAT = 3
COMMON = 0.05  # share of the rows above which a group is never held out
NAME = "splits.json"


@dataclass
class Splits:
    """The rows of every held-out split. `given` names the splits with a file of their own; `ids` are the rows of
    `train.jsonl` that training leaves out, by split. Those under `apart` belong to no split; `leaks` of them share a group
    with the file of a given split."""

    folder: Path
    given: tuple[str, ...] = ()
    ids: dict[str, list[str]] = field(default_factory=dict)
    leaks: int = 0

    @property
    def not_for_training(self) -> frozenset[str]:
        """Ids of all rows of `train.jsonl` that training leaves out."""
        return frozenset(row for rows in self.ids.values() for row in rows)

    def rows(self, split: str, modalities: Mapping[str, Modality], bad: Container[str] = ()) -> Iterator[Sample]:
        """Yield the samples of a split, without the rows of its file whose ids are in `bad`. Raises RowError for another bad
        row of `train.jsonl`; skips those of other files."""
        if split in self.given:
            yield from read_rows(self.folder / f"{split}.jsonl", modalities, bad, on_bad=lambda error: None)
            return
        ids = frozenset(self.ids.get(split, ()))
        not_for_training = self.not_for_training
        for sample in read_rows(self.folder / f"{TRAIN}.jsonl", modalities, bad):
            if sample.id in ids or (split == TRAIN and sample.id not in not_for_training):
                yield sample

    def __str__(self) -> str:
        sources = [f"{split}.jsonl as {split}" for split in self.given]
        sources += [f"{len(rows)} rows of train.jsonl as {split}" for split, rows in self.ids.items() if split != APART]
        summary = f"held out: {', '.join(sources) or 'nothing'}"
        if self.leaks:
            summary += (
                f"; {self.leaks} training rows left out that share a picture, clip or question with a given split"
            )
        if apart := len(self.ids.get(APART, ())) - self.leaks:
            summary += f"; {apart} rows left out whose media belong to different splits"
        return summary


def _parsable_rows(path: Path, modalities: Mapping[str, Modality]) -> Iterator[Sample]:
    """Rows of a file that can be parsed; the validator reports the others."""
    return read_rows(path, modalities, on_bad=lambda error: None)


@lru_cache(200_000)
def hash_of_file(path: str) -> int:
    """64-bit hash of a file's content; of its name if it cannot be read, which the validator reports."""
    digest = blake2b(digest_size=8)
    try:
        with open(path, "rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    except OSError:
        digest.update(path.encode("utf-8", "replace"))
    return int.from_bytes(digest.digest(), "little")


def _hash_of_words(words: str) -> int:
    plain = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", words).casefold()).strip().rstrip(".?!。？！ ")
    return int.from_bytes(blake2b(plain.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def groups(sample: Sample, modalities: Mapping[str, Modality]) -> set[int]:
    """64-bit hashes of the groups of a row (see the module's docstring)."""
    parts = list(parts_of(sample))
    media = {hash_of_file(part.value) for part in parts if modalities[part.type].head == "flow"}
    if media:
        return media
    question = next((m for m in sample.messages if m.role == "user"), sample.messages[0])
    return {_hash_of_words(" ".join(str(part.value) for part in question.parts))}


def split_of(group: int, shares: Mapping[str, float]) -> str:
    """The split of a group, by its 64-bit hash: splits take their shares in alphabetical order, training the rest."""
    position, end = group / 2**64, 0.0
    for split, share in sorted(shares.items()):
        end += share
        if position < end:
            return split
    return TRAIN


def make(
    folder: Path, shares: Mapping[str, float], modalities: Mapping[str, Modality], bad: Container[str] = ()
) -> Splits:
    """The splits of `folder`. `shares` maps every requested split to its share; a split with a file takes that instead.
    `bad` are ids of rows of `train.jsonl` to ignore. Raises DataError without `train.jsonl`, RowError for another bad row."""
    with_file = tuple(split for split in sorted(shares) if (folder / f"{split}.jsonl").is_file())
    splits = Splits(folder, with_file)
    groups_of_files: set[int] = set()
    for split in with_file:
        for sample in _parsable_rows(folder / f"{split}.jsonl", modalities):
            groups_of_files |= groups(sample, modalities)
    shares_to_draw = {split: share for split, share in shares.items() if split not in with_file}
    rows = [(sample.id, groups(sample, modalities)) for sample in read_rows(folder / f"{TRAIN}.jsonl", modalities, bad)]
    counts = Counter(group for _, of_row in rows for group in of_row)
    for row, of_row in rows:
        if of_row & groups_of_files:
            splits.leaks += 1
            splits.ids.setdefault(APART, []).append(row)
            continue
        splits_of_row = {
            split_of(group, shares_to_draw) if counts[group] <= COMMON * len(rows) else TRAIN for group in of_row
        }
        if len(splits_of_row) > 1:
            splits.ids.setdefault(APART, []).append(row)
        elif splits_of_row != {TRAIN}:
            splits.ids.setdefault(splits_of_row.pop(), []).append(row)
    return splits


def load_or_make(
    run: Path, folder: Path, shares: Mapping[str, float], modalities: Mapping[str, Modality], bad: Container[str] = ()
) -> Splits:
    """The splits in `run`/splits.json if they are of the same files and shares, else those of `make`. Writes the file
    where it is missing, and never overwrites it."""
    files = {path.name: sha256_of(path) for path in sorted(folder.glob("*.jsonl")) if path.stem in (*shares, TRAIN)}
    facts = {"format": FORMAT, "files": files, "shares": dict(shares)}
    path = run / NAME
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if {key: stored.get(key) for key in facts} == facts:
            return Splits(folder, tuple(stored["given"]), stored["ids"], stored["leaks"])
        return make(folder, shares, modalities, bad)
    splits = make(folder, shares, modalities, bad)
    contents = {"given": splits.given, "ids": splits.ids, "leaks": splits.leaks}
    atomic_write(path, json.dumps(facts | contents))
    return splits
