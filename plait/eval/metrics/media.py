"""Scores of generated pictures and sound by independent models: fidelity to the request, realism, copying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jiwer
import numpy as np
from PIL import Image

from plait import registry
from plait.contract import WORDS, Part
from plait.errors import MissingError
from plait.eval.external.pictures import kid, retrieval_ranks
from plait.eval.metrics.bench import Bench, entry, facts, references
from plait.eval.suites import Outcome, partners
from plait.runtime.parallel import parallel_map
from plait.runtime.pictures import open_picture
from plait.runtime.words import plain_words

MOST_TRAINING = 3000  # pictures of the training whose distance is the floor
CANDIDATES, THUMBNAIL = 4, 16  # of all pictures of the training those nearest by thumbnail, of so many pixels a side
LEAST_PICTURES = 4  # that a kernel distance needs
CONCEPT = "concept"  # the fact of a row that says what its answer shows
MOST_HEARD = 100  # clips that the recogniser hears: a second each


def _answered(outcome: Outcome) -> tuple[list[int], list[Part]]:
    """Numbers of the rows that have an answer, and the answers."""
    pairs = [(number, part) for number, part in enumerate(outcome.answers) if part is not None]
    return [number for number, _ in pairs], [part for _, part in pairs]


def _features(bench: Bench, outcome: Outcome, what: str, parts: Sequence[Part]) -> np.ndarray:
    """Picture features, computed once for a task and split."""
    key = (outcome.task.name, outcome.split, what)
    if key not in bench.cache:
        bench.cache[key] = bench.picture_features(parts)
    features: np.ndarray = bench.cache[key]
    return features


def retrieval(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Rank of the asked concept's reference by similarity to the answer, among one reference of every concept.

    A missing answer ranks last. Ceiling: references of other rows of the same concept (other styles). Baseline: chance.
    """
    rows, parts = _answered(outcome)
    concepts = [str(c or n) for c, n in zip(facts(outcome, "concept"), map(_named, outcome.samples), strict=True)]
    names = list(dict.fromkeys(concepts))
    first = [concepts.index(name) for name in names]
    real = _features(bench, outcome, "real", references(outcome))
    truth = np.array([names.index(concept) for concept in concepts])
    ranks = np.full(len(concepts), len(names))
    if parts:
        ranks[rows] = retrieval_ranks(_features(bench, outcome, "made", parts), real[first], truth[rows])
    others = [row for row in range(len(concepts)) if row not in set(first)]
    ceiling = retrieval_ranks(real[others], real[first], truth[others]) if others else np.zeros(0)
    entries = []
    for within in (1, 10):
        entries.append(
            entry(
                outcome, f"found among {len(names)}, first {within}: rate", ranks <= within,
                baseline=min(1.0, within / len(names)), judge="EfficientNet-Lite0, ImageNet",
                judge_ceiling=float((ceiling <= within).mean()) if len(ceiling) else None,
            )
        )  # fmt: skip
    ceiling_rank = float(np.median(ceiling)) if len(ceiling) else None
    entries.append(
        entry(
            outcome, f"rank among {len(names)}, median", ranks, higher=False,
            statistic=lambda drawn: float(np.median(ranks[drawn])), baseline=(len(names) + 1) / 2,
            judge="EfficientNet-Lite0, ImageNet", judge_ceiling=ceiling_rank,
        )
    )  # fmt: skip
    return entries


