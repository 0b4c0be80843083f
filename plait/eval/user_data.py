"""The evaluation of a user's own rows: every task found in them, on held-out rows.

Media that have labels get a judge where enough of them are held out to fit one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from plait import registry
from plait.contract import Modality, Part, Sample
from plait.data import splits as held_out
from plait.data.fit import distinct_parts
from plait.data.media import read
from plait.data.splits import TRAIN, Splits
from plait.data.validate import check_file
from plait.errors import PlaitError
from plait.eval.judges import Judge
from plait.eval.suites import Cycle, Labelled, Measured, Suite
from plait.tasks.user_data import Labels, Targets, UserTask, key_of, labels_of, tasks_of, words_of
from plait.train.config import TrainingConfig
from plait.train.run import BAD_ROWS, bad_rows, long_rows

MOST_ROWS = 500  # of a task and split; words are soon said, so of those four times as many
MOST_TRAINING_MEDIA = 20_000  # that baselines learn from
LEAST_JUDGE_MEDIA = 60  # and MEDIA_A_LABEL of each value of every attribute, on average
MEDIA_A_LABEL = 5
SEEN = "trained"


class UserRows:
    """Rows of a folder of JSONL, split by its Splits. Without held-out rows the split is `trained`: training rows."""

    def __init__(
        self, folder: Path, splits: Splits, known: Mapping[str, Modality], bad: Mapping[str, Container[str]],
        too_long: Container[str] = (),
    ) -> None:  # fmt: skip
        self.folder, self.splits, self.known, self.too_long = folder, splits, known, too_long
        self.samples: dict[str, list[Sample]] = {}
        for split in (TRAIN, "judge", "test"):
            self.samples[split] = list(
                splits.rows(split, known, bad.get(split if split in splits.given else TRAIN, ()))
            )
        self.main = "test" if self.samples["test"] else SEEN
        self.labels: Labels = labels_of([sample for split in self.samples.values() for sample in split])
        self.unreadable: list[str] = []

    def rows(self, task: Measured, split: str) -> list[Sample]:
        """Some rows of a task in an order drawn from a fixed seed, so that the first ones represent all.

        Rows that cannot be read are left out and noted.
        """
        assert isinstance(task, UserTask)
        source = self.samples.get(split, [])
        if split == SEEN:
            source = [sample for sample in self.samples[TRAIN] if sample.id not in self.too_long]
        samples = [sample for sample in source if key_of(sample) == (task.task, task.cell)]
        most = MOST_ROWS * (4 if self.known[task.answers_in].head == "categorical" else 1)
        order = np.random.default_rng([2026, 30]).permutation(len(samples))[:most]
        return [
            replace(sample, meta={**sample.meta, "expect": self.labels.expected(sample)})
            for sample in (samples[index] for index in order)
            if self._readable(sample)
        ]

    def examples(self, task: Measured) -> Iterator[Sample]:
        """Training rows of a task."""
        assert isinstance(task, UserTask)
        return (sample for sample in self.samples[TRAIN] if key_of(sample) == (task.task, task.cell))

    def _readable(self, sample: Sample) -> bool:
        try:
            for message in sample.messages:
                for part in message.parts:
                    read(self.known[part.type], part)
        except PlaitError as error:
            self.unreadable.append(f"{sample.where} is left out of the measurement: {error}")
            return False
        return True

    def media(self, split: str, kind: str) -> list[Part]:
        parts = distinct_parts(self.samples[split]).get(kind, [])
        order = np.random.default_rng([2026, 31]).permutation(len(parts))[:MOST_TRAINING_MEDIA]
        return [parts[index] for index in sorted(order)]

    def labelled(self, split: str, kind: str) -> Labelled:
        """Media that have every attribute of their modality, with their labels."""
        attributes = self.labels.values.get(kind, {})
        pairs = [
            (part, dict(self.labels.of[kind, str(part.value)]))
            for part in self.media(split, kind)
            if len(self.labels.of.get((kind, str(part.value)), ())) == len(attributes) > 0
        ]
        return [part for part, _ in pairs], [labels for _, labels in pairs]

    def digest(self) -> str:
        lines = [
            f"{held_out.hash_of_file(part.value)} {self.labels.of.get((kind, part.value))}"
            for kind in sorted(self.labels.values)
            for part in self.media("judge", kind)
        ]
        return sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()[:12]

    def notes(self) -> list[str]:
        notes = [str(self.splits), *self.unreadable[:20]]
        loose = sum(key_of(sample) is None for split in self.samples.values() for sample in split)
        if loose:
            notes.append(f"{loose} rows are no question with an answer (documents): learned, and not measured")
        measured = [s for s in self.samples.get(self.main, self.samples[TRAIN]) if key_of(s)]
        turns = sum(any(message.role == "assistant" for message in sample.messages[:-1]) for sample in measured)
        if turns:
            notes.append(f"of {turns} conversations with several answers only the last answer is measured")
        several = sum(len(sample.messages[-1].parts) > 1 for sample in measured)
        if several:
            notes.append(f"{several} answers of several parts are measured by their first part")
        if self.main == SEEN:
            notes.append(
                "too few rows to hold any out: what is measured here was trained on, and shows learning by heart"
            )
        return notes


def least_for_a_judge(classes: Mapping[str, Sequence[str]]) -> int:
    """How many labelled media a judge of these attributes needs."""
    return max([LEAST_JUDGE_MEDIA, *(MEDIA_A_LABEL * len(values) for values in classes.values())])


def _judge_of(rows: UserRows, kind: str, known: Mapping[str, Modality]) -> Callable[[], Judge] | None:
    """The constructor of a modality's judge; None where too few labelled media are held out."""
    classes = rows.labels.values.get(kind, {})
    parts, _ = rows.labelled("judge", kind)
    if not classes or len(parts) < least_for_a_judge(classes):
        return None
    judged = registry.judged(kind)
    return partial(Judge, classes, judged.judge_view(known[kind], parts)) if judged is not None else None


