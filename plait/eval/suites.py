"""What an evaluation measures: tasks, held-out rows, judges, cycles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from plait.contract import WORDS, Message, Modality, Part, Sample
from plait.data import store
from plait.data.rows import read_rows
from plait.data.splits import TRAIN
from plait.eval.judges import Judge
from plait.runtime.files import sha256_of

MOST_LOOKED_AT = 50  # rows, for one that is different
Labelled = tuple[list[Part], list[dict[str, Any]]]


class Measured(Protocol):
    """What the runner needs of a task; plait.tasks.task.Task and plait.tasks.user_data.UserTask provide it."""

    @property
    def name(self) -> str: ...
    @property
    def cell(self) -> str: ...
    @property
    def gives(self) -> frozenset[str]: ...
    @property
    def answers_in(self) -> str: ...
    @property
    def targets(self) -> Mapping[str, float]: ...
    @property
    def relative(self) -> bool: ...
    @property
    def splits(self) -> tuple[str, ...]: ...
    @property
    def scores(self) -> Sequence[str]: ...

    def blanked(self, sample: Sample, blank: Mapping[str, Callable[[Part], Part]]) -> tuple[Message, ...]:
        """A row's question with its input emptied."""

    def ask_about(self, part: Part) -> tuple[Message, ...]:
        """The task's question about another medium."""


class HeldOut(Protocol):
    """Rows to measure on, and labelled media for judges, ceilings and baselines."""

    def rows(self, task: Measured, split: str) -> list[Sample]:
        """Rows with `meta["expect"]`; none where the data has no such split."""

    def labelled(self, split: str, kind: str) -> Labelled:
        """Media of a modality with their labels; splits are train, judge and test."""

    def media(self, split: str, kind: str) -> list[Part]:
        """Media of a modality, labelled or not."""

    def examples(self, task: Measured) -> Iterable[Sample]:
        """Training rows of a task, for baselines that learn from them."""

    def digest(self) -> str:
        """A hash that changes with the media that judges are fitted on."""

    def notes(self) -> list[str]:
        """Notes on the rows for the report."""


class FolderRows:
    """The files that a recipe's build writes: TASK.SPLIT.jsonl, labelled-SPLIT.jsonl."""

    def __init__(self, folder: Path, known: Mapping[str, Modality]) -> None:
        self.folder, self.known = folder, known

    def rows(self, task: Measured, split: str) -> list[Sample]:
        path = self.folder / f"{task.name}.{split}.jsonl"
        return list(read_rows(path, self.known)) if path.is_file() else []

    def labelled(self, split: str, kind: str) -> Labelled:
        parts, labels = [], []
        for sample in read_rows(self.folder / f"labelled-{split}.jsonl", self.known):
            part = sample.messages[0].parts[0]
            if part.type == kind:
                parts.append(part)
                labels.append(dict(sample.meta["labels"]))
        return parts, labels

    def media(self, split: str, kind: str) -> list[Part]:
        return self.labelled(split, kind)[0]

    def examples(self, task: Measured) -> Iterator[Sample]:
        """Training rows of a task."""
        rows = store.open_rows(self.folder, TRAIN, self.known)
        yield from rows.get(task.name, ()) if isinstance(rows, Mapping) else (s for s in rows if s.task == task.name)

    def digest(self) -> str:
        return sha256_of(self.folder / "labelled-judge.jsonl")[:12]

    def notes(self) -> list[str]:
        return []


@dataclass
class Outcome:
    """A model's answers to the rows of one task and split; None for an empty answer."""

    task: Measured
    split: str
    samples: Sequence[Sample]
    answers: list[Part | None]
    seconds: float
    blank_answers: list[Part | None] = field(default_factory=list)
    swapped_answers: list[Part | None] = field(default_factory=list)


def about(question: Sequence[Message], media: Mapping[str, Part]) -> tuple[Message, ...]:
    """A question's words about other media, by their modality; parts of other modalities stay."""
    return tuple(replace(m, parts=tuple(media.get(part.type, part) for part in m.parts)) for m in question)


def partners(samples: Sequence[Sample], count: int) -> list[int]:
    """For each of the first `count` rows, the index of the next row with other media and another expected answer.

    The next row where none of the MOST_LOOKED_AT that follow has both.
    """
    about = [tuple(str(p.value) for m in s.messages[:-1] for p in m.parts if p.type != WORDS) for s in samples]
    answers = [str(sample.messages[-1].parts[0].value) for sample in samples]
    expected = [sample.meta["expect"] or answer for sample, answer in zip(samples, answers, strict=True)]
    numbers = []
    for row in range(min(count, len(samples))):
        following = [(row + step) % len(samples) for step in range(1, 1 + min(MOST_LOOKED_AT, len(samples)))]
        others = (
            other
            for other in following
            if expected[other] != expected[row]
            and answers[other] != answers[row]
            and (about[other] != about[row] or not about[row])
        )
        numbers.append(next(others, following[0]))
    return numbers


@dataclass(frozen=True)
class Cycle:
    """Write with one task, read back with another, and compare with what was asked: needs no judge and no label.

    `further` are attributes that the reader's answer has behind `attribute`, separated by commas.
    """

    name: str
    writer: str
    reader: str
    attribute: str
    further: tuple[str, ...] = ()

    @property
    def attributes(self) -> tuple[str, ...]:
        return (self.attribute, *self.further)


def _is_of(cell: Mapping[str, Any], key: tuple[str, str, str]) -> bool:
    """Whether a target's task, split and pattern are those of a report's cell."""
    task, split, metric = key
    return (task, split) == (cell["task"], cell["split"]) and fnmatchcase(cell["metric"], metric)


@dataclass(frozen=True)
class Suite:
    """`judges` by modality, with their weights in `judges_at`; `in_words` gives a label as the model writes it. `targets`: what
    a number is to reach, by the task, the split and the metric's name (a pattern as of file names).
    """

    tasks: Sequence[Measured]
    rows: HeldOut
    judges: Mapping[str, Callable[[], Judge]]
    judges_at: Path
    in_words: Callable[[str, Any], str]
    cycles: Sequence[Cycle] = ()
    cascade: bool = False  # whether a cascade of other models is measured beside ours
    distances: bool = False  # also say how far unlabelled answers are from their references
    targets: Mapping[tuple[str, str, str], float] = field(default_factory=dict)

    def target(self, cell: Mapping[str, Any]) -> float | None:
        """What the number of a report's `cell` is to reach; None where nothing is aimed at."""
        return next((self.targets[key] for key in self.targets if _is_of(cell, key)), None)

    def without_a_cell(self, cells: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
        """Targets that none of the cells has a number for."""
        return [key for key in self.targets if not any(_is_of(cell, key) for cell in cells)]

    def task(self, name: str) -> Measured:
        return next(task for task in self.tasks if task.name == name)
