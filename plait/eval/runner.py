"""Evaluate a checkpoint on a suite: every task and split, with intervals, judges, ceilings, baselines and checks."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plait.contract import Message, Modality, Part, Sample
from plait.data.rows import read_rows, sha256_of
from plait.eval import stats
from plait.eval.judges import Judge, load_or_fit, round_trips
from plait.eval.suite import Cycle, Suite
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.infer.score import log_likelihoods
from plait.tasks.task import Task
from plait.threads import each

FORMAT = 1
JUDGE_FORMAT = 1  # of the judges' architecture and training: judges of another one are fitted anew
BLANK_ITEMS = 200
SWAPPED_ITEMS = 100
ROUND_TRIPS = 500  # held-out recordings that the judge also hears after phase reconstruction
COMPARED_ITEMS = 200  # made, real and copied items whose distances are measured
RECORDED = "recorded"  # a split that some data has: real recordings, tested on only
SHOWN = 6  # first items of every task that the report shows, whatever they are


@dataclass
class Outcome:
    """What a model answered to the rows of one task and split."""

    task: Task
    split: str
    samples: Sequence[Sample]
    answers: list[Part | None]
    seconds: float
    blank_answers: list[Part | None] = field(default_factory=list)
    swapped_answers: list[Part | None] = field(default_factory=list)


def labelled(
    data: Path, split: str, kind: str, known: Mapping[str, Modality]
) -> tuple[list[Part], list[dict[str, Any]]]:
    """Parts of one modality with their labels, from `labelled-SPLIT.jsonl`."""
    parts, labels = [], []
    for sample in read_rows(data / f"labelled-{split}.jsonl", known):
        part = sample.messages[0].parts[0]
        if part.type == kind:
            parts.append(part)
            labels.append(dict(sample.meta["labels"]))
    return parts, labels


def _digest(path: Path) -> str:
    """First digits of a file's sha256: what was fitted on other rows is not taken for theirs."""
    return sha256_of(path)[:12]


def _share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits)) if len(hits) else 0.0