def _cycles(tasks: list[UserTask], rows: UserRows) -> tuple[Cycle, ...]:
    """Text to a medium and back, for every reader whose example asks for labels of the medium."""
    cycles = []
    for reader in tasks:
        kind = next(iter(reader.gives))
        attributes = rows.labels.answers.get((reader.task, words_of(reader.example)), ())
        for writer in tasks:
            if (
                attributes
                and writer.cell == f"text->{kind}"
                and set(attributes) <= set(rows.labels.values.get(kind, ()))
            ):
                cycles.append(Cycle(f"text->{kind}->text", writer.name, reader.name, attributes[0], attributes[1:]))
    return tuple(cycles)


def suite(
    recipe: TrainingConfig, run: Path, known: Mapping[str, Modality], targets: Targets
) -> tuple[Suite, frozenset[str]]:
    """The suite of the rows in `recipe.data`, and the ids of the rows of train.jsonl that training leaves out.

    Splits and judges are stored in the folder `run`.
    """
    folder = Path(recipe.data)
    listed = (run / BAD_ROWS).is_file()
    given_splits = [split for split in recipe.hold_out if (folder / f"{split}.jsonl").is_file()]
    bad = {
        split: bad_rows(run, split) if listed else _bad(folder / f"{split}.jsonl", known)
        for split in [TRAIN, *given_splits]
    }
    splits = held_out.load_or_make(run, folder, recipe.hold_out, known, bad[TRAIN])
    rows = UserRows(folder, splits, known, bad, long_rows(run))
    rows.unreadable += [f"{len(lines)} bad rows of {split}.jsonl are left out" for split, lines in bad.items() if lines]
    everything = [sample for split in rows.samples.values() for sample in split]
    tasks = tasks_of(everything, (rows.main,), targets)
    judges = {kind: judge for kind in known if (judge := _judge_of(rows, kind, known))}
    own_suite = Suite(
        tasks=tasks,
        rows=rows,
        judges=judges,
        judges_at=run / "judges",
        in_words=lambda attribute, label: str(label),
        cycles=_cycles(tasks, rows),
        distances=True,
    )
    return own_suite, bad[TRAIN] | splits.not_for_training


def _bad(path: Path, known: Mapping[str, Modality]) -> frozenset[str]:
    return frozenset(check_file(path, known, lambda bad: None).bad_ids)
