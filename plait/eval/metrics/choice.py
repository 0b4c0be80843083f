"""Classification by likelihood: the likeliest label of a closed list, and the calibration of its probability."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from plait.contract import WORDS, Part
from plait.eval.metrics.bench import Bench, entry, facts, references, texts
from plait.eval.suites import Outcome
from plait.infer.likelihood import Asked, log_likelihoods, pair_log_likelihoods
from plait.infer.request import Request

BINS = 10
MOST_LABELS, MOST_ROWS = 40, 300  # a row is scored once a label
OPTIONS, MOST_PICKED = 10, 200


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017): mean gap of confidence and accuracy over bins of confidence."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    apart = [abs(confidence[places == b].sum() - right[places == b].sum()) for b in range(bins)]
    return float(sum(apart) / len(confidence))


def likelihood(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Accuracy of the likeliest label, and its calibration error. Empty where the labels are no short closed list."""
    truth = texts(references(outcome))
    labels = sorted(set(truth))
    if not 2 <= len(labels) <= MOST_LABELS:
        return []
    samples = outcome.samples[:MOST_ROWS]
    scores = log_likelihoods(bench.engine, [s.messages[:-1] for s in samples], [Part(WORDS, label) for label in labels])
    shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    best = shares.argmax(axis=1)
    right = np.array([labels[b] == t for b, t in zip(best, truth[: len(samples)], strict=True)], float)
    confidence = shares.max(axis=1)

    def error(rows: np.ndarray) -> float:
        return calibration_error(confidence[rows], right[rows])

    commonest = max(truth.count(label) for label in labels) / len(truth)
    rows = list(range(len(samples)))
    return [
        entry(outcome, "likeliest label: accuracy", right, baseline=commonest, rows=rows),
        entry(outcome, "calibration error", right, higher=False, statistic=error, rows=rows),
    ]


def picked(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Whether the right answer scores above wrong answers of other rows in its language.

    For answers that cannot be expected to the letter, such as the name of a thing that training never showed. Two scores:
    likelihood a character, since short answers are likelier (`acc_norm` of EleutherAI's evaluation harness); and where the
    input can be blanked, how much likelier the input makes an answer than a blank one does (domain-conditional pointwise mutual
    information, arXiv:2104.08315), since common names are likely whatever is shown.
    """
    truth, languages = texts(references(outcome)), facts(outcome, "language")
    rng = np.random.default_rng(6)
    rows: list[int] = []
    options: list[tuple[str, ...]] = []  # the right one first
    for row, (right, language) in enumerate(zip(truth, languages, strict=True)):
        others = sorted({t for t, spoken in zip(truth, languages, strict=True) if spoken == language} - {right, ""})
        if len(rows) == MOST_PICKED or len(others) < OPTIONS - 1 or not right:
            continue
        rows.append(row)
        options.append((right, *(others[i] for i in rng.permutation(len(others))[: OPTIONS - 1])))
    if not rows:
        return []

    def likelihoods(questions: list[Asked]) -> np.ndarray:
        pairs = [(q, Part(WORDS, option)) for q, listed in zip(questions, options, strict=True) for option in listed]
        return pair_log_likelihoods(bench.engine, pairs).reshape(len(rows), OPTIONS)

    samples = [outcome.samples[row] for row in rows]
    with_input = likelihoods([sample.messages[:-1] for sample in samples])
    lengths = np.array([[len(option) for option in listed] for listed in options])
    scores = {f"right answer of {OPTIONS} likeliest: rate": with_input / lengths}
    if outcome.task.gives - {WORDS} and outcome.task.gives - {WORDS} <= set(bench.blank):
        blank = likelihoods([outcome.task.blanked(sample, bench.blank) for sample in samples])
        scores[f"right answer of {OPTIONS} made likelier by the input: rate"] = with_input - blank
    return [
        entry(outcome, name, values[:, 0] > values[:, 1:].max(axis=1), rows=rows, baseline=1 / OPTIONS)
        for name, values in scores.items()
    ]


def listed(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Exact matches where the answer must be one of those that training gave to the task. Baseline: the commonest of them.

    Only rows whose answer is on that list count: of the others none could be right. Empty where there are none.
    """
    known = Counter(str(sample.messages[-1].parts[0].value) for sample in bench.examples(outcome.task))
    truth = texts(references(outcome))
    rows = [row for row, right in enumerate(truth) if right in known][:MOST_ROWS]
    if len(known) < 2 or not rows:
        return []
    choices = tuple(sorted(filter(None, known)))
    requests = [Request(outcome.samples[row].messages[:-1], to=WORDS, choices=choices) for row in rows]
    answers = [next((str(p.value) for p in answer.message.parts), "") for answer in bench.engine.generate(requests)]
    hits = [answer == truth[row] for answer, row in zip(answers, rows, strict=True)]
    commonest = known.most_common(1)[0][0]
    baseline = sum(truth[row] == commonest for row in rows) / len(rows)
    return [entry(outcome, f"of {len(choices):,} answers: accuracy", hits, rows=rows, baseline=baseline)]


SCORES = {"likelihood": likelihood, "picked": picked, "listed": listed}
