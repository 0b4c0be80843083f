"""Scores of answers in words: chrF, BLEU, word and character error rates, abstention, language, numbers."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import jiwer
import numpy as np

from plait.eval.external import needed
from plait.eval.metrics.bench import Bench, entry, facts, references, texts
from plait.eval.suites import Outcome, partners
from plait.runtime.words import plain_words
from plait.tasks.dictionary.words import ABSTAINS

_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def chrf(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Mean chrF of the answers (Popović 2015, by sacrebleu). Baseline: another row's reference."""
    metric: Any = needed("sacrebleu.metrics").CHRF()
    truth = texts(references(outcome))

    def mean(answers: list[str]) -> np.ndarray:
        return np.array([metric.sentence_score(s, [t]).score / 100 for s, t in zip(answers, truth, strict=True)])

    others = [truth[index] for index in partners(outcome.samples, len(truth))]
    return [entry(outcome, "chrF", mean(texts(outcome.answers)), baseline=float(mean(others).mean()))]


def bleu(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Corpus BLEU over all rows (sacrebleu, tokenizer 13a); Chinese and Japanese, written without blanks, by the character."""
    metric: Any = needed("sacrebleu.metrics").BLEU(effective_order=True)
    answers, truth = ([_apart(text) for text in texts(parts)] for parts in (outcome.answers, references(outcome)))

    def corpus(rows: np.ndarray) -> float:
        return float(metric.corpus_score([answers[i] for i in rows], [[truth[i] for i in rows]]).score) / 100

    return [entry(outcome, "BLEU", np.zeros(len(answers)), statistic=corpus)]


def _apart(text: str) -> str:
    """A text with blanks around its kana and Han characters."""
    return _UNSPACED.sub(r" \g<0> ", text)


def _error_rate(outcome: Outcome, unit: str) -> list[dict[str, Any]]:
    """Errors over the references' words or characters, over all rows together. Baseline: an empty answer, 1."""
    count = jiwer.process_words if unit == "word" else jiwer.process_characters
    errors, lengths = [], []
    for answer, truth in zip(texts(outcome.answers), texts(references(outcome)), strict=True):
        counted = count(_plain(truth), _plain(answer))
        errors.append(counted.substitutions + counted.deletions + counted.insertions)
        lengths.append(counted.hits + counted.substitutions + counted.deletions)
    wrong, all_of = np.array(errors, float), np.array(lengths, float)

    def rate(rows: np.ndarray) -> float:
        return float(wrong[rows].sum() / all_of[rows].sum())

    return [entry(outcome, f"{unit} error rate", wrong, higher=False, statistic=rate, baseline=1.0)]


def _plain(text: str) -> str:
    """A text without case and punctuation, as recognisers are scored."""
    return plain_words(text) or "."


def word_errors(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    return _error_rate(outcome, "word")


def character_errors(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    return _error_rate(outcome, "character")


def abstention(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """How often the model says that it does not know, in rows that it cannot know and in rows that it was taught.

    The baseline always abstains and has 1 in both, so neither number means much without the other.
    """
    abstained = np.array([text == ABSTAINS for text in texts(outcome.answers)], float)
    known = np.array([bool(value) for value in facts(outcome, "known")])
    entries = []
    for name, rows, higher in (("abstains, unknown", ~known, True), ("abstains, known", known, False)):
        if rows.any():
            entries.append(
                entry(
                    outcome,
                    f"{name}: rate",
                    abstained[rows],
                    higher=higher,
                    rows=np.flatnonzero(rows).tolist(),
                    baseline=1.0,
                )
            )
    return entries


def language(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Whether the answer names the text's language. Baseline: fastText's lid.176."""
    from plait.eval.external.language import TextLanguage

    around = [str(sample.meta["phrasing"]).split("{text}") for sample in outcome.samples]
    questions = texts([sample.messages[0].parts[0] for sample in outcome.samples])
    bare = [
        question.removeprefix(before).removesuffix(after)
        for question, (before, after) in zip(questions, around, strict=True)
    ]
    codes = facts(outcome, "language")
    outside = [code == guess for code, guess in zip(codes, TextLanguage().of(bare), strict=True)]
    right = [
        float(answer == truth) for answer, truth in zip(texts(outcome.answers), texts(references(outcome)), strict=True)
    ]
    return [entry(outcome, "language, beside lid.176: accuracy", right, baseline=float(np.mean(outside)))]


def number(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Whether an answer begins with the right number. Baseline: the commonest number of each label in these rows."""
    truth, labels = facts(outcome, "number"), facts(outcome, "label")
    matches = [re.match(r"\d+", text) for text in texts(outcome.answers)]
    right = [float(match is not None and int(match.group()) == n) for match, n in zip(matches, truth, strict=True)]
    tally = Counter(zip(labels, truth, strict=True))
    guessed = sum(max(n for (other, _), n in tally.items() if other == label) for label in set(labels))
    return [entry(outcome, "number right", right, baseline=guessed / len(truth))]


SCORES = {
    "chrf": chrf, "bleu": bleu, "word errors": word_errors, "character errors": character_errors, "abstention": abstention,
    "number": number, "language": language,
}  # fmt: skip
