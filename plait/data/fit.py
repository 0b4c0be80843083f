"""Fits modalities to the training rows before the model trains: vocabularies and normalisation statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from plait.contract import Modality, Part, Sample
from plait.data.media import with_bytes
from plait.data.rows import parts_of

MAX_FIT_PARTS = 2000  # media files that normalisation statistics are computed on


def distinct_parts(samples: Iterable[Sample]) -> dict[str, list[Part]]:
    """Distinct parts of `samples` by modality, sorted by value."""
    by_modality: dict[str, dict[str, Part]] = {}
    for sample in samples:
        for part in parts_of(sample):
            by_modality.setdefault(part.type, {})[str(part.value)] = part
    return {name: [parts[key] for key in sorted(parts)] for name, parts in by_modality.items()}


def fit(modalities: Mapping[str, Modality], samples: Sequence[Sample], seed: int) -> dict[str, list[Part]]:
    """Fit every modality to distinct parts of the training rows: at most MAX_FIT_PARTS for a continuous one, drawn with
    `seed`. Returns those parts by modality."""
    all_parts = distinct_parts(samples)
    fitted_parts = {}
    for name, modality in modalities.items():
        parts = all_parts.get(name, [])
        if modality.head == "flow" and len(parts) > MAX_FIT_PARTS:
            indices = np.random.default_rng([seed, 2]).choice(len(parts), MAX_FIT_PARTS, replace=False)
            parts = [parts[index] for index in sorted(indices)]
        if parts:
            modality.fit(map(with_bytes, parts))
        fitted_parts[name] = parts
    return fitted_parts
