"""Categorical head: logits over the ids of one table, or of several concatenated; cross-entropy loss."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model.layers import Linear


class CategoricalHead(nn.Module):
    """[N, D] hidden states -> [N, V] float32 logits of one table, with its own weights or those of the embedding `tied_to`."""

    def __init__(self, dim: int, size: int, tied_to: nn.Embedding | None = None) -> None:
        super().__init__()
        # in a list, so that the table's weights are not registered as this module's
        self._tied_to = [tied_to] if tied_to is not None else []
        if tied_to is None:
            self.logits = Linear(dim, size)

    def forward(self, hidden: Tensor) -> Tensor:
        if self._tied_to:
            return F.linear(hidden, self._tied_to[0].weight.to(hidden.dtype)).float()
        logits: Tensor = self.logits(hidden)
        return logits.float()


def side_by_side(heads: Iterable[nn.Module], hidden: Tensor) -> Tensor:
    """[N, D] hidden states -> [N, V] logits of all tables, concatenated in the order of the ids."""
    logits = [head(hidden) for head in heads]
    return logits[0] if len(logits) == 1 else torch.cat(logits, dim=-1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """[N, V] logits and [N] target ids -> [N] losses in nats."""
    return F.cross_entropy(logits, target, reduction="none")


def log_softmax(logits: Tensor) -> Tensor:
    """[..., V] logits -> [..., V] log-probabilities."""
    return torch.log_softmax(logits, dim=-1)
