"""What modalities learn from rows before a model does: vocabularies and normalisation statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from plait.contract import Modality, Part, Sample
from plait.data.media import opened

FIT_PARTS = 2000  # media files that normalisation statistics are taken from


def distinct_parts(samples: Iterable[Sample]) -> dict[str, list[Part]]:
    """Parts of some rows by modality, each value once, in the order of the values."""
    found: dict[str, dict[str, Part]] = {}
    for sample in samples:
        for message in sample.messages:
            for part in message.parts:
                found.setdefault(part.type, {})[str(part.value)] = part
    return {name: [parts[key] for key in sorted(parts)] for name, parts in found.items()}


def fit(modalities: Mapping[str, Modality], samples: Sequence[Sample], seed: int) -> dict[str, list[Part]]:
    """Let every modality learn its vocabulary or statistics from parts of the training rows; returns these parts."""
    parts = distinct_parts(samples)
    looked_at = {}
    for name, modality in modalities.items():
        found = parts.get(name, [])
        if modality.head == "flow" and len(found) > FIT_PARTS:
            chosen = np.random.default_rng([seed, 2]).choice(len(found), FIT_PARTS, replace=False)
            found = [found[index] for index in sorted(chosen)]
        if found:
            modality.fit(map(opened, found))
        looked_at[name] = found
    return looked_at
