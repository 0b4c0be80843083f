"""Categorical head: logits over the vocabulary; cross-entropy to train, temperature to sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model.layers import Linear


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


def log_softmax(logits: Tensor) -> Tensor:
    """[..., V] log-probabilities."""
    return torch.log_softmax(logits, dim=-1)
