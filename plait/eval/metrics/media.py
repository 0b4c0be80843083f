"""Scores of made pictures and sound by models that are not ours: does it show what was asked, is it like real ones, is it a copy?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jiwer
import numpy as np
from PIL import Image

from plait import registry
from plait.contract import WORDS, Part
from plait.data.sources import plain_words
from plait.errors import MissingError
from plait.eval.external.pictures import kid, retrieval_ranks
from plait.eval.metrics.bench import Bench, entry, facts, references
from plait.eval.suites import Outcome, partners
from plait.runtime.parallel import parallel_map
from plait.runtime.pictures import open_picture

MOST_TRAINING = 3000  # pictures of the training whose distance is the floor
CANDIDATES, THUMBNAIL = 4, 16  # of all pictures of the training those nearest by thumbnail, of so many pixels a side
LEAST_PICTURES = 4  # that a kernel distance needs
MOST_HEARD = 100  # clips that the recogniser hears: a second each


def _made(asked: Outcome) -> tuple[list[int], list[Part]]:
    pairs = [(number, part) for number, part in enumerate(asked.answers) if part is not None]
    return [number for number, _ in pairs], [part for _, part in pairs]


def _features(bench: Bench, asked: Outcome, what: str, parts: Sequence[Part]) -> np.ndarray:
    """Picture features, computed once for a task and split."""
    key = (asked.task.name, asked.split, what)
    if key not in bench.kept:
        bench.kept[key] = bench.picture_features(parts)
    found: np.ndarray = bench.kept[key]
    return found


def retrieval(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Whether a made picture is nearest to the reference of its own concept, among one reference of every concept of the split.

    The ceiling is that of the references of other rows of the same concept (other styles); the baseline is chance.
    """
    rows, parts = _made(asked)
    concepts = [str(c or n) for c, n in zip(facts(asked, "concept"), map(_named, asked.samples), strict=True)]
    names = list(dict.fromkeys(concepts))
    first = [concepts.index(name) for name in names]
    real = _features(bench, asked, "real", references(asked))
    truth = np.array([names.index(concept) for concept in concepts])
    ranks = retrieval_ranks(_features(bench, asked, "made", parts), real[first], truth[rows])
    others = [row for row in range(len(concepts)) if row not in set(first)]
    ceiling = retrieval_ranks(real[others], real[first], truth[others]) if others else np.zeros(0)
    made = []
    for within in (1, 10):
        made.append(
            entry(
                asked, f"found among {len(names)}, first {within}: rate", ranks <= within, rows=rows,
                baseline=min(1.0, within / len(names)), judge="EfficientNet-Lite0, ImageNet",
                judge_ceiling=float((ceiling <= within).mean()) if len(ceiling) else None,
            )
        )  # fmt: skip
    ceiling_rank = float(np.median(ceiling)) if len(ceiling) else None
    made.append(
        entry(
            asked, f"rank among {len(names)}, median", ranks, higher=False, rows=rows,
            statistic=lambda chosen: float(np.median(ranks[chosen])), baseline=(len(names) + 1) / 2,
            judge="EfficientNet-Lite0, ImageNet", judge_ceiling=ceiling_rank,
        )
    )  # fmt: skip
    return made


def _named(sample: Any) -> str:
    return str(sample.meta.get("code", sample.messages[0].parts[0].value))