def depicted(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Rank of the asked concept by the evaluation's own judge, among the asked concepts that it knows.

    A missing answer ranks last. Ceiling: the references. Baseline: chance. Raises MissingError without such a judge.
    """
    judge = bench.judges.get(outcome.task.answers_in)
    classes = judge.classes.get(CONCEPT, []) if judge is not None else []
    rows = [row for row, concept in enumerate(facts(outcome, CONCEPT)) if concept in classes]
    if judge is None or not rows:
        raise MissingError(f"no judge knows the concepts that are asked for as {outcome.task.answers_in}")
    asked = [facts(outcome, CONCEPT)[row] for row in rows]
    names = list(dict.fromkeys(asked))
    columns, truth = [classes.index(name) for name in names], np.array([names.index(name) for name in asked])

    def ranks(parts: Sequence[Part | None]) -> np.ndarray:
        rank = np.full(len(parts), len(names))
        answered = [number for number, part in enumerate(parts) if part is not None]
        scores = judge.judge([part for part in parts if part is not None])[1][CONCEPT][:, columns]
        rank[answered] = 1 + (scores > scores[np.arange(len(answered)), truth[answered]][:, None]).sum(axis=1)
        return rank

    of_answers = ranks([outcome.answers[row] for row in rows])
    of_references = ranks([references(outcome)[row] for row in rows])
    return [
        entry(
            outcome, f"depicts it among {len(names)}, first {within}: rate", of_answers <= within, rows=rows,
            baseline=min(1.0, within / len(names)), judge=f"convolutional {outcome.task.answers_in} judge",
            judge_ceiling=float((of_references <= within).mean()),
        )
        for within in (1, 10)
    ]  # fmt: skip


def _named(sample: Any) -> str:
    return str(sample.meta.get("code", sample.messages[0].parts[0].value))


def kernel_distance(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """KID of generated and held-out real pictures. Baseline, the floor: training pictures in the same styles.

    Empty for fewer than LEAST_PICTURES of any of the three.
    """
    rows, parts = _answered(outcome)
    generated, real = _features(bench, outcome, "made", parts), _features(bench, outcome, "real", references(outcome))
    key = ("floor", _styles(outcome))
    if key not in bench.cache:
        media = _training(bench, outcome)
        order = np.random.default_rng([2026, 60]).permutation(len(media))[:MOST_TRAINING]
        bench.cache[key] = bench.picture_features([media[index] for index in order])
    training = bench.cache[key]
    if min(len(generated), len(real), len(training)) < LEAST_PICTURES:
        return []
    value, deviation = kid(generated, real)
    floor, _ = kid(training, real)
    distance = entry(outcome, "kernel inception distance", np.zeros(len(rows)), higher=False, rows=rows, baseline=floor)
    return [{**distance, "value": value, "ci95": [value - 2 * deviation, value + 2 * deviation], "by": {}}]


def _styles(outcome: Outcome) -> frozenset[str]:
    return frozenset(str(style) for style in facts(outcome, "style") if style)


def _training(bench: Bench, outcome: Outcome) -> list[Part]:
    """All training media in the styles that the rows ask for."""
    key = ("training", outcome.task.answers_in, _styles(outcome))
    if key not in bench.cache:
        bench.cache[key] = list(bench.training(outcome.task.answers_in, key[2]))
    media: list[Part] = bench.cache[key]
    return media


def _thumbnails(parts: Sequence[Part]) -> np.ndarray:
    """[n, 3 THUMBNAIL^2] levels."""

    def small(part: Part) -> np.ndarray:
        canvas = open_picture(part.value).convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return np.asarray(canvas, np.float32).ravel() / 255

    return np.stack(parallel_map(small, parts))


def copies(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Cosine of an answer's features to the nearest of CANDIDATES training pictures, preselected by thumbnail; a copy has 1.

    Baseline: held-out real pictures.
    """
    rows, parts = _answered(outcome)
    training = _training(bench, outcome)
    if not training or not parts:
        return []
    key = ("thumbnails", outcome.task.answers_in, _styles(outcome))
    if key not in bench.cache:
        bench.cache[key] = _thumbnails(training)
    small = bench.cache[key]
    known: dict[int, np.ndarray] = bench.cache.setdefault((*key, "features"), {})  # of those that were looked at

    def nearest(media: Sequence[Part], what: str) -> np.ndarray:
        mine = _thumbnails(media)
        apart = (small**2).sum(1) - 2 * mine @ small.T  # squared distances, but for what is the same in a row
        most = min(CANDIDATES, len(training))
        candidates = np.argpartition(apart, most - 1, axis=1)[:, :most]
        new = sorted(set(map(int, candidates.ravel())) - set(known))
        if new:
            known.update(zip(new, _unit(bench.picture_features([training[index] for index in new])), strict=True))
        candidate_features = np.stack([[known[int(index)] for index in row] for row in candidates])
        alike = np.einsum("nd,ncd->nc", _unit(_features(bench, outcome, what, media)), candidate_features)
        likeness: np.ndarray = alike.max(axis=1)
        return likeness

    near, real = nearest(parts, "made"), nearest(references(outcome), "real")
    return [
        entry(
            outcome, "likeness to the nearest of training", near, higher=False, rows=rows, baseline=float(real.mean())
        )
    ]


def _unit(features: np.ndarray) -> np.ndarray:
    unit: np.ndarray = features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-9)
    return unit


