"""Classification as likelihood: which label of a closed list the model finds likeliest, and whether its confidence is earned."""

from __future__ import annotations

from typing import Any

import numpy as np

from plait.contract import WORDS, Part
from plait.eval.metrics.bench import Bench, entry, facts, references, texts
from plait.eval.suites import Outcome
from plait.infer.likelihood import Asked, log_likelihoods, pair_log_likelihoods

BINS = 10
MOST_LABELS, MOST_ROWS = 40, 300  # a row is scored once a label
OPTIONS, MOST_PICKED = 10, 200


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017): mean distance of confidence and accuracy, over bins of confidence."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    apart = [abs(confidence[places == b].sum() - right[places == b].sum()) for b in range(bins)]
    return float(sum(apart) / len(confidence))


def likelihood(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Accuracy of the likeliest label, and its calibration. Left out where the labels are no short closed list."""
    truth = texts(references(asked))
    labels = sorted(set(truth))
    if not 2 <= len(labels) <= MOST_LABELS:
        return []
    samples = asked.samples[:MOST_ROWS]
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
        entry(asked, "likeliest label: accuracy", right, baseline=commonest, rows=rows),
        entry(asked, "calibration error", right, higher=False, statistic=error, rows=rows),
    ]


def picked(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Whether the right answer is likelier, by the character, than wrong ones of other rows of the same language.

    For answers that no one could write to the letter, such as the name of a thing that training did not show. By the
    character, because a short answer is likelier than a long one (`acc_norm` of EleutherAI's evaluation harness).
    """
    truth, languages = texts(references(asked)), facts(asked, "language")
    rng = np.random.default_rng(6)
    rows: list[int] = []
    pairs: list[tuple[Asked, Part]] = []
    counts: list[int] = []
    for row, (right, language) in enumerate(zip(truth, languages, strict=True)):
        others = sorted({t for t, spoken in zip(truth, languages, strict=True) if spoken == language} - {right, ""})
        if len(rows) == MOST_PICKED or len(others) < OPTIONS - 1 or not right:
            continue
        wrong = [others[i] for i in rng.permutation(len(others))[: OPTIONS - 1]]
        rows.append(row)
        pairs += [(asked.samples[row].messages[:-1], Part(WORDS, option)) for option in (right, *wrong)]
        counts += [len(option) for option in (right, *wrong)]
    if not rows:
        return []
    scores = (pair_log_likelihoods(bench.engine, pairs) / np.array(counts)).reshape(len(rows), OPTIONS)
    hits = scores[:, 0] > scores[:, 1:].max(axis=1)
    return [entry(asked, f"right answer of {OPTIONS} likeliest: rate", hits, rows=rows, baseline=1 / OPTIONS)]


SCORES = {"likelihood": likelihood, "picked": picked}
