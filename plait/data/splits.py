"""Held-out splits of somebody's rows, by content: what was seen in training is never measured as unseen.

A *group* is what must not be torn apart: a medium, by the hash of its file (two names of one picture are one), or in a
row of words alone the question, without case, doubled blanks and the marks at its end. Where the folder has `test.jsonl` (or another split's
file), its groups are its own, and training rows that share one are left out. Where it has not, a share of the groups of
`train.jsonl` is held out, chosen by hash, so that the same group always lands in the same split. A row whose media
belong to different splits belongs to none. What a twentieth of the rows have in common (one question asked over and over) is
learned from, whatever its hash.
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
from plait.data.rows import read_rows
from plait.runtime.files import atomic_write, sha256_of

TRAIN, APART = "train", "apart"
FORMAT = 3
COMMON = 0.05  # a group of more than this share of the rows is never held out
NAME = "splits.json"


@dataclass
class Splits:
    """Which rows belong to every held-out split. `ids` are those of rows of `train.jsonl` that are not for training, by
    split; those under `apart` belong to none, `leaks` of them share a group with a given split's file."""

    folder: Path
    given: tuple[str, ...] = ()
    ids: dict[str, list[str]] = field(default_factory=dict)
    leaks: int = 0

    @property
    def not_for_training(self) -> frozenset[str]:
        """Ids of all rows of `train.jsonl` that training leaves out."""
        return frozenset(row for rows in self.ids.values() for row in rows)

    def rows(self, split: str, known: Mapping[str, Modality], bad: Container[str] = ()) -> Iterator[Sample]:
        """Samples of a split; `bad` are ids of rows of its file to leave out."""
        if split in self.given:
            yield from read_rows(self.folder / f"{split}.jsonl", known, bad, on_bad=lambda error: None)
            return
        wanted = frozenset(self.ids.get(split, ()))
        others = self.not_for_training
        for sample in read_rows(self.folder / f"{TRAIN}.jsonl", known, bad):
            if sample.id in wanted or (split == TRAIN and sample.id not in others):
                yield sample

    def __str__(self) -> str:
        held = [f"{split}.jsonl as {split}" for split in self.given]
        held += [f"{len(rows)} rows of train.jsonl as {split}" for split, rows in self.ids.items() if split != APART]
        said = f"held out: {', '.join(held) or 'nothing'}"
        if self.leaks:
            said += f"; {self.leaks} training rows left out that share a picture, clip or question with a given split"
        if apart := len(self.ids.get(APART, ())) - self.leaks:
            said += f"; {apart} rows left out whose media belong to different splits"
        return said


def _whole_rows(path: Path, known: Mapping[str, Modality]) -> Iterator[Sample]:
    """Rows of a file that can be parsed; the validator names the others."""
    return read_rows(path, known, on_bad=lambda error: None)


@lru_cache(200_000)
def hash_of_file(path: str) -> int:
    """64 bits of a medium's content; of its name where it cannot be read, which the validator says."""
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


def groups(sample: Sample, known: Mapping[str, Modality]) -> set[int]:
    """64-bit hashes of the groups of a row."""
    parts = [part for message in sample.messages for part in message.parts]
    media = {hash_of_file(part.value) for part in parts if known[part.type].head == "flow"}
    if media:
        return media
    asked = next((m for m in sample.messages if m.role == "user"), sample.messages[0])
    return {_hash_of_words(" ".join(str(part.value) for part in asked.parts))}


def chosen(group: int, shares: Mapping[str, float]) -> str:
    """The split that a group falls in."""
    place, end = group / 2**64, 0.0
    for split, share in sorted(shares.items()):
        end += share
        if place < end:
            return split
    return TRAIN


def make(folder: Path, shares: Mapping[str, float], known: Mapping[str, Modality], bad: Container[str] = ()) -> Splits:
    """Splits of `folder`. `shares` names every split that is wanted; those with a file are taken from it."""
    given = tuple(split for split in sorted(shares) if (folder / f"{split}.jsonl").is_file())
    splits = Splits(folder, given)
    taken: set[int] = set()
    for split in given:
        for sample in _whole_rows(folder / f"{split}.jsonl", known):
            taken |= groups(sample, known)
    wanted = {split: share for split, share in shares.items() if split not in given}
    rows = [(sample.id, groups(sample, known)) for sample in read_rows(folder / f"{TRAIN}.jsonl", known, bad)]
    counts = Counter(group for _, of_row in rows for group in of_row)
    for row, of_row in rows:
        if of_row & taken:
            splits.leaks += 1
            splits.ids.setdefault(APART, []).append(row)
            continue
        sides = {chosen(group, wanted) if counts[group] <= COMMON * len(rows) else TRAIN for group in of_row}
        if len(sides) > 1:
            splits.ids.setdefault(APART, []).append(row)
        elif sides != {TRAIN}:
            splits.ids.setdefault(sides.pop(), []).append(row)
    return splits


def kept(
    place: Path, folder: Path, shares: Mapping[str, float], known: Mapping[str, Modality], bad: Container[str] = ()
) -> Splits:
    """`make`, remembered in the folder `place`; remembered splits of other files or shares stay, and are not used."""
    files = {path.name: sha256_of(path) for path in sorted(folder.glob("*.jsonl")) if path.stem in (*shares, TRAIN)}
    facts = {"format": FORMAT, "files": files, "shares": dict(shares)}
    path = place / NAME
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if {key: found.get(key) for key in facts} == facts:
            return Splits(folder, tuple(found["given"]), found["ids"], found["leaks"])
        return make(folder, shares, known, bad)
    splits = make(folder, shares, known, bad)
    held = {"given": splits.given, "ids": splits.ids, "leaks": splits.leaks}
    atomic_write(path, json.dumps(facts | held))
    return splits