def pixels(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Mean squared error to the reference. A missing answer counts as an empty picture or as the worst of the answers,
    whichever is further off. Baseline: the question's own picture."""
    kind = outcome.task.answers_in
    modality, measures = bench.engine.model.vocabulary.modalities[kind], registry.measures(kind)
    assert measures is not None
    truth = references(outcome)
    inputs = [next(p for m in s.messages[:-1] for p in m.parts if p.type == kind) for s in outcome.samples]

    def errors(answers: Sequence[Part]) -> np.ndarray:
        return np.array([measures.distances(modality, a, t)["mse"] for a, t in zip(answers, truth, strict=True)])

    distances = errors(
        [answer or measures.blank(modality, t) for answer, t in zip(outcome.answers, truth, strict=True)]
    )
    answered = np.array([answer is not None for answer in outcome.answers])
    values = np.where(answered, distances, np.maximum(distances, distances[answered].max(initial=0.0)))
    echoed = [modality.write(modality.read(part)) for part in inputs]  # as the model would give it back
    return [entry(outcome, "squared error", values, higher=False, baseline=float(errors(echoed).mean()))]


def recognised(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Word error rate of English speech, as Whisper tiny.en transcribes it."""
    return _heard(outcome, bench, "Whisper tiny.en", bench.recognised)


def recognised_otherwise(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Word error rate of English speech, as PocketSphinx transcribes it: a judge whose ear no model of ours has."""
    return _heard(outcome, bench, "PocketSphinx", bench.recognised_otherwise)


def _heard(
    outcome: Outcome, bench: Bench, judge: str, transcribe: Callable[[Sequence[Part]], list[str]]
) -> list[dict[str, Any]]:
    """Word error rate of English speech by a recogniser. A missing answer has every word wrong.

    Baseline: the better of espeak-ng's and Piper's reading of the same words. Ceiling: the recordings themselves.
    """
    languages = facts(outcome, "language")
    if others := sorted({str(code) for code in languages} - {"en"}):
        bench.say(f"no word errors of speech in {', '.join(others)}: the independent recogniser knows English alone")
    rows = [row for row, language in enumerate(languages) if language == "en"][:MOST_HEARD]
    answers = [(number, part) for number, row in enumerate(rows) if (part := outcome.answers[row]) is not None]
    if not rows:
        return []
    texts = [str(facts(outcome, WORDS)[row]) for row in rows]
    spoken = [plain_words(text) or "." for text in texts]
    lengths = np.array([len(words.split()) for words in spoken], float)

    def errors(parts: Sequence[Part], numbers: Sequence[int]) -> np.ndarray:
        heard = [plain_words(text) or "." for text in transcribe(parts)]
        counts = [jiwer.process_words(spoken[n], words) for n, words in zip(numbers, heard, strict=True)]
        return np.array([c.substitutions + c.deletions + c.insertions for c in counts], float)

    def rate(parts: Sequence[Part]) -> float:
        return float(errors(parts, range(len(rows))).sum() / lengths.sum())

    truth = references(outcome)
    readings = {"read by espeak-ng": rate(bench.read_aloud(texts))}
    try:
        readings["read by Piper"] = rate(bench.read_by_piper(texts))
    except MissingError as error:
        bench.say(f"no baseline of speech read by Piper: {error}")
    wrong = lengths.copy()
    if answers:
        numbers = [number for number, _ in answers]
        wrong[numbers] = errors([part for _, part in answers], numbers)
    cell = entry(
        outcome, f"heard by {judge}: word error rate", wrong, higher=False, rows=rows,
        statistic=lambda drawn: float(wrong[drawn].sum() / lengths[drawn].sum()), baseline=min(readings.values()),
        judge=judge, judge_ceiling=rate([truth[row] for row in rows]),
    )  # fmt: skip
    return [{**cell, "by": cell["by"] | readings}]


def voice(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """Similarity of the answer's voice to the reference's, by GE2E; 0 for a missing answer.

    Baseline: another speaker's reference. Ceiling: another recording of the same speaker.
    """
    rows, parts = _answered(outcome)
    truth = references(outcome)
    real = bench.voice_features(truth)
    similarity = np.zeros(len(truth))
    if parts:
        similarity[rows] = np.einsum("nd,nd->n", bench.voice_features(parts), real[rows])
    speakers = facts(outcome, "speaker")
    others = partners(outcome.samples, len(truth))
    apart = [float(real[i] @ real[j]) for i, j in enumerate(others) if speakers[i] != speakers[j]]
    same = [next((j for j in range(len(truth)) if j != i and speakers[j] == s), None) for i, s in enumerate(speakers)]
    ceiling = [float(real[i] @ real[j]) for i, j in enumerate(same) if j is not None]
    return [
        entry(
            outcome, "likeness of voices", similarity, judge="GE2E (Resemblyzer)",
            baseline=float(np.mean(apart)) if apart else None,
            judge_ceiling=float(np.mean(ceiling)) if ceiling else None,
        )
    ]  # fmt: skip


SCORES = {
    "depicted": depicted, "retrieval": retrieval, "kernel distance": kernel_distance, "copies": copies, "pixels": pixels,
    "recognised": recognised, "recognised otherwise": recognised_otherwise, "voice": voice,
}  # fmt: skip
