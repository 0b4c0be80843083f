"""Layers that heads, modalities and the trunk share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.runtime.quantised import Quantised, quantise

PACKED_ROWS = 8  # rows of input that the packed layout is optimised for; other numbers work too


def few_numbers(rows: int) -> int:
    """`rows` rounded up to one of four numbers between powers of two, and to a multiple of 32."""
    step = max(32, 1 << max(0, (rows - 1).bit_length() - 3))
    return -(-rows // step) * step


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., in] -> [..., out] in the dtype of `x`.

    oneDNN prepares and keeps an operation for every number of rows, and packed rows bring another one every step. So while
    training in bfloat16 on a CPU, rows of zeros fill a number up to one of a few.
    """
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    prepared = x.dtype == torch.bfloat16 and x.device.type == "cpu" and torch.is_grad_enabled()
    if prepared and x.ndim == 2 and (rows := few_numbers(len(x))) != len(x):
        return F.linear(F.pad(x, (0, 0, 0, rows - len(x))), weight, bias)[: len(x)]
    return F.linear(x, weight, bias)


def pack(weight: Tensor) -> Tensor | None:
    """bfloat16 weights [out, in] on a CPU in the layout of oneDNN, for `packed_product`: half to a quarter of the time for a few rows;
    None where they have none."""
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or not _packs():
        return None
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_ROWS)
    return packed


@cache
def _packs() -> bool:
    """Whether oneDNN packs bfloat16 weights here: it refuses on processors without AVX-512 or AVX-NE-CONVERT."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(16, 16, dtype=torch.bfloat16), PACKED_ROWS)
    except RuntimeError:
        return False
    return True


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., in] bfloat16 -> [..., out], by weights that `pack` packed."""
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return output


class Linear(nn.Linear):
    """[..., in] -> [..., out] in the dtype of the input; the weights keep their own (float32 in training).

    On a CPU `freeze_for_inference` packs bfloat16 weights: the same result in less time.
    """

    packed: Tensor | None = None
    quantised: Quantised | None = None  # for steps of few tokens (plait.infer.fused)

    def freeze_for_inference(self, dtype: torch.dtype) -> None:
        """Convert the weights to `dtype` and disable gradients; later inputs must have this dtype."""
        self.requires_grad_(False)
        self.to(dtype)
        self.packed = pack(self.weight)

    def quantise(self, bits: int) -> None:
        """Round the weights to 8 or 4 bits, for good, before they are frozen. Raises ConfigError."""
        self.quantised = quantise(self.weight, bits)
        self.weight = nn.Parameter(self.quantised.dequantised(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is not None and x.dtype == torch.bfloat16:
            return packed_product(x, self.packed, self.bias)
        return product(x, self.weight, self.bias)

    def in_parts(self, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        """The output, split along its last axis into parts of `sizes`.

        While training on a CPU each part is a product of its own: the gradients of a split output would be copied together
        in the backward pass, which takes longer than the product.
        """
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return torch.split_with_sizes(self(x), sizes, dim=-1)
        weights = torch.split(self.weight.to(x.dtype), list(sizes))
        if self.bias is None:
            return tuple(F.linear(x, weight) for weight in weights)
        biases = torch.split(self.bias.to(x.dtype), list(sizes))
        return tuple(F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))


class Norm(nn.Module):
    """Normalisation over the last axis, in the dtype of its input.

    `layer` subtracts the mean and divides by the deviation (Ba et al., 2016), `rms` divides by the root mean square
    (Zhang and Sennrich, 2019), in float32. `plus_one`: the parameter is the weight minus 1, as in Gemma.
    """

    def __init__(
        self,
        width: int,
        bias: bool = False,
        kind: Literal["layer", "rms"] = "layer",
        eps: float = 1e-5,
        plus_one: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.eps, self.plus_one = kind, eps, plus_one
        self.weight = nn.Parameter(torch.zeros(width) if plus_one else torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def freeze_for_inference(self, dtype: torch.dtype) -> None:
        """As `Linear.freeze_for_inference`."""
        self.requires_grad_(False)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight + 1.0 if self.plus_one else self.weight
        bias: Tensor | None = self.bias
        if self.kind == "layer":
            if weight.dtype != x.dtype:
                weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
            return torch.layer_norm(x, weight.shape, weight, bias, self.eps)
        if x.is_cuda and not self.plus_one:
            return F.rms_norm(x, weight.shape, weight.to(x.dtype), self.eps)  # one kernel for seven
        scale = torch.rsqrt(x.float().square().mean(dim=-1, keepdim=True) + self.eps)
        if self.plus_one:  # Gemma multiplies before it rounds, Llama after
            return (x.float() * scale * weight.float()).to(x.dtype)
        return (x.float() * scale).to(x.dtype) * weight.to(x.dtype)


def sinusoids(position: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """[...] positions -> [..., dim] float32: sin at even and cos at odd indices (Vaswani et al., 2017, section 3.5)."""
    frequency = torch.exp(torch.arange(0, dim, 2, device=position.device) * (-math.log(base) / dim))
    angle = position.float()[..., None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)[..., :dim]
