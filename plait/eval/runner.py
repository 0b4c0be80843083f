"""Evaluate a checkpoint on a suite: every task and split, with intervals, judges, ceilings, baselines and checks."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch

from plait.contract import Message, Part, Sample
from plait.errors import DataError, MissingError
from plait.eval import beside, stats
from plait.eval.compare import SHARES
from plait.eval.judges import Judge, load_or_fit, round_trips
from plait.eval.scores import OF_THE_MODEL, Bench, score
from plait.eval.scores.bench import broken_down
from plait.eval.suite import Cycle, Measured, Outcome, Suite, partners
from plait.files import write_whole
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.infer.score import log_likelihoods
from plait.tasks.own import EXACT
from plait.threads import each

FORMAT = 1
JUDGE_FORMAT = 2  # of the judges' architecture and training: judges of another one are fitted anew
BLANK_ITEMS = 200
SWAPPED_ITEMS = 100
ROUND_TRIPS = 500  # held-out recordings that the judge also hears after phase reconstruction
COMPARED_ITEMS = 200  # made, real and copied items whose distances are measured
ERRORS = "character error rate"
MAIN = ("test", "trained")  # the split that a report's first table shows; `trained`: too few rows to hold any out
RECORDED = "recorded"  # a split that some data has: real recordings, tested on only
MANY_RECORDINGS = 2000
SHOWN = 6  # first items of every task that the report shows, whatever they are


def _medium(sample: Sample, kind: str) -> Part:
    """The first part of a modality that a row asks with."""
    return next(part for message in sample.messages[:-1] for part in message.parts if part.type == kind)


def _asks(question: Sequence[Message]) -> bool:
    """Whether there is anything in a question."""
    return any(part.type != "text" or part.value for message in question for part in message.parts)


def _share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits)) if len(hits) else 0.0


class Evaluation:
    """One checkpoint on one suite. `sampling` sets steps, guidance and temperature; `limit` bounds rows a split."""

    def __init__(
        self,
        engine: Engine,
        suite: Suite,
        sampling: Mapping[str, Any],
        seed: int = 0,
        limit: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.engine, self.suite, self.seed, self.limit, self.say = engine, suite, seed, limit, say
        self.known = engine.model.vocabulary.modalities
        self.sampling = dict(sampling)
        self.judges: dict[str, Judge] = {}
        self.ceilings: dict[str, dict[str, float]] = {}
        self.notes: list[str] = []
        self.outcomes: list[Outcome] = []
        self.bench = Bench(engine, self._trained_on, self._note_once)
        self._kept_features: dict[str, np.ndarray] = {}
        self._kept_classifiers: dict[tuple[str, str], Callable[[np.ndarray], Sequence[Any]] | None] = {}

    def _note_once(self, what: str) -> None:
        if what not in self.notes:
            self.notes.append(what)

    def _trained_on(self, kind: str, styles: Collection[str]) -> Sequence[Part]:
        """Media of the training, those in one of `styles` where any are."""
        parts, labels = self.suite.rows.labelled("train", kind) if styles else ([], [])
        alike = [part for part, of in zip(parts, labels, strict=True) if of.get("style") in styles]
        return alike or self.suite.rows.media("train", kind)

    # judges and baselines

    def prepare_judges(self) -> None:
        """Fit or load every judge, and measure its ceilings on held-out media, as recorded and after the round trip."""
        for kind, make in self.suite.judges.items():
            tests, truth = self.suite.rows.labelled("test", kind)
            if not tests:
                self.notes.append(f"no {kind} judge: no labelled {kind} is held out to measure it on")
                continue
            judge = make()
            parts, labels = self.suite.rows.labelled("judge", kind)
            kept = self.suite.judges_at / f"{kind}-{JUDGE_FORMAT}-{judge.epochs}-{self.suite.rows.digest()}.safetensors"
            doubled = kind == "audio"  # made sound passes a phase reconstruction: the judge must know that sound too
            if doubled and not kept.is_file():
                parts, labels = parts + round_trips(parts[::3]), labels + labels[::3]
            load_or_fit(judge, kept, parts, labels)
            self.judges[kind] = judge
            self.ceilings[kind] = self._accuracies(judge, tests, truth)
            self.notes.append(f"{kind} judge on {len(tests)} held-out items: {self._percent(self.ceilings[kind])}")
            if doubled:
                some = np.random.default_rng(self.seed).permutation(len(tests))[:ROUND_TRIPS]
                heard = self._accuracies(judge, round_trips([tests[i] for i in some]), [truth[i] for i in some])
                self.notes.append(
                    f"{kind} judge on {len(some)} of them after mel and phase reconstruction: {self._percent(heard)}"
                )

    @staticmethod
    def _accuracies(judge: Judge, parts: Sequence[Part], truth: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        said = judge.says(parts)
        return {name: _share([s[name] == t[name] for s, t in zip(said, truth, strict=True)]) for name in judge.classes}

    @staticmethod
    def _percent(table: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {value:.1%}" for name, value in table.items())

    def baseline(self, task: Measured, split_rows: Sequence[Sample], attribute: str) -> float:
        """Echoing the input where the answer is of its modality; a classifier from scikit-learn on the model's own
        training media where the answer is a label of its input; else always the commonest answer."""
        split_rows = [sample for sample in split_rows if attribute in sample.meta["expect"]]
        truth = [sample.meta["expect"][attribute] for sample in split_rows]
        if task.answers_in in task.gives and task.answers_in in self.judges:
            echoed = [_medium(sample, task.answers_in) for sample in split_rows]
            return _share(self.hits(task, echoed, split_rows)[attribute])
        kind = next(iter(task.gives)) if len(task.gives) == 1 else ""
        guess = None
        if task.answers_in == "text" and kind in self.suite.features:
            if (kind, attribute) not in self._kept_classifiers:
                self._kept_classifiers[kind, attribute] = self._classifier(kind, attribute)
            guess = self._kept_classifiers[kind, attribute]
        if guess is None:
            return Counter(map(str, truth)).most_common(1)[0][1] / len(truth)
        media = [_medium(sample, kind) for sample in split_rows]
        said = guess(np.stack(each(self.suite.features[kind], media)))
        return _share([self.suite.in_words(attribute, s) == t for s, t in zip(said, truth, strict=True)])

    def _classifier(self, kind: str, attribute: str) -> Callable[[np.ndarray], Sequence[Any]] | None:
        """A classifier from plain features to an attribute's values; None where the training media have no such label."""
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        parts, labels = self.suite.rows.labelled("train", kind)
        told = [index for index, label in enumerate(labels) if attribute in label]
        parts, labels = [parts[index] for index in told], [labels[index] for index in told]
        if not labels:
            return None
        model = make_pipeline(StandardScaler(with_std=kind == "audio"), KNeighborsClassifier(3))
        model.fit(np.stack(each(self.suite.features[kind], parts)), [label[attribute] for label in labels])
        return lambda x: model.predict(x).tolist()

    # asking the model

    def ask(self, questions: Sequence[tuple[Message, ...]], to: str) -> list[Part | None]:
        """The first answered part to each question, None where the model said nothing."""
        requests = [
            Request(question, to=to, seed=self.seed * 1_000_003 + number, **self.sampling)
            for number, question in enumerate(questions)
        ]
        return [next(iter(answer.message.parts), None) for answer in self.engine.generate(requests)]

    @staticmethod
    def _swapped(sample: Sample, other: Sample) -> tuple[Message, ...]:
        """The same words about another row's media."""
        media = {part.type: part for message in other.messages[:-1] for part in message.parts if part.type != "text"}
        return tuple(
            replace(message, parts=tuple(media.get(part.type, part) for part in message.parts))
            for message in sample.messages[:-1]
        )

    def run_task(self, task: Measured, split: str) -> Outcome | None:
        """Ask every question of a split; None where it has no rows."""
        rows = self.suite.rows.rows(task, split)[: self.limit]
        if not rows:
            return None
        begin = time.perf_counter()
        answers = self.ask([sample.messages[:-1] for sample in rows], task.answers_in)
        outcome = Outcome(task, split, rows, answers, time.perf_counter() - begin)
        if split == task.splits[0]:
            blanked = [task.blanked(sample, self.suite.blank) for sample in rows[:BLANK_ITEMS]]
            if all(_asks(question) for question in blanked):  # where the input is the whole question, nothing is left
                outcome.blank_answers = self.ask(blanked, task.answers_in)
            if task.gives != {"text"}:
                others = [rows[index] for index in partners(rows, SWAPPED_ITEMS)]
                swapped = [self._swapped(*pair) for pair in zip(rows[:SWAPPED_ITEMS], others, strict=True)]
                outcome.swapped_answers = self.ask(swapped, task.answers_in)
        self.outcomes.append(outcome)
        return outcome

    # scoring

    def hits(self, task: Measured, answers: Sequence[Part | None], samples: Sequence[Sample]) -> dict[str, list[bool]]:
        """Whether each answer shows what its row expects, by attribute."""
        expected = [sample.meta["expect"] for sample in samples]
        attributes = list(dict.fromkeys(name for e in expected for name in e))
        if task.answers_in == "text":
            words = [part.value.strip() if part else "" for part in answers]
            pairs = list(zip(words, expected, strict=True))
            return {name: [w == str(e[name]) for w, e in pairs if name in e] for name in attributes}
        if task.answers_in not in self.judges:
            return {}
        attributes = [name for name in attributes if name in self.judges[task.answers_in].classes]
        whole = [index for index, part in enumerate(answers) if part is not None]
        said: dict[int, dict[str, Any]] = dict(
            zip(whole, self.judges[task.answers_in].says([part for part in answers if part]), strict=True)
        )
        return {n: [i in said and said[i][n] == e[n] for i, e in enumerate(expected) if n in e] for n in attributes}

    def cells(self, outcome: Outcome, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """Entries of report.json, one an attribute, and those of the task's scores but for some."""
        task, made = outcome.task, []
        hits = self.hits(task, outcome.answers, outcome.samples)
        blank = self.hits(task, outcome.blank_answers, outcome.samples[:BLANK_ITEMS]) if outcome.blank_answers else {}
        judged = task.answers_in != "text"
        kind = task.answers_in if judged else next(iter(task.gives)) if task.relative else None
        for name, right in hits.items():
            ceiling = self.ceilings[kind][name] if kind else None
            aim = task.targets[name] if name in task.targets and outcome.split == "test" else None
            made.append(
                {
                    "cell": task.cell,
                    "task": task.name,
                    "split": outcome.split,
                    "metric": f"{name} accuracy"
                    if judged
                    else f"{name}: exact match"
                    if len(hits) > 1
                    else "exact match",
                    "higher_is_better": True,
                    "value": _share(right),
                    "ci95": list(stats.wilson(sum(right), len(right))),
                    "n": len(right),
                    "baseline": self.baseline(task, outcome.samples, name),
                    "judge": f"convolutional {kind} judge" if judged else None,
                    "judge_ceiling": ceiling,
                    "blank_input": _share(blank[name]) if blank.get(name) else None,
                    "target": aim * (ceiling if ceiling is not None else 1.0) if aim else None,
                    "seconds": round(outcome.seconds, 2),
                    "by": broken_down(
                        [sample for sample in outcome.samples if name in sample.meta["expect"]],
                        lambda rows, right=right: _share([right[row] for row in rows]),  # type: ignore[misc]
                    ),
                }
            )
        return made + self.scores(outcome, without) + (self.distances(outcome) if self.suite.distances else [])

    def scores(self, outcome: Outcome, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """Entries of the scores that the task names; one that lacks something from outside is left out, and noted once."""
        made: list[dict[str, Any]] = []
        for name in outcome.task.scores:
            if name in without:
                continue
            try:
                made += score(name)(outcome, self.bench)
            except (MissingError, DataError) as error:
                self._note_once(f"score {name!r} is left out: {error}")
        return made

    def distances(self, outcome: Outcome) -> list[dict[str, Any]]:
        """How far answers are from their references where no label says whether they are right; the baseline is another
        row's reference."""
        task, made = outcome.task, []
        labelled = all(EXACT not in sample.meta["expect"] and sample.meta["expect"] for sample in outcome.samples)
        if labelled and (task.answers_in == "text" or task.answers_in in self.judges):
            return []
        references = [sample.messages[-1].parts[0] for sample in outcome.samples]
        measured = self._measured(task.answers_in, outcome.answers, references)
        swapped = [references[index] for index in partners(outcome.samples, len(references))]
        others = self._measured(task.answers_in, swapped, references)
        for name, values in measured.items():
            found = np.array(values)

            def mean(rows: np.ndarray, found: np.ndarray = found) -> float:
                return float(found[rows].mean())

            made.append(
                {
                    "cell": task.cell, "task": task.name, "split": outcome.split, "metric": name,
                    "higher_is_better": False, "value": float(found.mean()), "ci95": list(stats.bootstrap(mean, len(found))),
                    "n": len(found), "baseline": float(np.mean(others[name])), "judge": None, "judge_ceiling": None,
                    "blank_input": None, "target": None, "seconds": round(outcome.seconds, 2), "by": {},
                }
            )  # fmt: skip
        return made

    def _measured(self, kind: str, made: Sequence[Part | None], references: Sequence[Part]) -> dict[str, list[float]]:
        """Character error rates of text (nothing said counts 1), the modality's own metrics of what else was made."""
        if kind == "text":
            said = [part.value.strip() if part else "" for part in made]
            return {ERRORS: [jiwer.cer(r.value.strip() or ".", w) for r, w in zip(references, said, strict=True)]}
        values: dict[str, list[float]] = {}
        for part, reference in zip(made, references, strict=True):
            for name, value in (self.known[kind].metrics(part, reference) if part else {}).items():
                values.setdefault(name, []).append(abs(value))
        return values

    def checks(self, outcome: Outcome) -> list[dict[str, Any]]:
        """Swapped media for every task that has them; for written media also nearness to the training data and coverage."""
        task = outcome.task
        made: list[dict[str, Any]] = []
        if outcome.swapped_answers:
            hits = self.hits(task, outcome.swapped_answers, outcome.samples[:SWAPPED_ITEMS])
            made += [
                {
                    "check": "same words, another row's media",
                    "task": task.name,
                    "attribute": name,
                    "value": _share(right),
                }
                for name, right in hits.items()
            ]
        parts = [part for part in outcome.answers if part][:COMPARED_ITEMS]
        if task.answers_in == "text" or len(parts) < 20:
            return made
        kind = task.answers_in
        real = [sample.messages[-1].parts[0] for sample in outcome.samples][:COMPARED_ITEMS]
        training = self._training_features(kind)
        copies = training[
            np.random.default_rng(self.seed).choice(len(training), min(len(training), len(parts)), replace=False)
        ]
        features = {"made": self._features(kind, parts), "real": self._features(kind, self._as_made(kind, real))}
        distances = {name: stats.nearest_distance(value, training) for name, value in features.items()}
        made.append({"check": "distance to the nearest training item", "task": task.name, **distances})
        covered = {n: stats.coverage(f, features["real"]) for n, f in (("made", features["made"]), ("copies", copies))}
        made.append({"check": "coverage of held-out features", "task": task.name, **covered})
        return made

    @staticmethod
    def _as_made(kind: str, parts: Sequence[Part]) -> Sequence[Part]:
        """Recordings as made sound comes, after phase reconstruction, so that distances compare like with like."""
        return round_trips(parts) if kind == "audio" else parts

    def _features(self, kind: str, parts: Sequence[Part]) -> np.ndarray:
        """The judge's own features of media, or plain ones where there is no judge."""
        if kind in self.judges:
            return self.judges[kind].judge(parts)[0]
        return np.stack(each(self.suite.features[kind], parts))

    def _training_features(self, kind: str) -> np.ndarray:
        """Features of the model's training media: all pictures as scanned, and of many recordings every tenth."""
        if kind not in self._kept_features:
            parts = self.suite.rows.media("train", kind)
            chosen = parts[::10] if kind == "audio" and len(parts) > MANY_RECORDINGS else parts
            self._kept_features[kind] = self._features(kind, self._as_made(kind, chosen))
        return self._kept_features[kind]

    def cycle(self, cycle: Cycle) -> dict[str, Any] | None:
        """Read back what was written on the test split; None where nothing was."""
        written = next((o for o in self.outcomes if o.task.name == cycle.writer and o.split in MAIN), None)
        if written is None:
            return None
        reader = self.suite.task(cycle.reader)
        pairs = [
            (part, self.suite.in_words(cycle.attribute, sample.meta["expect"][cycle.attribute]))
            for part, sample in zip(written.answers, written.samples, strict=True)
            if part and cycle.attribute in sample.meta["expect"]
        ]
        if not pairs:
            return None
        begin = time.perf_counter()
        said = self.ask([reader.ask_about(part) for part, _ in pairs], "text")
        hits = [bool(s and s.value.strip() == truth) for s, (_, truth) in zip(said, pairs, strict=True)]
        return {
            "cell": cycle.name, "task": f"{cycle.writer} then {cycle.reader}", "split": written.split, "metric": "cycle agreement",
            "higher_is_better": True, "value": _share(hits), "ci95": list(stats.wilson(sum(hits), len(hits))), "n": len(hits),
            "baseline": None, "judge": None, "judge_ceiling": None, "blank_input": None, "target": None,
            "seconds": round(time.perf_counter() - begin, 2), "by": {},
        }  # fmt: skip

    def beside_a_cascade(self) -> list[dict[str, Any]]:
        """The same English questions to a cascade of other models (plait.eval.beside)."""

        def ours(question: tuple[Message, ...], to: str) -> Part | None:
            return self.ask([question], to)[0]

        self.say("asking the cascade")
        try:
            cells = partial(self.cells, without=OF_THE_MODEL)
            return beside.compared(self.outcomes, ours, self.bench.folder, cells, say=self._note_once)
        except MissingError as error:
            self.notes.append(f"the cascade is left out: {error}")
            return []

    def equal_error_rates(self) -> list[dict[str, Any]]:
        """Speaker verification: the model's likelihood of each voice's name, and the judge's belief in written speech."""
        made = []
        for outcome in self.outcomes:
            if outcome.split not in MAIN or any("speaker" not in s.meta["expect"] for s in outcome.samples):
                continue
            if outcome.task.answers_in != "text" and outcome.task.answers_in not in self.judges:
                continue
            truth = [sample.meta["expect"]["speaker"] for sample in outcome.samples]
            voices = sorted(set(truth))
            if outcome.task.answers_in == "text":
                questions = [sample.messages[:-1] for sample in outcome.samples]
                scores = log_likelihoods(self.engine, questions, [Part("text", voice) for voice in voices])
                scores = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
            else:
                parts = [part for part in outcome.answers if part]
                truth = [t for t, part in zip(truth, outcome.answers, strict=True) if part]
                judge = self.judges[outcome.task.answers_in]
                voices = judge.classes["speaker"]
                scores = np.log(judge.judge(parts)[1]["speaker"] + 1e-9)
            genuine = np.array([[voice == t for voice in voices] for t in truth])
            rates = stats.bootstrap(partial(_equal_error_rate, scores, genuine), len(scores))
            rate = stats.equal_error_rate(scores.ravel(), genuine.ravel())
            check = {"check": "speaker equal error rate", "task": outcome.task.name, "value": rate}
            if rate == 0:  # every resample is perfect too: the rule of three bounds what was not seen
                rates = 0.0, min(1.0, 3 / len(scores))
            made.append({**check, "ci95": list(rates), "n": len(scores), "trials": int(genuine.size)})
        return made


def _equal_error_rate(scores: np.ndarray, genuine: np.ndarray, rows: np.ndarray) -> float:
    return stats.equal_error_rate(scores[rows].ravel(), genuine[rows].ravel())


def commit() -> str:
    """Commit of the source tree, or the installed version."""
    from plait import __version__

    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else f"version {__version__}"


def run(evaluation: Evaluation, progress: Callable[[str], None]) -> dict[str, Any]:
    """Cells and checks of report.json."""
    evaluation.prepare_judges()
    cells: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    for task in evaluation.suite.tasks:
        for split in (*task.splits, RECORDED):
            outcome = evaluation.run_task(task, split)
            if outcome is None:
                continue
            found = evaluation.cells(outcome)
            cells += found
            if split == task.splits[0]:
                checks += evaluation.checks(outcome)
            progress(
                f"{task.cell:18} {task.name:16} {split:12} "
                + "  ".join(
                    f"{c['metric']} {c['value']:.1%}"
                    if c["metric"].endswith(SHARES)
                    else f"{c['metric']} {c['value']:.3f}"
                    for c in found
                )
            )
    cells += [cell for cycle in evaluation.suite.cycles if (cell := evaluation.cycle(cycle))]
    checks += evaluation.equal_error_rates()
    cascade = evaluation.beside_a_cascade() if evaluation.suite.cascade else []
    evaluation.notes += evaluation.suite.rows.notes()  # last: some rows turn out to be unreadable when they are asked
    return {"cells": cells, "checks": checks, "cascade": cascade, "notes": evaluation.notes}


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(report, indent=1, ensure_ascii=False))


def inference_threads(count: int | None) -> None:
    if count:
        torch.set_num_threads(count)
