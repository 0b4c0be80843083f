"""Rotary position embeddings (Su et al., 2021). Sinusoidal ones are in plait.model.layers."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class RotaryScaling(BaseModel):
    """Stretching of rotary frequencies for contexts longer than those of pretraining.

    `linear` divides every frequency by `factor` (Chen et al., 2023). `llama3` divides low ones, keeps high ones, and blends
    in between (the Llama 3.1 release). Unknown keys are errors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear", "llama3"]
    factor: float = Field(gt=0)
    low_freq_factor: float = Field(
        1.0, gt=0, description="wavelengths longer than original_length over this are stretched"
    )
    high_freq_factor: float = Field(
        4.0, gt=0, description="wavelengths shorter than original_length over this are kept"
    )
    original_length: int = Field(8192, ge=1, description="context length of pretraining, in positions")

    def stretch(self, frequency: Tensor) -> Tensor:
        """[n] frequencies in radians a position -> [n] stretched ones."""
        if self.kind == "linear":
            return frequency / self.factor
        num_turns = self.original_length * frequency / (2 * math.pi)  # in the original length
        blend = (num_turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        blend = blend.clamp(0.0, 1.0)
        return frequency * blend + frequency / self.factor * (1.0 - blend)


def rotary_table(
    position: Tensor, width: int, base: float = 10_000.0, scaling: RotaryScaling | None = None
) -> tuple[Tensor, Tensor]:
    """[B, L] positions -> cos and signed sin [B, L, 1, width] for `rotate` (Su et al., 2021)."""
    frequency = torch.exp(torch.arange(0, width, 2, device=position.device) * (-math.log(base) / width))
    if scaling is not None:
        frequency = scaling.stretch(frequency)
    angle = position.float()[..., None, None] * frequency
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x_BLHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (first half, second half) of a head's width by its angle; `cos` and `sin` from `rotary_table`.

    Where gradients flow the result lies in memory as [B, H, L, K], as attention reads it. The compiler gets the plain
    formula, which it fuses by itself.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        rotated: Tensor = _Rotate.apply(x_BLHK, cos, sin)  # type: ignore[no-untyped-call]
        return rotated
    return torch.addcmul(x_BLHK * cos, x_BLHK.roll(x_BLHK.shape[-1] // 2, dims=-1), sin)


class _Rotate(torch.autograd.Function):
    """`rotate` in three passes over memory each way, without copies of rolled halves."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_BLHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """As `rotate`."""
        ctx.save_for_backward(cos, sin)
        half = x_BLHK.shape[-1] // 2
        rotated = torch.empty_like(x_BLHK.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        torch.mul(x_BLHK, cos, out=rotated)
        rotated[..., :half].addcmul_(x_BLHK[..., half:], sin[..., :half])
        rotated[..., half:].addcmul_(x_BLHK[..., :half], sin[..., half:])
        return rotated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The rotation back."""
        cos, sin = ctx.saved_tensors
        half = gradient.shape[-1] // 2
        rotated = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        torch.mul(gradient, cos, out=rotated)
        rotated[..., half:].addcmul_(gradient[..., :half], sin[..., :half])
        rotated[..., :half].addcmul_(gradient[..., half:], sin[..., half:])
        return rotated, None, None
