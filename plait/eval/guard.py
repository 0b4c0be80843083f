"""What a fine-tuning broke: every task before and after, on rows that the checkpoint never learned from.

Two measures of a task. Its loss on the same rows with the same noise, paired by rows: of words and of media alike, and quick. Of
answers in words also the scores of the report, on what the model really answers. A task that was not aimed at and got
worse past its interval is a regression.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from plait.contract import WORDS, Message, Part, Sample
from plait.data.pack import collate
from plait.data.sequence import Encoder, FlowConfig
from plait.errors import MissingError, PlaitError
from plait.eval import statistics
from plait.eval.compare import SHARES
from plait.eval.metrics import boxes, score, words
from plait.eval.metrics.bench import cell
from plait.eval.runner import Evaluation
from plait.eval.suites import Measured, Outcome, Suite
from plait.infer.engine import Engine

ROWS = 24  # of a task
COPIES = 4  # noised ones of what is written: the loss of a row is their mean
AT_ONCE = 8  # rows of a forward pass
TOLERANCE, TRIFLE = 0.05, 0.02  # by which a loss may grow: a share of it, and in any case so much
MORE_THAN_A_ROW = 1.5
LOSS = "loss"
OF_ANSWERS = frozenset({**words.SCORES, **boxes.SCORES})  # scores that need no other model
SAID = ("What is the capital of France?", "The capital of France is Paris.")


@dataclass(frozen=True)
class Guarded:
    """One measure of a task before and after. `interval`: of the loss's growth, or of the score before; `aimed`: the fine-tuning was
    for this task."""

    cell: str
    task: str
    metric: str
    before: float
    after: float
    interval: tuple[float, float]
    n: int
    worse: bool
    aimed: bool

    @property
    def regressed(self) -> bool:
        """Whether it got worse and was not aimed at."""
        return self.worse and not self.aimed

    def __str__(self) -> str:
        mark = "  WORSE" if self.regressed else "  worse, and aimed at" if self.worse else ""
        return f"{self.cell:16} {self.task:18} {self.metric:24} {self.before:8.3f} -> {self.after:8.3f}{mark}"


@dataclass
class TaskMeasure:
    """Losses of the rows of a task, [n], and the entries of the scores of its answers."""

    cell: str
    losses: np.ndarray
    scores: list[dict[str, Any]] = field(default_factory=list)


def losses(engine: Engine, samples: Sequence[Sample], group: str, seed: int) -> np.ndarray:
    """[n] mean losses of the targets of a modality in each row; the noise of a row depends on its number alone. NaN without one."""
    model = engine.model
    flow = FlowConfig(copies=COPIES, null_prob=0.0, context_noise_prob=0.0, end_prob=1.0)
    encoder = Encoder(model.vocabulary, flow, features=engine.encoder.features)
    rows = [encoder.row(sample, np.random.default_rng([seed, 61, number])) for number, sample in enumerate(samples)]
    order = np.argsort([len(row) for row in rows], kind="stable")
    row_losses = np.full(len(rows), np.nan)
    for start in range(0, len(rows), AT_ONCE):
        numbers = order[start : start + AT_ONCE]
        chosen = [rows[number] for number in numbers]
        batch = collate([[row] for row in chosen], max(map(len, chosen)), model.vocabulary).to(model.device)
        with torch.inference_mode():
            of_kind = model.token_losses(batch)
        ids = of_kind[""]
        if group in model.vocabulary.offsets:
            assert ids.group is not None
            is_here = ids.group == model.vocabulary.groups.index(group)
            values, row = ids.loss[is_here], ids.row[is_here]
        else:
            values, row = of_kind[group].loss, of_kind[group].row
        for index, number in enumerate(numbers):
            if len(of_row := values[row == index]):
                row_losses[number] = float(of_row.float().mean())
    return row_losses


def measure(
    engine: Engine, suite: Suite, sampling: Mapping[str, Any], seed: int, limit: int, say: Callable[[str], Any]
) -> dict[str, TaskMeasure]:
    """Every task of a suite on its first `limit` rows, by its name."""
    bare = Suite(suite.tasks, suite.rows, {}, suite.judges_at, suite.in_words)
    evaluation = Evaluation(engine, bare, sampling, seed, limit, say)
    measured = {}
    for task in evaluation.suite.tasks:
        rows = suite.rows.rows(task, task.splits[0])[:limit]
        if not rows:
            continue
        scores = list(_scores(evaluation, task, rows)) if task.answers_in == WORDS else []
        measured[task.name] = TaskMeasure(task.cell, losses(engine, rows, task.answers_in, seed), scores)
    return measured


def _scores(evaluation: Evaluation, task: Measured, rows: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """Entries of what the model answers to the rows."""
    answers = evaluation.ask([sample.messages[:-1] for sample in rows], WORDS)
    outcome = Outcome(task, task.splits[0], rows, answers, 0.0)
    for name, right in evaluation.panel.hits(task, answers, rows).items():
        interval = statistics.wilson(sum(right), len(right))
        yield cell(outcome, f"{name}: exact match", sum(right) / len(right), interval, len(right))
    for name in task.scores:
        if name in OF_ANSWERS:
            try:
                yield from score(name)(outcome, evaluation.bench)
            except (MissingError, PlaitError) as error:
                evaluation.say(f"score {name!r} of {task.name} is left out: {error}")


def compare(
    before: Mapping[str, TaskMeasure], after: Mapping[str, TaskMeasure], aims: Collection[str]
) -> list[Guarded]:
    """Every measure of both, task by task. `aims`: names of the tasks that the fine-tuning was for."""
    compared = []
    for name, old in before.items():
        compared.append(_of_losses(name, old, after[name], name in aims))
        scores = {entry["metric"]: entry for entry in after[name].scores}
        compared += [
            _of_score(name, old.cell, entry, scores.get(entry["metric"]), name in aims) for entry in old.scores
        ]
    return compared


def _of_losses(name: str, old: TaskMeasure, new: TaskMeasure, aimed: bool) -> Guarded:
    """Paired by rows: worse where the interval of the growth lies above nothing, and the growth is no trifle; and where a loss is no
    number any more."""
    known = np.isfinite(old.losses)
    pairs = old.losses[known], new.losses[known]
    if not known.any():
        return Guarded(old.cell, name, LOSS, np.nan, np.nan, (np.nan, np.nan), 0, worse=False, aimed=aimed)
    before = float(pairs[0].mean())
    if not np.isfinite(pairs[1]).all():
        return Guarded(old.cell, name, LOSS, before, np.inf, (np.inf, np.inf), len(pairs[0]), worse=True, aimed=aimed)
    growth = pairs[1] - pairs[0]

    def mean(rows: np.ndarray) -> float:
        return float(growth[rows].mean())

    interval = statistics.bootstrap(mean, len(growth))
    worse = interval[0] > 0 and growth.mean() > max(TRIFLE, TOLERANCE * abs(before))
    return Guarded(
        old.cell, name, LOSS, before, float(pairs[1].mean()), interval, len(growth), worse=bool(worse), aimed=aimed
    )


def _of_score(name: str, cell: str, old: Mapping[str, Any], new: Mapping[str, Any] | None, aimed: bool) -> Guarded:
    """Worse where it leaves its interval, a share by more than one row; and where it is gone."""
    n, (low, high) = old.get("n", 0), old.get("ci95") or (old["value"], old["value"])
    if new is None:
        return Guarded(cell, name, old["metric"], old["value"], np.nan, (low, high), n, worse=True, aimed=aimed)
    worse = new["value"] < low if old["higher_is_better"] else new["value"] > high
    if old["metric"].endswith(SHARES):
        worse = worse and abs(new["value"] - old["value"]) * n > MORE_THAN_A_ROW
    return Guarded(
        cell, name, old["metric"], old["value"], new["value"], (low, high), n, worse=bool(worse), aimed=aimed
    )


def same_words(before: Engine, after: Engine) -> bool:
    """Whether both give words the same probabilities, to the bit, where nothing but words is said."""
    question, answer = (Part(WORDS, said) for said in SAID)
    sample = Sample((Message("user", (question,)), Message("assistant", (answer,))), "")
    logits = []
    for engine in (before, after):
        model = engine.model
        row = Encoder(model.vocabulary, FlowConfig(null_prob=0.0)).row(sample, np.random.default_rng(0))
        batch = collate([[row]], len(row), model.vocabulary).to(model.device)
        with torch.inference_mode():
            logits.append(model.categorical[WORDS](model.hidden(batch)))
    return logits[0].shape == logits[1].shape and torch.equal(*logits)


def as_entries(guarded: Sequence[Guarded]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{**asdict(one), "regressed": one.regressed} for one in guarded]
