"""Flow head: one linear layer that predicts the clean tokens `x` of a block from `z = t x + (1 - t) noise`.

x-prediction with the velocity loss it implies: v = (x - z) / (1 - t), so the squared error is weighted by
1 / (1 - t)^2, clipped (JiT, arXiv:2511.13720; rectified flow, arXiv:2209.03003).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.layers import Linear, sinusoids

CLIP = 0.05  # smallest 1 - t in the loss weight
TIME_WIDTH = 128


class FlowEmbedding(nn.Module):
    """(tokens [N, W], coordinates [N, C], time [N]) -> [N, D].

    A linear map, fixed sinusoids of each coordinate, and a small network of the time, which is one value a block.
    """

    def __init__(self, width: int, dim: int, num_coordinates: int) -> None:
        super().__init__()
        self.tokens = Linear(width, dim)
        self.time = nn.Sequential(Linear(TIME_WIDTH, dim), nn.SiLU(), Linear(dim, dim))
        self.dim, self.num_coordinates = dim, num_coordinates

    def forward(self, tokens: Tensor, coordinates: Tensor, time: Tensor) -> Tensor:
        times, which = torch.unique(time, return_inverse=True)  # once a block, not once a token
        told = self.time(sinusoids(times * 1000.0, TIME_WIDTH).to(tokens.dtype))
        embedded: Tensor = self.tokens(tokens) + told[which]
        if self.num_coordinates:
            embedded += self.places(coordinates).to(tokens.dtype)
        return embedded

    def places(self, coordinates: Tensor) -> Tensor:
        """[N, C] coordinates -> [N, D] float32: sinusoids of each in a share of the width."""
        share = self.dim // self.num_coordinates // 2 * 2
        return F.pad(sinusoids(coordinates, share).flatten(-2), (0, self.dim - share * self.num_coordinates))


class FlowHead(nn.Module):
    """[N, D] hidden states of noised tokens -> [N, W] predicted clean tokens."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.predict = Linear(dim, width)

    def forward(self, hidden: Tensor) -> Tensor:
        predicted: Tensor = self.predict(hidden)
        return predicted.float()

    def loss(self, hidden: Tensor, clean: Tensor, time: Tensor) -> Tensor:
        """[N] `mean((x_hat - x)^2) / max(1 - t, CLIP)^2`."""
        error = (self(hidden) - clean).square().mean(dim=-1)
        loss: Tensor = error / (1.0 - time).clamp_min(CLIP).square()
        return loss


def times(steps: int) -> list[float]:
    """`steps + 1` times from noise (0) to data (1) for Euler's method."""
    return [step / steps for step in range(steps + 1)]


def guided_velocity(x_hat: np.ndarray, null: np.ndarray | None, z: np.ndarray, t: float, guidance: float) -> np.ndarray:
    """v = (x_hat - z) / (1 - t); with a null stream, v_null + guidance * (v - v_null) (arXiv:2207.12598)."""
    if null is not None:
        x_hat = null + guidance * (x_hat - null)
    velocity: np.ndarray = (x_hat - z) / (1.0 - t)  # t < 1: the last of n steps begins at 1 - 1 / n
    return velocity
