"""Where a token stands: rotary embeddings inside attention. (The founding paper's sinusoids are in plait.layers.)"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rotary_table(position: Tensor, width: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """[B, L] positions -> cos and sin [B, L, width / 2] (Su et al., 2021)."""
    rate = torch.exp(torch.arange(0, width, 2, device=position.device) * (-math.log(base) / width))
    angle = position.float()[..., None] * rate
    return angle.cos(), angle.sin()


def rotate(x_BLHK: Tensor, cos_BLK: Tensor, sin_BLK: Tensor) -> Tensor:
    """Turn each pair (first half, second half) of a head's width by its angle."""
    first, second = x_BLHK.chunk(2, dim=-1)
    cos, sin = cos_BLK[:, :, None], sin_BLK[:, :, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