class Evaluation:
    """One checkpoint on one suite. `sampling` sets steps, guidance and temperature; `limit` bounds rows a split."""

    def __init__(
        self,
        engine: Engine,
        suite: Suite,
        data: Path,
        sampling: Mapping[str, Any],
        seed: int = 0,
        limit: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.engine, self.suite, self.data, self.seed, self.limit, self.say = engine, suite, data, seed, limit, say
        self.known = engine.model.vocabulary.modalities
        self.sampling = dict(sampling)
        self.judges: dict[str, Judge] = {}
        self.ceilings: dict[str, dict[str, float]] = {}
        self.notes: list[str] = []
        self.outcomes: list[Outcome] = []
        self._kept_features: dict[str, np.ndarray] = {}
        self._kept_classifiers: dict[tuple[str, str], Callable[[np.ndarray], Sequence[Any]]] = {}

    # judges and baselines

    def prepare_judges(self) -> None:
        """Fit or load every judge, and measure its ceilings on held-out media, as recorded and after the round trip."""
        for kind, make in self.suite.judges.items():
            judge = make()
            parts, labels = labelled(self.data, "judge", kind, self.known)
            rows = _digest(self.data / "labelled-judge.jsonl")
            kept = self.data / "judges" / f"{kind}-{JUDGE_FORMAT}-{judge.epochs}-{rows}.safetensors"
            doubled = kind == "audio"  # made sound passes a phase reconstruction: the judge must know that sound too
            if doubled and not kept.is_file():
                parts, labels = parts + round_trips(parts[::3]), labels + labels[::3]
            load_or_fit(judge, kept, parts, labels)
            tests, truth = labelled(self.data, "test", kind, self.known)
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

    def baseline(self, task: Task, split_rows: Sequence[Sample], attribute: str) -> float:
        """Echoing the input where the answer is of its modality; a classifier from scikit-learn on the model's own
        training media where the answer is a label of its input; else always the commonest answer."""
        truth = [sample.meta["expect"][attribute] for sample in split_rows]
        if task.answers_in in task.gives and task.answers_in in self.judges:
            echoed = [next(p for p in sample.messages[0].parts if p.type == task.answers_in) for sample in split_rows]
            return _share(self.hits(task, echoed, split_rows)[attribute])
        kind = next(iter(task.gives)) if len(task.gives) == 1 else ""
        labelled_so = kind in self.judges and attribute in self.judges[kind].classes
        if task.answers_in != "text" or kind not in self.suite.features or not labelled_so:
            return Counter(map(str, truth)).most_common(1)[0][1] / len(truth)
        if (kind, attribute) not in self._kept_classifiers:
            self._kept_classifiers[kind, attribute] = self._classifier(kind, attribute)
        guess = self._kept_classifiers[kind, attribute]
        media = [next(part for part in sample.messages[0].parts if part.type == kind) for sample in split_rows]
        said = guess(np.stack(each(self.suite.features[kind], media)))
        return _share([self.suite.in_words(attribute, s) == t for s, t in zip(said, truth, strict=True)])

    def _classifier(self, kind: str, attribute: str) -> Callable[[np.ndarray], Sequence[Any]]:
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        parts, labels = labelled(self.data, "train", kind, self.known)
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

    def _blanked(self, task: Task, sample: Sample) -> tuple[Message, ...]:
        """The same question with every slot emptied: no word, a black picture, silence."""
        media = {
            part.type: self.suite.blank[part.type](part) for part in sample.messages[0].parts if part.type != "text"
        }
        return (task.question(sample.meta["phrasing"], _Emptied(media)),)

    @staticmethod
    def _swapped(sample: Sample, other: Sample) -> tuple[Message, ...]:
        """The same words about another row's media."""
        media = {part.type: part for part in other.messages[0].parts if part.type != "text"}
        return (Message("user", tuple(media.get(part.type, part) for part in sample.messages[0].parts)),)

    def run_task(self, task: Task, split: str) -> Outcome:
        rows = list(read_rows(self.data / f"{task.name}.{split}.jsonl", self.known))[: self.limit]
        begin = time.perf_counter()
        answers = self.ask([sample.messages[:-1] for sample in rows], task.answers_in)
        outcome = Outcome(task, split, rows, answers, time.perf_counter() - begin)
        if split == "test":
            outcome.blank_answers = self.ask(
                [self._blanked(task, sample) for sample in rows[:BLANK_ITEMS]], task.answers_in
            )
            if task.gives != {"text"}:
                pairs = zip(rows, [*rows[1:], rows[0]], strict=True)
                swapped = [self._swapped(sample, other) for sample, other in pairs][:SWAPPED_ITEMS]
                outcome.swapped_answers = self.ask(swapped, task.answers_in)
        self.outcomes.append(outcome)
        return outcome

    # scoring

    def hits(self, task: Task, answers: Sequence[Part | None], samples: Sequence[Sample]) -> dict[str, list[bool]]:
        """Whether each answer shows what its row expects, by attribute."""
        expected = [sample.meta["expect"] for sample in samples]
        attributes = list(expected[0])
        if task.answers_in == "text":
            words = [part.value.strip() if part else "" for part in answers]
            return {name: [w == str(e[name]) for w, e in zip(words, expected, strict=True)] for name in attributes}
        whole = [index for index, part in enumerate(answers) if part is not None]
        said: dict[int, dict[str, Any]] = dict(
            zip(whole, self.judges[task.answers_in].says([part for part in answers if part]), strict=True)
        )
        return {n: [i in said and said[i][n] == e[n] for i, e in enumerate(expected)] for n in attributes}

    def cells(self, outcome: Outcome) -> list[dict[str, Any]]:
        """Entries of report.json, one an attribute."""
        task, made = outcome.task, []
        hits = self.hits(task, outcome.answers, outcome.samples)
        blank = self.hits(task, outcome.blank_answers, outcome.samples[:BLANK_ITEMS]) if outcome.blank_answers else {}
        judged = task.answers_in != "text"
        kind = task.answers_in if judged else next(iter(task.gives)) if task.relative else None
        for name, right in hits.items():
            ceiling = self.ceilings[kind][name] if kind else None
            aim = task.targets.get(name) if outcome.split == "test" else None
            made.append(
                {
                    "cell": task.cell,
                    "task": task.name,
                    "split": outcome.split,
                    "metric": "exact match" if not judged else f"{name} accuracy",
                    "higher_is_better": True,
                    "value": _share(right),
                    "ci95": list(stats.wilson(sum(right), len(right))),
                    "n": len(right),
                    "baseline": self.baseline(task, outcome.samples, name),
                    "judge": f"convolutional {kind} judge" if judged else None,
                    "judge_ceiling": ceiling,
                    "blank_input": _share(blank[name]) if blank else None,
                    "target": aim * (ceiling if ceiling is not None else 1.0) if aim else None,
                    "seconds": round(outcome.seconds, 2),
                }
            )
        return made

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
        copies = training[np.random.default_rng(self.seed).choice(len(training), len(parts), replace=False)]
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
        return self.judges[kind].judge(parts)[0]

    def _training_features(self, kind: str) -> np.ndarray:
        """Judge's features of the model's training media: all pictures as scanned, every tenth recording."""
        if kind not in self._kept_features:
            parts, _ = labelled(self.data, "train", kind, self.known)
            chosen = parts[::10] if kind == "audio" else parts
            self._kept_features[kind] = self._features(kind, self._as_made(kind, chosen))
        return self._kept_features[kind]

    def cycle(self, cycle: Cycle) -> dict[str, Any]:
        """Read back what was written on the test split."""
        written = next(o for o in self.outcomes if o.task.name == cycle.writer and o.split == "test")
        reader = self.suite.task(cycle.reader)
        slot = next(iter(reader.gives))
        pairs = [
            (part, self.suite.in_words(cycle.attribute, sample.meta["expect"][cycle.attribute]))
            for part, sample in zip(written.answers, written.samples, strict=True)
            if part
        ]
        begin = time.perf_counter()
        said = self.ask([(reader.question(reader.phrasings[0], {slot: part}),) for part, _ in pairs], "text")
        hits = [bool(s and s.value.strip() == truth) for s, (_, truth) in zip(said, pairs, strict=True)]
        return {
            "cell": cycle.name, "task": f"{cycle.writer} then {cycle.reader}", "split": "test", "metric": "cycle agreement",
            "higher_is_better": True, "value": _share(hits), "ci95": list(stats.wilson(sum(hits), len(hits))), "n": len(hits),
            "baseline": None, "judge": None, "judge_ceiling": None, "blank_input": None, "target": None,
            "seconds": round(time.perf_counter() - begin, 2),
        }  # fmt: skip

    def equal_error_rates(self) -> list[dict[str, Any]]:
        """Speaker verification: the model's likelihood of each voice's name, and the judge's belief in written speech."""
        made = []
        for outcome in self.outcomes:
            expect = outcome.samples[0].meta["expect"]
            if outcome.split != "test" or "speaker" not in expect:
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


class _Emptied(dict[str, str | Part]):
    """Slots of a blanked question: media replaced by empty media, words by nothing."""

    def __missing__(self, name: str) -> str:
        return ""


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
            if not (evaluation.data / f"{task.name}.{split}.jsonl").is_file():
                continue
            outcome = evaluation.run_task(task, split)
            found = evaluation.cells(outcome)
            cells += found
            if split == "test":
                checks += evaluation.checks(outcome)
            progress(
                f"{task.cell:18} {task.name:16} {split:12} "
                + "  ".join(f"{c['metric']} {c['value']:.1%}" for c in found)
            )
    cells += [evaluation.cycle(cycle) for cycle in evaluation.suite.cycles]
    checks += evaluation.equal_error_rates()
    return {"cells": cells, "checks": checks, "notes": evaluation.notes}


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")


def inference_threads(count: int | None) -> None:
    if count:
        torch.set_num_threads(count)
