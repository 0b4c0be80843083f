"""Initial weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from plait.model.transformer import Trunk


def initialise(module: nn.Module, seed: int) -> None:
    """Normal weights of variance 1 / fan-in, zero biases; each residual branch ends at zero, so that the trunk
    begins as the identity (a post-norm trunk keeps its branches: it has no identity path). Same seed, same weights."""
    generator = torch.Generator().manual_seed(seed)
    for _, part in sorted(module.named_modules(), key=lambda named: named[0]):
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=1.0 / math.sqrt(part.in_features), generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=1.0, generator=generator)
    for trunk in module.modules():
        if isinstance(trunk, Trunk) and trunk.config.norm == "pre":
            for layer in trunk.layers:
                nn.init.zeros_(layer.attention.out.weight)  # type: ignore[union-attr, arg-type]
                nn.init.zeros_(layer.feed_forward.down.weight)  # type: ignore[union-attr, arg-type]
