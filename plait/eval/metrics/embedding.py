"""Retrieval by the model's own embeddings (plait.infer.embedding): is what belongs together nearest?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plait.contract import WORDS, Part, Sample
from plait.errors import ConfigError
from plait.eval.metrics.bench import Bench, entry
from plait.eval.suites import Outcome
from plait.infer.embedding import Embedder

MOST = 100  # pairs, among which one's own is sought
NAME = "own answer of {n} nearest, by embeddings: rate"
MEANING = ": "  # between a word and what it means


def _embedder(bench: Bench) -> Embedder | None:
    """The model's; None for one that has none."""
    if "embedder" not in bench.cache:
        try:
            bench.cache["embedder"] = Embedder(bench.engine.model, bench.engine.encoder)
        except ConfigError:
            bench.cache["embedder"] = None
    embedder: Embedder | None = bench.cache["embedder"]
    return embedder


def _asked(sample: Sample) -> Part | None:
    """The medium that a question is about; its words, if there is none."""
    parts = sample.messages[-2].parts
    media = [part for part in parts if part.type != WORDS]
    if len(media) > 1:
        return None
    return media[0] if media else Part(WORDS, " ".join(str(part.value) for part in parts))


def _nearest(
    outcome: Outcome, embedder: Embedder, rows: Sequence[int], pairs: Sequence[tuple[Part, Part]], **more: Any
) -> list[dict[str, Any]]:
    """An entry for pairs of which the second is sought with the first, among all second ones."""
    if len(pairs) < 2:
        return []
    one, other = (embedder([pair[side] for pair in pairs]) for side in (0, 1))
    right = (one @ other.T).argmax(axis=1) == np.arange(len(pairs))
    return [entry(outcome, NAME.format(n=len(pairs)), right, rows=rows, baseline=1 / len(pairs), **more)]


def embedded(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """The share of questions whose medium, or words, lie nearest to their own answer among the answers to MOST questions, each
    answer once. Empty where the model has no embeddings of either."""
    embedder = _embedder(bench)
    if embedder is None:
        return []
    rows: list[int] = []
    pairs: list[tuple[Part, Part]] = []
    seen: set[str] = set()
    for row, sample in enumerate(outcome.samples):
        question, answer = _asked(sample), sample.messages[-1].parts[0]
        known = question is not None and {question.type, answer.type} <= set(embedder.kinds)
        if question is None or not known or str(answer.value) in seen or len(pairs) == MOST:
            continue
        seen.add(str(answer.value))
        rows.append(row)
        pairs.append((question, answer))
    return _nearest(outcome, embedder, rows, pairs)


def defined(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """The share of meanings that lie nearest to their own word, where held-out answers are of the form `word: meaning`: what is
    measured is words with words, whatever the task is about."""
    embedder = _embedder(bench)
    if embedder is None:
        return []
    rows: list[int] = []
    pairs: list[tuple[Part, Part]] = []
    seen: set[str] = set()
    for row, sample in enumerate(outcome.samples):
        word, colon, meaning = str(sample.messages[-1].parts[0].value).partition(MEANING)
        if not colon or word in seen or word.casefold() in meaning.casefold() or len(pairs) == MOST:
            continue
        seen.add(word)
        rows.append(row)
        pairs.append((Part(WORDS, meaning), Part(WORDS, word)))
    return _nearest(outcome, embedder, rows, pairs, cell=f"{WORDS}->{WORDS}")


SCORES = {"embedded": embedded, "defined": defined}
