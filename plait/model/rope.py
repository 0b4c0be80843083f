"""Where a token stands: rotary embeddings inside attention. (The founding paper's sinusoids are in plait.model.layers.)"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rotary_table(position: Tensor, width: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """[B, L] positions -> cos and signed sin [B, L, 1, width], as `rotate` takes them (Su et al., 2021)."""
    rate = torch.exp(torch.arange(0, width, 2, device=position.device) * (-math.log(base) / width))
    angle = position.float()[..., None, None] * rate
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x_BLHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (first half, second half) of a head's width by its angle."""
    return torch.addcmul(x_BLHK * cos, x_BLHK.roll(x_BLHK.shape[-1] // 2, dims=-1), sin)
