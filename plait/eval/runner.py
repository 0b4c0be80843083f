"""Evaluates a checkpoint on a suite: every task and split, with intervals, judges, ceilings, baselines and checks."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plait.contract import WORDS, Message, Part, Sample
from plait.errors import DataError, MissingError, PlaitError
from plait.eval import statistics
from plait.eval.compare import SHARES
from plait.eval.external import cascade_baseline
from plait.eval.metrics import OF_THE_MODEL, Bench, score
from plait.eval.metrics.bench import broken_down, cell, entry, texts
from plait.eval.panel import Panel, share
from plait.eval.progress import NoProgress, Progress
from plait.eval.suites import Cycle, Measured, Outcome, Suite, about, partners
from plait.infer.engine import Engine
from plait.infer.events import Answer
from plait.infer.likelihood import log_likelihoods
from plait.infer.numerals import in_words
from plait.infer.request import SAYING, Request
from plait.infer.spoken import all_answered, says_letters
from plait.runtime.files import atomic_write
from plait.tasks.user_data import EXACT, shown_in_words

FORMAT = 1
BLANK_ITEMS = 200
SWAPPED_ITEMS = 100
COMPARED_ITEMS = 200  # made, real and copied items whose distances are measured
LEAST_COMPARED = 20  # of fewer made items the distances say nothing
MAIN = ("test", "trained")  # the split that a report's first table shows; `trained`: too few rows to hold any out
RECORDED = "recorded"  # a split that some data has: real recordings, tested on only
ROWS_AT_ONCE = 128  # questions between two reports of the progress
SHOWN = 6  # first items of every task that the report shows, whatever they are


def _asks(question: Sequence[Message]) -> bool:
    """Whether a question has any content."""
    return any(not isinstance(part.value, str) or part.value for message in question for part in message.parts)


class Evaluation:
    """One checkpoint on one suite. `sampling` sets steps, guidance and temperature; `limit` bounds the rows of a split;
    `progress` is told how many questions of a task are answered.
    """

    def __init__(
        self,
        engine: Engine,
        suite: Suite,
        sampling: Mapping[str, Any],
        seed: int = 0,
        limit: int | None = None,
        say: Callable[[str], None] = print,
        progress: Progress | None = None,
    ) -> None:
        self.engine, self.seed, self.limit, self.say = engine, seed, limit, say
        self.known = engine.model.vocabulary.modalities
        self.sampling = dict(sampling)
        self.progress = progress or NoProgress()
        self.notes: list[str] = []
        self.suite = self._of_what_it_writes(suite)
        self.outcomes: list[Outcome] = []
        self.panel = Panel(self.suite, self.known, seed, self.notes.append, engine.encoder.features)
        self.bench = Bench(
            engine, self._trained_on, self._note_once, examples=self.suite.rows.examples, judges=self.panel.judges,
            blank=self.panel.blank,
        )  # fmt: skip

    def _of_what_it_writes(self, suite: Suite) -> Suite:
        """The suite without tasks and judges of answers that the model has not learned to write; notes which."""
        unlearned = {name for name in self.known if f"flows.{name}" in self.engine.model.unlearned}
        left_out = [task.name for task in suite.tasks if task.answers_in in unlearned]
        if not left_out:
            return suite
        self.notes.append(
            f"the model has not learned to write {', '.join(sorted(unlearned))}: not asked were {', '.join(left_out)}"
        )
        tasks = [task for task in suite.tasks if task.answers_in not in unlearned]
        judges = {kind: judge for kind, judge in suite.judges.items() if kind not in unlearned}
        return replace(suite, tasks=tasks, judges=judges)

    def _note_once(self, what: str) -> None:
        if what not in self.notes:
            self.notes.append(what)

    def _trained_on(self, kind: str, styles: Collection[str]) -> Sequence[Part]:
        """Training media in one of `styles`, or all of them where none is."""
        parts, labels = self.suite.rows.labelled("train", kind) if styles else ([], [])
        alike = [part for part, of in zip(parts, labels, strict=True) if of.get("style") in styles]
        return alike or self.suite.rows.media("train", kind)

    # asking the model

    def ask(
        self, questions: Sequence[tuple[Message, ...]], to: str, what: str = "", say: Sequence[str | None] = ()
    ) -> list[Part | None]:
        """The first part in the modality `to` of the answer to each question; None for an answer without.

        `say`: what a voice that can be told is to say in each answer, None where the model writes that first. `what` names the
        questions in the progress; without a name nothing is reported. The noise of a question depends on its number alone, not
        on the batches.
        """
        progress = self.progress if what else NoProgress()
        options = [{to: {SAYING: text}} if text else {} for text in say or [None] * len(questions)]
        asked = list(zip(questions, options, strict=True))
        answers: list[Part | None] = []
        with progress.rows(what, len(questions)) as advance:
            for start in range(0, len(questions), ROWS_AT_ONCE):
                requests = [
                    Request(question, to=to, seed=self.seed * 1_000_003 + number, options=told, **self.sampling)
                    for number, (question, told) in enumerate(asked[start : start + ROWS_AT_ONCE], start)
                ]
                answers += [self._first_part(answer, to, what) for answer in all_answered(self.engine, requests)]
                advance(len(answers))
        return answers

    def _first_part(self, answer: Answer, to: str, what: str) -> Part | None:
        """What an answer holds first in the modality `to`. A question that the model refuses is noted; any other error is a defect of ours."""
        if answer.error is not None:
            if not isinstance(answer.error, PlaitError):
                raise answer.error
            self._note_once(f"a question of {what or 'a check'} got no answer: {answer.error}")
        return next((part for part in answer.message.parts if part.type == to), None)

    @staticmethod
    def _swapped(sample: Sample, other: Sample) -> tuple[Message, ...]:
        """A row's words about another row's media."""
        media = {part.type: part for message in other.messages[:-1] for part in message.parts if part.type != WORDS}
        return about(sample.messages[:-1], media)

    def _quoted_texts(self, rows: Sequence[Sample], to: str) -> list[str | None]:
        """What a voice that can be told is to say in the answer to each row: the text that the question quotes."""
        if not says_letters(self.engine.model, to):
            return [None] * len(rows)
        self._note_once(
            "an answer in sound is told to the voice: the text that the question quotes, else what the model writes first"
        )
        return [
            in_words(str(row.meta[WORDS]))
            if "{text}" in str(row.meta.get("phrasing")) and row.meta.get(WORDS)
            else None
            for row in rows
        ]

    def run_task(self, task: Measured, split: str) -> Outcome | None:
        """Asks every question of a split; None where the split has no rows."""
        rows = self.suite.rows.rows(task, split)[: self.limit]
        if not rows:
            return None
        begin = time.perf_counter()
        name = f"{task.cell} {task.name} {split}"
        answers = self.ask(
            [sample.messages[:-1] for sample in rows], task.answers_in, name, self._quoted_texts(rows, task.answers_in)
        )
        outcome = Outcome(task, split, rows, answers, time.perf_counter() - begin)
        if split == task.splits[0]:
            can_blank = task.gives - {WORDS} <= set(self.panel.blank)  # else the question would stay as it is
            blanked = [task.blanked(sample, self.panel.blank) for sample in rows[:BLANK_ITEMS]] if can_blank else []
            if blanked and all(map(_asks, blanked)):  # where the input is the whole question, nothing is left
                outcome.blank_answers = self.ask(blanked, task.answers_in, f"{name}, input blanked")
            if task.gives != {WORDS}:
                others = [rows[index] for index in partners(rows, SWAPPED_ITEMS)]
                swapped = [self._swapped(*pair) for pair in zip(rows[:SWAPPED_ITEMS], others, strict=True)]
                outcome.swapped_answers = self.ask(swapped, task.answers_in, f"{name}, another row's media")
        self.outcomes.append(outcome)
        return outcome

    # scoring

    def cells(self, outcome: Outcome, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """Entries of report.json for an outcome: one an attribute, and the task's scores but for those in `without`."""
        task, cells = outcome.task, []
        hits = self.panel.hits(task, outcome.answers, outcome.samples)
        blank_answers = outcome.blank_answers
        blank = self.panel.hits(task, blank_answers, outcome.samples[:BLANK_ITEMS]) if blank_answers else {}
        judged = not self.panel.in_words(task.answers_in)
        kind = task.answers_in if judged else next(iter(task.gives)) if task.relative else None
        for name, right in hits.items():
            ceiling = self.panel.ceilings.get(kind, {}).get(name) if kind else None
            aim = task.targets[name] if name in task.targets and outcome.split == "test" else None
            match = f"{name}: exact match" if len(hits) > 1 else "exact match"

            def accuracy(rows: np.ndarray, right: list[bool] = right) -> float:
                return share([right[row] for row in rows])

            cells.append(
                cell(
                    outcome, f"{name} accuracy" if judged else match, share(right), statistics.wilson(sum(right), len(right)),
                    len(right), baseline=self.panel.baseline(task, outcome.samples, name),
                    judge=f"convolutional {kind} judge" if judged else None, judge_ceiling=ceiling,
                    blank_input=share(blank[name]) if blank.get(name) else None,
                    target=aim * (ceiling if ceiling is not None else 1.0) if aim else None,
                    by=broken_down([sample for sample in outcome.samples if name in sample.meta["expect"]], accuracy),
                )
            )  # fmt: skip
        cells += self.scores(outcome, without) + (self.distances(outcome) if self.suite.distances else [])
        cells = cells or self._answered(outcome)
        for measured in cells:
            if (target := self.suite.target(measured)) is not None:
                measured["target"] = target
        return cells

    def _answered(self, outcome: Outcome) -> list[dict[str, Any]]:
        """The share of questions that are answered at all, where the answers' modality has neither judge nor measure."""
        if self.panel.measures(outcome.task.answers_in) is not None:
            return []
        answered = [float(part is not None) for part in outcome.answers]
        return [entry(outcome, "answered: rate", answered)]

    def scores(self, outcome: Outcome, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """Entries of the scores that the task names; a score that lacks a package is left out and noted once."""
        entries: list[dict[str, Any]] = []
        for name in outcome.task.scores:
            if name in without:
                continue
            try:
                entries += score(name)(outcome, self.bench)
            except (MissingError, DataError) as error:
                self._note_once(f"score {name!r} is left out: {error}")
        return entries

    def distances(self, outcome: Outcome) -> list[dict[str, Any]]:
        """Distances of answers from their references, where labels do not say whether they are right.

        Baseline: another row's reference.
        """
        task, cells = outcome.task, []
        labelled = all(EXACT not in sample.meta["expect"] and sample.meta["expect"] for sample in outcome.samples)
        if labelled and (self.panel.in_words(task.answers_in) or task.answers_in in self.panel.judges):
            return []
        references = [sample.messages[-1].parts[0] for sample in outcome.samples]
        measured = self._measured(task.answers_in, outcome.answers, references)
        swapped = [references[index] for index in partners(outcome.samples, len(references))]
        others = self._measured(task.answers_in, swapped, references)
        for name, values in measured.items():
            distances = np.array(values)

            def mean(rows: np.ndarray, distances: np.ndarray = distances) -> float:
                return float(distances[rows].mean())

            interval = statistics.bootstrap(mean, len(distances))
            baseline = float(np.mean(others[name]))
            facts = {"higher_is_better": False, "baseline": baseline}
            cells.append(cell(outcome, name, float(distances.mean()), interval, len(distances), **facts))
        return cells

    def _measured(
        self, kind: str, answers: Sequence[Part | None], references: Sequence[Part]
    ) -> dict[str, list[float]]:
        """The modality's distances between answers and references, by name, a number a reference.

        A missing answer counts as a part with nothing in it or as the worst of the answers, whichever is further off:
        silence never scores better than an attempt.
        """
        measures, modality = self.panel.measures(kind), self.known[kind]
        if measures is None:
            return {}
        distances: dict[str, list[float]] = {}
        for answer, reference in zip(answers, references, strict=True):
            compared = answer or measures.blank(modality, reference)
            for name, value in measures.distances(modality, compared, reference).items():
                distances.setdefault(name, []).append(abs(value))
        missing = [answer is None for answer in answers]
        for name, values in distances.items():
            worst = max((value for value, gone in zip(values, missing, strict=True) if not gone), default=0.0)
            distances[name] = [
                max(value, worst) if gone else value for value, gone in zip(values, missing, strict=True)
            ]
        return distances

    def checks(self, outcome: Outcome) -> list[dict[str, Any]]:
        """The same words with another row's media; for generated media also nearness to the training set and coverage."""
        task = outcome.task
        checks: list[dict[str, Any]] = []
        if outcome.swapped_answers:
            hits = self.panel.hits(task, outcome.swapped_answers, outcome.samples[:SWAPPED_ITEMS])
            checks += [
                {
                    "check": "same words, another row's media",
                    "task": task.name,
                    "attribute": name,
                    "value": share(right),
                }
                for name, right in hits.items()
            ]
        parts = [part for part in outcome.answers if part][:COMPARED_ITEMS]
        kind = task.answers_in
        if self.panel.in_words(kind) or len(parts) < LEAST_COMPARED or not self.panel.can_compare(kind):
            return checks
        real = [sample.messages[-1].parts[0] for sample in outcome.samples][:COMPARED_ITEMS]
        training = self.panel.training_features(kind)
        copies = training[
            np.random.default_rng(self.seed).choice(len(training), min(len(training), len(parts)), replace=False)
        ]
        features = {
            "made": self.panel.features(kind, parts),
            "real": self.panel.features(kind, self.panel.as_made(kind, real)),
        }
        distances = {name: statistics.nearest_distance(value, training) for name, value in features.items()}
        checks.append({"check": "distance to the nearest training item", "task": task.name, **distances})
        covered = {
            n: statistics.coverage(f, features["real"]) for n, f in (("made", features["made"]), ("copies", copies))
        }
        checks.append({"check": "coverage of held-out features", "task": task.name, **covered})
        return checks

    def cycle(self, cycle: Cycle) -> dict[str, Any] | None:
        """Lets the model read back what it wrote on the main split; None where it wrote nothing."""
        written = next((o for o in self.outcomes if o.task.name == cycle.writer and o.split in MAIN), None)
        if written is None:
            return None
        reader = self.suite.task(cycle.reader)
        pairs = [
            (part, {name: self.suite.in_words(name, sample.meta["expect"][name]) for name in cycle.attributes})
            for part, sample in zip(written.answers, written.samples, strict=True)
            if part and set(cycle.attributes) <= set(sample.meta["expect"])
        ]
        if not pairs:
            return None
        begin = time.perf_counter()
        readings = texts(self.ask([reader.ask_about(part) for part, _ in pairs], WORDS, f"{cycle.name} {cycle.reader}"))
        hits = [
            shown_in_words(reading, cycle.attributes) == labels
            for reading, (_, labels) in zip(readings, pairs, strict=True)
        ]
        return cell(
            written, "cycle agreement", share(hits), statistics.wilson(sum(hits), len(hits)), len(hits), cell=cycle.name,
            task=f"{cycle.writer} then {cycle.reader}", seconds=round(time.perf_counter() - begin, 2),
        )  # fmt: skip

    def beside_a_cascade(self) -> list[dict[str, Any]]:
        """The same English questions to a cascade of other models (plait.eval.external.cascade_baseline)."""

        def ask_one(question: tuple[Message, ...], to: str) -> Part | None:
            return self.ask([question], to)[0]

        self.say("asking the cascade")
        try:
            cells = partial(self.cells, without=OF_THE_MODEL)
            return cascade_baseline.compared(self.outcomes, ask_one, self.bench.folder, cells, say=self._note_once)
        except MissingError as error:
            self.notes.append(f"the cascade is left out: {error}")
            return []

    def equal_error_rates(self) -> list[dict[str, Any]]:
        """Speaker verification: by the likelihood of each voice's name, or the judge's belief in generated speech."""
        checks = []
        for outcome in self.outcomes:
            if outcome.split not in MAIN or any("speaker" not in s.meta["expect"] for s in outcome.samples):
                continue
            if not self.panel.in_words(outcome.task.answers_in) and outcome.task.answers_in not in self.panel.judges:
                continue
            truth = [sample.meta["expect"]["speaker"] for sample in outcome.samples]
            voices = sorted(set(truth))
            if self.panel.in_words(outcome.task.answers_in):
                questions = [sample.messages[:-1] for sample in outcome.samples]
                scores = log_likelihoods(self.engine, questions, [Part(WORDS, voice) for voice in voices])
                scores = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
            else:
                parts = [part for part in outcome.answers if part]
                if not parts:
                    continue
                truth = [t for t, part in zip(truth, outcome.answers, strict=True) if part]
                judge = self.panel.judges[outcome.task.answers_in]
                voices = judge.classes["speaker"]
                scores = np.log(judge.judge(parts)[1]["speaker"] + 1e-9)
            genuine = np.array([[voice == t for voice in voices] for t in truth])
            rates = statistics.bootstrap(partial(_equal_error_rate, scores, genuine), len(scores))
            rate = statistics.equal_error_rate(scores.ravel(), genuine.ravel())
            check = {"check": "speaker equal error rate", "task": outcome.task.name, "value": rate}
            if rate == 0:  # every resample is perfect too: the rule of three bounds what was not seen
                rates = 0.0, min(1.0, 3 / len(scores))
            checks.append({**check, "ci95": list(rates), "n": len(scores), "trials": int(genuine.size)})
        return checks


def _equal_error_rate(scores: np.ndarray, genuine: np.ndarray, rows: np.ndarray) -> float:
    return statistics.equal_error_rate(scores[rows].ravel(), genuine[rows].ravel())


def commit() -> str:
    """The commit of the repository that tracks this file, else the installed version."""
    file = Path(__file__)

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=file.parent, capture_output=True, text=True, check=False)

    try:
        # a repository may enclose site-packages without tracking what is in there
        tracked = git("ls-files", "--error-unmatch", file.name).returncode == 0
        head = git("rev-parse", "--short", "HEAD")
    except OSError:  # no git
        tracked = False
    if tracked and head.returncode == 0:
        return head.stdout.strip()
    try:
        return f"version {version('plait')}"
    except PackageNotFoundError:
        return "version unknown"


