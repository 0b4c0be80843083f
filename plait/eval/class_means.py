"""The baseline of a model that reads through a frozen encoder: nearest class mean of that encoder's own features.

Whoever has the encoder has this classifier for nothing: the mean of the features of all training media with an answer, and the
answer whose mean is nearest. A model that stays below it has lost what its reader knew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from plait.contract import Part, Sample

Features = Callable[..., np.ndarray]  # of a part, [n, width]
SELDOM = 0.7  # different answers an example


def medium(sample: Sample, kind: str) -> Part:
    """The first part of a modality in a row's question."""
    return next(part for message in sample.messages[:-1] for part in message.parts if part.type == kind)


def direction(features: np.ndarray) -> np.ndarray:
    """[n, width] features of one medium -> [width] their mean, as a unit vector."""
    mean = features.astype(np.float32).mean(axis=0)
    unit: np.ndarray = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return unit


def nearest_class_mean(
    examples: Iterable[Sample], questions: Sequence[Sample], kind: str, features: Features
) -> list[str] | None:
    """The answer of the nearest class to each question, by the medium of a `kind`; None without examples, and where answers
    seldom come twice, as sentences do: they are no classes.

    A medium that is asked about in several phrasings counts once for each answer.
    """
    parts: dict[tuple[str, str], Part] = {}
    for sample in examples:
        part, answer = medium(sample, kind), str(sample.messages[-1].parts[0].value)
        parts.setdefault((str(part.value), answer), part)
    answers = sorted({answer for _, answer in parts})
    if len(answers) > SELDOM * len(parts) or not parts:
        return None
    number = {answer: index for index, answer in enumerate(answers)}
    sums: np.ndarray | None = None
    for (_, answer), part in parts.items():
        vector = direction(features(part))
        sums = np.zeros((len(answers), len(vector)), np.float32) if sums is None else sums
        sums[number[answer]] += vector
    assert sums is not None
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    asked = np.stack([direction(features(medium(sample, kind))) for sample in questions])
    return [answers[index] for index in (asked @ means.T).argmax(axis=1)]
