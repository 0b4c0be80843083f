"""Teaches embedders what tokens to expect by the symbols around them, letters beside sound; the trunk takes no part.

So a thousand times as many tokens a second are learned from as with the trunk, which then begins where the sketch ends
(docs/adr/0038-letters-around-sound.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from plait.contract import Sample
from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer

DROPPED = (
    0.12  # share of what the layers pass on that is left out, so that the sketch learns to speak, not clips by heart
)


class Sketch:
    """A loss group for each modality that sketches, named after it: squared errors of the tokens that are learned."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(names)

    def learns_from(self, sample: Sample) -> bool:
        """Where media of such a modality are answered."""
        learned = (message for message in sample.messages if message.role in (None, "assistant"))
        return any(part.type in self.names for message in learned for part in message.parts)

    def groups(self, model: MultimodalTransformer) -> tuple[str, ...]:
        """Modalities that sketch."""
        return self.names

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Tokens of each."""
        return {name: float(len(batch.noised[name].index)) if name in batch.noised else 0.0 for name in self.names}

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of each."""
        sums = {}
        for name in self.names:
            parameters, tokens = model.embedders[name].parameters(), batch.noised.get(name)
            sums[name] = sum((p.sum() * 0.0 for p in parameters), torch.zeros((), device=model.device))
            if tokens is not None and len(tokens.index):
                sketched = model.expected(name, tokens.coordinates, DROPPED)
                assert sketched is not None
                sums[name] = sums[name] + (sketched.float() - tokens.clean).square().mean(dim=-1).sum()
        return sums
