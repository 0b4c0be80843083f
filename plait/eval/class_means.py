"""The baseline of a model that reads through a frozen encoder: nearest class mean of that encoder's own features.

Whoever has the encoder has this classifier for nothing: the mean of the features of all training media with an answer, and the
answer whose mean is nearest. A model that stays below it has lost what its reader knew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from plait.contract import Part, Sample

Features = Callable[..., np.ndarray]  # of a part, [n, width]


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
    """The answer of the nearest class to each question, by the medium of a `kind`; None without examples.

    A medium that is asked about in several phrasings counts once for each answer.
    """
    found: dict[tuple[str, str], np.ndarray] = {}
    for sample in examples:
        part, answer = medium(sample, kind), str(sample.messages[-1].parts[0].value)
        if (str(part.value), answer) not in found:
            found[str(part.value), answer] = direction(features(part))
    if not found:
        return None
    answers = sorted({answer for _, answer in found})
    number = {answer: index for index, answer in enumerate(answers)}
    sums = np.zeros((len(answers), len(next(iter(found.values())))), np.float32)
    for (_, answer), vector in found.items():
        sums[number[answer]] += vector
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    asked = np.stack([direction(features(medium(sample, kind))) for sample in questions])
    return [answers[index] for index in (asked @ means.T).argmax(axis=1)]
