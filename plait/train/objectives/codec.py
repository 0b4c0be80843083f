"""Trains the parts of codecs, such as a vocoder, on media alone; the trunk takes no part."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from plait import registry
from plait.contract import Sample
from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer


class Codec:
    """A loss group for each modality whose codec has trained parts, named after it. What the losses are its folder says
    (plait.modalities.Weights)."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(names)

    def learns_from(self, sample: Sample) -> bool:
        """Where there are media of such a modality."""
        return any(part.type in self.names for message in sample.messages for part in message.parts)

    def groups(self, model: MultimodalTransformer) -> tuple[str, ...]:
        """Modalities with trained parts."""
        return self.names

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Examples of each."""
        return {name: float(len(batch.examples[name][0])) if name in batch.examples else 0.0 for name in self.names}

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of each."""
        sums = {}
        for name, parts in model.codecs.items():
            weights = registry.weights(name)
            assert weights is not None
            sums[name] = sum((p.sum() * 0.0 for p in parts.parameters()), torch.zeros((), device=model.device))
            if name in batch.examples:
                sums[name] = sums[name] + weights.losses(parts, *batch.examples[name]).sum()
        return sums
