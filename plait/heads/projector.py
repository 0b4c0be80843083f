"""From the features of a frozen encoder to the trunk's width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model.layers import Linear, Norm

HIDDEN = 1024


class Projector(nn.Module):
    """(features [N, width], coordinates, time) -> [N, dim]: two layers, to vectors whose root mean square is `gain`."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norm = Norm(width, bias=True)
        self.hidden = Linear(width, HIDDEN)
        self.out = Linear(HIDDEN, dim)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, features: Tensor, coordinates: Tensor, time: Tensor) -> Tensor:
        projected: Tensor = self.out(F.gelu(self.hidden(self.norm(features))))
        unit = projected.float() * torch.rsqrt(projected.float().square().mean(dim=-1, keepdim=True) + 1e-6)
        scaled: Tensor = (unit * self.gain).to(features.dtype)
        return scaled