def run(evaluation: Evaluation, progress: Callable[[str], None]) -> dict[str, Any]:
    """Evaluates all tasks; returns the cells, checks, cascade and notes of report.json. `progress` gets a line a split."""
    evaluation.panel.prepare()
    cells: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    for task in evaluation.suite.tasks:
        for split in (*task.splits, RECORDED):
            outcome = evaluation.run_task(task, split)
            if outcome is None:
                continue
            new_cells = evaluation.cells(outcome)
            cells += new_cells
            if split == task.splits[0]:
                checks += evaluation.checks(outcome)
            scores = "  ".join(map(_score_in_words, new_cells))
            progress(f"{task.cell:18} {task.name:16} {split:12} {scores}")
    for target in evaluation.suite.without_a_cell(cells):
        evaluation.notes.append(f"nothing was measured for the target of {', '.join(target)}")
    cells += [agreement for cycle in evaluation.suite.cycles if (agreement := evaluation.cycle(cycle))]
    checks += evaluation.equal_error_rates()
    cascade = evaluation.beside_a_cascade() if evaluation.suite.cascade else []
    evaluation.notes += evaluation.suite.rows.notes()  # last: some rows turn out to be unreadable when they are asked
    return {"cells": cells, "checks": checks, "cascade": cascade, "notes": evaluation.notes}


def _score_in_words(cell: Mapping[str, Any]) -> str:
    """`exact match 12.3%`, `mse 0.123`."""
    value = f"{cell['value']:.1%}" if cell["metric"].endswith(SHARES) else f"{cell['value']:.3f}"
    return f"{cell['metric']} {value}"


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(report, indent=1, ensure_ascii=False))


def inference_threads(count: int | None) -> None:
    if count:
        torch.set_num_threads(count)
