"""Small parts that heads, modalities and the trunk share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """A linear map in the dtype of its input; the weights stay in their own (float32 in training)."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class Norm(nn.Module):
    """Layer norm over the last axis, in the dtype of its input."""

    def __init__(self, width: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), bias)


def sinusoids(position: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """[...] positions -> [..., dim] float32: sin at even and cos at odd indices (Vaswani et al., 2017, section 3.5)."""
    rate = torch.exp(torch.arange(0, dim, 2, device=position.device) * (-math.log(base) / dim))
    angle = position.float()[..., None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)[..., :dim]
