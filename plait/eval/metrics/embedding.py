"""Retrieval by the model's own embeddings (plait.infer.embedding): is what belongs together nearest?"""

from __future__ import annotations

from collections.abc import Callable
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


Pair = tuple[Part, Part]


def _nearest(
    outcome: Outcome, bench: Bench, pair_of: Callable[[Sample], Pair | None], **more: Any
) -> list[dict[str, Any]]:
    """The share of rows' pairs of which the first lies nearest to its own second one, among those of up to MOST rows, each second
    one once. Empty where the model has no embeddings of them."""
    embedder = _embedder(bench)
    if embedder is None:
        return []
    rows: list[int] = []
    pairs: list[Pair] = []
    taken: set[str] = set()
    for row, sample in enumerate(outcome.samples):
        pair = pair_of(sample)
        if pair is None or not {part.type for part in pair} <= set(embedder.kinds) or str(pair[1].value) in taken:
            continue
        taken.add(str(pair[1].value))
        rows.append(row)
        pairs.append(pair)
        if len(pairs) == MOST:
            break
    if len(pairs) < 2:
        return []
    asked, answers = (embedder([pair[side] for pair in pairs]) for side in (0, 1))
    right = (asked @ answers.T).argmax(axis=1) == np.arange(len(pairs))
    return [entry(outcome, NAME.format(n=len(pairs)), right, rows=rows, baseline=1 / len(pairs), **more)]


def embedded(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Questions' media, or their words, and the answers."""

    def pair_of(sample: Sample) -> Pair | None:
        question = _asked(sample)
        return None if question is None else (question, sample.messages[-1].parts[0])

    return _nearest(outcome, bench, pair_of)


def defined(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Meanings and their words, where answers are of the form `word: meaning`: what is measured is words with words, whatever the
    task is about."""

    def pair_of(sample: Sample) -> Pair | None:
        word, colon, meaning = str(sample.messages[-1].parts[0].value).partition(MEANING)
        names_itself = word.casefold() in meaning.casefold()
        return None if not colon or names_itself else (Part(WORDS, meaning), Part(WORDS, word))

    return _nearest(outcome, bench, pair_of, cell=f"{WORDS}->{WORDS}")


SCORES = {"embedded": embedded, "defined": defined}
