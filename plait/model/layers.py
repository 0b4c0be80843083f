"""Small parts that heads, modalities and the trunk share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS_PACKED_FOR = 8  # tokens of a step that the layout is chosen for; others are right too


class Linear(nn.Linear):
    """A linear map in the dtype of its input; the weights stay in their own (float32 in training).

    `freeze_for_inference` fixes the dtype for inference, and on a CPU lays bfloat16 weights out as oneDNN wants them: the same numbers
    in half the time for a few rows.
    """

    packed: Tensor | None = None

    def freeze_for_inference(self, dtype: torch.dtype) -> None:
        """From now on inputs are of `dtype`, and no gradient is wanted."""
        self.requires_grad_(False)
        self.to(dtype)
        if (
            dtype == torch.bfloat16
            and self.weight.device.type == "cpu"
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        ):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), ROWS_PACKED_FOR)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is not None and x.dtype == torch.bfloat16:
            made: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
            return made
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class Norm(nn.Module):
    """Layer norm over the last axis, in the dtype of its input."""

    def __init__(self, width: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def freeze_for_inference(self, dtype: torch.dtype) -> None:
        """As `Linear.freeze_for_inference`."""
        self.requires_grad_(False)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), bias)


def sinusoids(position: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """[...] positions -> [..., dim] float32: sin at even and cos at odd indices (Vaswani et al., 2017, section 3.5)."""
    rate = torch.exp(torch.arange(0, dim, 2, device=position.device) * (-math.log(base) / dim))
    angle = position.float()[..., None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)[..., :dim]