def kernel_distance(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """KID of made pictures and held-out real ones; the baseline is that of training pictures in the styles asked for: the
    floor. Left out where there are fewer than LEAST_PICTURES of either, of which none can be told."""
    rows, parts = _made(asked)
    made, real = _features(bench, asked, "made", parts), _features(bench, asked, "real", references(asked))
    key = ("floor", _styles(asked))
    if key not in bench.kept:
        taught = _training(bench, asked)
        order = np.random.default_rng([2026, 60]).permutation(len(taught))[:MOST_TRAINING]
        bench.kept[key] = bench.picture_features([taught[index] for index in order])
    training = bench.kept[key]
    if min(len(made), len(real), len(training)) < LEAST_PICTURES:
        return []
    value, deviation = kid(made, real)
    floor, _ = kid(training, real)
    found = entry(asked, "kernel inception distance", np.zeros(len(rows)), higher=False, rows=rows, baseline=floor)
    return [{**found, "value": value, "ci95": [value - 2 * deviation, value + 2 * deviation], "by": {}}]


def _styles(asked: Outcome) -> frozenset[str]:
    return frozenset(str(style) for style in facts(asked, "style") if style)


def _training(bench: Bench, asked: Outcome) -> list[Part]:
    """All that the model was trained on in the styles asked for."""
    key = ("training", asked.task.answers_in, _styles(asked))
    if key not in bench.kept:
        bench.kept[key] = list(bench.training(asked.task.answers_in, key[2]))
    found: list[Part] = bench.kept[key]
    return found


def _thumbnails(parts: Sequence[Part]) -> np.ndarray:
    """[n, 3 THUMBNAIL^2] levels."""

    def small(part: Part) -> np.ndarray:
        canvas = open_picture(part.value).convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return np.asarray(canvas, np.float32).ravel() / 255

    return np.stack(parallel_map(small, parts))


def copies(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Cosine of a made picture's features to those of its CANDIDATES, the nearest of all pictures of the training by thumbnail;
    the baseline is that of held-out real ones. A copy has 1."""
    rows, parts = _made(asked)
    training = _training(bench, asked)
    if not training or not parts:
        return []
    key = ("thumbnails", asked.task.answers_in, _styles(asked))
    if key not in bench.kept:
        bench.kept[key] = _thumbnails(training)
    small = bench.kept[key]
    known: dict[int, np.ndarray] = bench.kept.setdefault((*key, "features"), {})  # of those that were looked at

    def nearest(of: Sequence[Part], what: str) -> np.ndarray:
        mine = _thumbnails(of)
        apart = (small**2).sum(1) - 2 * mine @ small.T  # squared distances, but for what is the same in a row
        most = min(CANDIDATES, len(training))
        chosen = np.argpartition(apart, most - 1, axis=1)[:, :most]
        new = sorted(set(map(int, chosen.ravel())) - set(known))
        if new:
            known.update(zip(new, _unit(bench.picture_features([training[index] for index in new])), strict=True))
        there = np.stack([[known[int(index)] for index in row] for row in chosen])
        alike = np.einsum("nd,ncd->nc", _unit(_features(bench, asked, what, of)), there)
        found: np.ndarray = alike.max(axis=1)
        return found

    near, real = nearest(parts, "made"), nearest(references(asked), "real")
    return [
        entry(asked, "likeness to the nearest of training", near, higher=False, rows=rows, baseline=float(real.mean()))
    ]


def _unit(features: np.ndarray) -> np.ndarray:
    made: np.ndarray = features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-9)
    return made


def pixels(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Mean squared error to the reference; the baseline gives the question's own picture back."""
    kind = asked.task.answers_in
    modality, measures = bench.engine.model.vocabulary.modalities[kind], registry.measures(kind)
    assert measures is not None
    rows, parts = _made(asked)
    truth = references(asked)
    given = [next(p for m in asked.samples[i].messages[:-1] for p in m.parts if p.type == kind) for i in rows]

    def errors(of: Sequence[Part]) -> np.ndarray:
        return np.array([measures.distances(modality, part, truth[i])["mse"] for i, part in zip(rows, of, strict=True)])

    echoed = [modality.write(modality.read(part)) for part in given]  # as the model would give it back
    return [
        entry(asked, "squared error", errors(parts), higher=False, rows=rows, baseline=float(errors(echoed).mean()))
    ]


def recognised(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Word errors over the words, of English speech as Whisper tiny.en hears it; the baseline is the better one of espeak-ng's and
    Piper's reading of the same words, the ceiling the recordings themselves."""
    languages = facts(asked, "language")
    if others := sorted({str(code) for code in languages} - {"en"}):
        bench.say(
            f"no word errors of speech in {', '.join(others)}: no recogniser that is not ours is at hand for them"
        )
    rows = [i for i, part in enumerate(asked.answers) if part is not None and languages[i] == "en"][:MOST_HEARD]
    if not rows:
        return []
    texts = [str(facts(asked, WORDS)[i]) for i in rows]
    told = [plain_words(text) or "." for text in texts]
    lengths = np.array([len(words.split()) for words in told], float)

    def errors(parts: Sequence[Part]) -> np.ndarray:
        counted = (
            jiwer.process_words(t, plain_words(h) or ".") for t, h in zip(told, bench.recognised(parts), strict=True)
        )
        return np.array([c.substitutions + c.deletions + c.insertions for c in counted], float)

    def rate(parts: Sequence[Part]) -> float:
        return float(errors(parts).sum() / lengths.sum())

    truth = references(asked)
    read = {"read by espeak-ng": rate(bench.read_aloud(texts))}
    try:
        read["read by Piper"] = rate(bench.read_by_piper(texts))
    except MissingError as error:
        bench.say(f"speech is not put beside Piper: {error}")
    made = errors([part for i in rows if (part := asked.answers[i]) is not None])
    found = entry(
        asked, "heard by Whisper tiny.en: word error rate", made, higher=False, rows=rows,
        statistic=lambda chosen: float(made[chosen].sum() / lengths[chosen].sum()), baseline=min(read.values()),
        judge="Whisper tiny.en", judge_ceiling=rate([truth[i] for i in rows]),
    )  # fmt: skip
    return [{**found, "by": found["by"] | read}]


def voice(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Likeness of voices, made and reference, by GE2E; the baseline is another row's reference, the ceiling other recordings
    of the same speaker."""
    rows, parts = _made(asked)
    truth = references(asked)
    real = bench.voice_features(truth)
    made = bench.voice_features(parts)
    speakers = facts(asked, "speaker")
    others = partners(asked.samples, len(truth))
    apart = [i for i in rows if speakers[i] != speakers[others[i]]]
    same = [next((j for j in range(len(truth)) if j != i and speakers[j] == speakers[i]), None) for i in rows]
    ceiling = [float(real[i] @ real[j]) for i, j in zip(rows, same, strict=True) if j is not None]
    return [
        entry(
            asked, "likeness of voices", np.einsum("nd,nd->n", made, real[rows]), rows=rows, judge="GE2E (Resemblyzer)",
            baseline=float(np.mean([real[i] @ real[others[i]] for i in apart])) if apart else None,
            judge_ceiling=float(np.mean(ceiling)) if ceiling else None,
        )
    ]  # fmt: skip


SCORES = {
    "retrieval": retrieval, "kernel distance": kernel_distance, "copies": copies, "pixels": pixels,
    "recognised": recognised, "voice": voice,
}  # fmt: skip
