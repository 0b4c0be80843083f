"""Categorical head: logits over the ids of one table, or of several concatenated; cross-entropy loss."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from plait.model.layers import Linear, pack, packed_product, product
from plait.runtime import kernels
from plait.runtime.quantised import Quantised, quantise

CPU_CHUNK = 2**18  # logits at once: 1 MiB in float32 stays in a core's cache
GPU_CHUNK = 2**26


class CategoricalHead(nn.Module):
    """[N, D] hidden states -> [N, V] logits of one table, with its own weights or those of the embedding `tied_to`."""

    def __init__(self, dim: int, size: int, tied_to: nn.Embedding | None = None) -> None:
        super().__init__()
        self.size = size
        # in a list, so that the table's weights are not registered as this module's
        self._tied_to = [tied_to] if tied_to is not None else []
        self.packed: Tensor | None = None
        self.quantised: Quantised | None = None
        if tied_to is None:
            self.logits = Linear(dim, size)

    def freeze_for_inference(self, dtype: torch.dtype) -> None:
        """Convert the table that this head is tied to to `dtype`, and disable its gradients."""
        for table in self._tied_to:
            table.requires_grad_(False)
            table.to(dtype)
            if self.quantised is None:
                self.packed = pack(table.weight)
            elif kernels.library() is None:
                self.packed = pack(self.quantised.dequantised().to(dtype))

    def quantise(self, bits: int) -> None:
        """Round the weights of the table that this head is tied to to 8 or 4 bits, here alone: embeddings stay. Raises ConfigError."""
        for table in self._tied_to:
            self.quantised = quantise(table.weight, bits)

    def forward(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """With `ids` [n], [N, n] logits of these alone."""
        if ids is not None:
            weights = self._tied_to[0].weight if self._tied_to else self.logits.weight
            bias = None if self._tied_to else self.logits.bias
            return product(hidden, weights[ids], None if bias is None else bias[ids])
        if self.packed is not None and hidden.dtype == torch.bfloat16:
            return packed_product(hidden, self.packed)
        if self.quantised is not None:
            logits = self.quantised.product(hidden)
            return product(hidden, self.quantised.dequantised()) if logits is None else logits
        if self._tied_to:
            return product(hidden, self._tied_to[0].weight)
        return cast(Tensor, self.logits(hidden))


def side_by_side(heads: Collection[nn.Module], hidden: Tensor, ids: Tensor | None = None) -> Tensor:
    """[N, D] hidden states -> [N, V] logits of all tables, concatenated in the order of the ids; with `ids` [n], [N, n] logits of these,
    which rise, alone."""
    if ids is None:
        logits = [head(hidden) for head in heads]
    else:
        ends = list(accumulate(head.size for head in heads if isinstance(head, CategoricalHead)))
        borders = torch.searchsorted(ids, torch.tensor(ends, device=ids.device)).tolist()
        firsts, begins = (0, *ends), (0, *borders)
        chosen = [ids[a:b] - first for a, b, first in zip(begins, borders, firsts, strict=False)]
        logits = [head(hidden, of_head) for head, of_head in zip(heads, chosen, strict=True) if len(of_head)]
    return logits[0] if len(logits) == 1 else torch.cat(logits, dim=-1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """[N, V] logits and [N] target ids -> [N] losses in nats; computed in float32, or in float64 for logits in it."""
    losses: Tensor = _CrossEntropy.apply(logits, target)  # type: ignore[no-untyped-call]
    return losses


def cross_entropy_by_formula(logits: Tensor, target: Tensor) -> Tensor:
    """The slow reference of `cross_entropy`: -log softmax(logits)[target]."""
    return -torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32)).gather(
        1, target[:, None]
    )[:, 0]


class _CrossEntropy(torch.autograd.Function):
    """Chunks of rows small enough for the cache; keeps the logits in their own dtype and computes the softmax anew in the
    backward pass, instead of four passes over all logits in float32."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, target: Tensor) -> Tensor:
        """As `cross_entropy`."""
        dtype = torch.promote_types(logits.dtype, torch.float32)
        log_sum = logits.new_empty(len(logits), dtype=dtype)
        for rows in _chunks(logits):
            log_sum[rows] = torch.logsumexp(logits[rows].to(dtype), dim=-1)
        ctx.save_for_backward(logits, target, log_sum)
        return log_sum - logits.gather(1, target[:, None])[:, 0].to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """softmax(logits) - one-hot(target), times the gradient of each loss."""
        logits, target, log_sum = ctx.saved_tensors
        of_logits = torch.empty_like(logits)
        for rows in _chunks(logits):
            share = gradient[rows, None]
            chunk = torch.sub(logits[rows], log_sum[rows, None]).exp_().mul_(share)
            chunk.scatter_add_(1, target[rows, None], -share)
            of_logits[rows] = chunk
        return of_logits, None


def _chunks(logits: Tensor) -> Iterator[slice]:
    """Slices of rows of [N, V] logits."""
    size = max(1, (CPU_CHUNK if logits.device.type == "cpu" else GPU_CHUNK) // logits.shape[-1])
    return (slice(first, first + size) for first in range(0, len(logits), size))


def log_softmax(logits: Tensor) -> Tensor:
    """[..., V] logits -> [..., V] log-probabilities."""
    return torch.log_softmax(logits, dim=-1)
