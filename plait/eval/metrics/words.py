"""Scores of answers in words: chrF, BLEU, word and character errors, and whether a model knows what it does not know."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import jiwer
import numpy as np

from plait.data.sources import plain_words
from plait.eval.external import needed
from plait.eval.metrics.bench import Bench, entry, facts, references, texts
from plait.eval.suites import Outcome, partners
from plait.tasks.dictionary.words import ABSTAINS

_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def chrf(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """chrF of each answer (Popović 2015, by sacrebleu), averaged; the baseline is another row's reference."""
    metric: Any = needed("sacrebleu.metrics").CHRF()
    truth = texts(references(asked))

    def mean(said: list[str]) -> np.ndarray:
        return np.array([metric.sentence_score(s, [t]).score / 100 for s, t in zip(said, truth, strict=True)])

    others = [truth[index] for index in partners(asked.samples, len(truth))]
    return [entry(asked, "chrF", mean(texts(asked.answers)), baseline=float(mean(others).mean()))]


def bleu(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Corpus BLEU (sacrebleu, tokenizer 13a) over all rows; Chinese and Japanese, which put no blanks between words, by the
    character."""
    metric: Any = needed("sacrebleu.metrics").BLEU(effective_order=True)
    said, truth = ([_apart(text) for text in texts(parts)] for parts in (asked.answers, references(asked)))

    def corpus(rows: np.ndarray) -> float:
        return float(metric.corpus_score([said[i] for i in rows], [[truth[i] for i in rows]]).score) / 100

    return [entry(asked, "BLEU", np.zeros(len(said)), statistic=corpus)]


def _apart(text: str) -> str:
    """A text with blanks around its kana and Han characters."""
    return _UNSPACED.sub(r" \g<0> ", text)


def _error_rate(asked: Outcome, unit: str) -> list[dict[str, Any]]:
    """Errors over the reference's words or characters, over all rows together; the baseline says nothing at all: 1."""
    count = jiwer.process_words if unit == "word" else jiwer.process_characters
    errors, lengths = [], []
    for said, truth in zip(texts(asked.answers), texts(references(asked)), strict=True):
        found = count(_plain(truth), _plain(said))
        errors.append(found.substitutions + found.deletions + found.insertions)
        lengths.append(found.hits + found.substitutions + found.deletions)
    wrong, all_of = np.array(errors, float), np.array(lengths, float)

    def rate(rows: np.ndarray) -> float:
        return float(wrong[rows].sum() / all_of[rows].sum())

    return [entry(asked, f"{unit} error rate", wrong, higher=False, statistic=rate, baseline=1.0)]


def _plain(text: str) -> str:
    """As recognisers are scored: no case, no punctuation."""
    return plain_words(text) or "."


def word_errors(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    return _error_rate(asked, "word")


def character_errors(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    return _error_rate(asked, "character")


def abstention(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """How often the model says that it does not know, where it cannot know, and where it could have; the baseline always
    says so, which is why the two belong together."""
    said = np.array([text == ABSTAINS for text in texts(asked.answers)], float)
    known = np.array([bool(value) for value in facts(asked, "known")])
    made = []
    for name, rows, higher in (("abstains, unknown", ~known, True), ("abstains, known", known, False)):
        if rows.any():
            made.append(
                entry(
                    asked, f"{name}: rate", said[rows], higher=higher, rows=np.flatnonzero(rows).tolist(), baseline=1.0
                )
            )
    return made


def language(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Whether the language of a text is told; the baseline is fastText's lid.176, which knows it by its code."""
    from plait.eval.external.language import TextLanguage

    around = [str(sample.meta["phrasing"]).split("{text}") for sample in asked.samples]
    questions = texts([sample.messages[0].parts[0] for sample in asked.samples])
    bare = [
        question.removeprefix(before).removesuffix(after)
        for question, (before, after) in zip(questions, around, strict=True)
    ]
    codes = facts(asked, "language")
    outside = [code == told for code, told in zip(codes, TextLanguage().of(bare), strict=True)]
    right = [float(said == truth) for said, truth in zip(texts(asked.answers), texts(references(asked)), strict=True)]
    return [entry(asked, "language, beside lid.176: accuracy", right, baseline=float(np.mean(outside)))]


def number(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Whether an answer begins with the right number; the baseline says the commonest of these rows, by label."""
    truth, labels = facts(asked, "number"), facts(asked, "label")
    begun = [re.match(r"\d+", text) for text in texts(asked.answers)]
    right = [float(one is not None and int(one.group()) == n) for one, n in zip(begun, truth, strict=True)]
    tally = Counter(zip(labels, truth, strict=True))
    guessed = sum(max(n for (other, _), n in tally.items() if other == label) for label in set(labels))
    return [entry(asked, "number right", right, baseline=guessed / len(truth))]


SCORES = {
    "chrf": chrf, "bleu": bleu, "word errors": word_errors, "character errors": character_errors, "abstention": abstention,
    "number": number, "language": language,
}  # fmt: skip
