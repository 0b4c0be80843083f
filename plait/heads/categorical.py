"""Categorical head: logits over the ids of one table, or of several side by side; cross-entropy to train."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model.layers import Linear


class CategoricalHead(nn.Module):
    """[N, D] hidden states -> [N, V] logits of one table. Without weights of its own it uses those of `tied_to`."""

    def __init__(self, dim: int, size: int, tied_to: nn.Embedding | None = None) -> None:
        super().__init__()
        self._tied_to = [tied_to] if tied_to is not None else []  # in a list: the table's weights are not this module's
        if tied_to is None:
            self.logits = Linear(dim, size)

    def forward(self, hidden: Tensor) -> Tensor:
        if self._tied_to:
            return F.linear(hidden, self._tied_to[0].weight.to(hidden.dtype)).float()
        logits: Tensor = self.logits(hidden)
        return logits.float()


def side_by_side(heads: Iterable[nn.Module], hidden: Tensor) -> Tensor:
    """[N, V] logits of all tables, in the order of the ids."""
    logits = [head(hidden) for head in heads]
    return logits[0] if len(logits) == 1 else torch.cat(logits, dim=-1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """[N] losses of [N] target ids, in nats."""
    return F.cross_entropy(logits, target, reduction="none")


def log_softmax(logits: Tensor) -> Tensor:
    """[..., V] log-probabilities."""
    return torch.log_softmax(logits, dim=-1)
