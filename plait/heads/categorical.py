"""Categorical head: logits over the vocabulary; cross-entropy to train, temperature to sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.layers import Linear


class CategoricalHead(nn.Module):
    """[N, D] hidden states -> [N, V] logits."""

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.logits = Linear(dim, size)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.logits(hidden)
        return logits.float()

    def loss(self, hidden: Tensor, target: Tensor) -> Tensor:
        """[N] cross-entropy of [N] target ids, in nats."""
        return F.cross_entropy(self(hidden), target, reduction="none")


def choose(
    logits: np.ndarray, legal: Sequence[int] | np.ndarray | None, temperature: float, rng: np.random.Generator
) -> int:
    """One id from [V] `logits` among the `legal` ones (None: all). Temperature 0 takes the best."""
    places = np.arange(len(logits)) if legal is None else np.asarray(legal)
    scores = logits[places].astype(np.float64)
    if temperature <= 0 or len(places) == 1:
        return int(places[int(scores.argmax())])
    with np.errstate(over="ignore"):  # a tiny temperature sends what is not the best to minus infinity, as it should
        weights = np.exp((scores - scores.max()) / temperature)
    return int(rng.choice(places, p=weights / weights.sum()))


def log_softmax(logits: Tensor) -> Tensor:
    """[..., V] log-probabilities."""
    return torch.log_softmax(logits, dim=-1)
