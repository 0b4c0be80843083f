"""Flow head: one linear layer that predicts the clean tokens `x` of a block from `z = t x + (1 - t) noise`.

x-prediction with the velocity loss it implies: v = (x - z) / (1 - t), so the squared error is weighted by
1 / (1 - t)^2, clipped (JiT, arXiv:2511.13720; rectified flow, arXiv:2209.03003).

Where principal components of the data are known, the layer says what it expects of x, and z corrects this outside the trunk:
the conditional mean of a Gaussian around what was expected (a Kalman filter's update, direction by direction). So the trunk
need not pass on what z shows already, and it expects the same of x at every time (docs/adr/0013-what-the-noise-shows.md).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model.layers import Linear, sinusoids

CLIP = 0.05  # smallest 1 - t in the loss weight
TIME_WIDTH = 128
MAX_LOG_VAR = (
    10.0  # logarithm of the largest ratio of what an expectation leaves open to the data's variance, and of its inverse
)


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
    """[N, D] hidden states of tokens, the [N, W] noised tokens themselves and their [N] times -> [N, W] predicted clean ones.

    With `components` k > 0 the layer predicts k numbers, and plait.model.pca says what they stand for: `axes` [k, W],
    orthonormal, `variance` [k] of the data along each, and the data's `mean` [W]. A second layer says how much of the variance
    along each it leaves open, as a logarithm, so that z may count for more or for less.
    """

    def __init__(self, dim: int, width: int, components: int = 0) -> None:
        super().__init__()
        self.components = components
        self.predict = Linear(dim, components or width)
        if components:
            self.log_var = Linear(dim, components)
            self.register_buffer("axes", torch.eye(components, width))
            self.register_buffer("variance", torch.ones(components))
            self.register_buffer("mean", torch.zeros(width))

    axes: Tensor
    variance: Tensor
    mean: Tensor

    def freeze_for_inference(self, dtype: torch.dtype) -> None:
        """As `Linear.freeze_for_inference`."""
        if self.components:
            self.axes = self.axes.to(dtype)

    def forward(self, hidden: Tensor, noised: Tensor, time: Tensor) -> Tensor:
        predicted: Tensor = self.predict(hidden).float()
        if not self.components:
            return predicted
        axes, t = self.axes.to(hidden.dtype), time[:, None]
        along = F.linear((noised - t * self.mean).to(hidden.dtype), axes).float()
        expected = self.variance.sqrt() * predicted
        left = self.variance * self.log_var(hidden).float().clamp(-MAX_LOG_VAR, MAX_LOG_VAR).exp()
        gain = t * left / (t.square() * left + (1.0 - t).square())
        made = expected + gain * (along - t * expected)
        return self.mean + F.linear(made.to(hidden.dtype), axes.T).float()

    def times(self, steps: int) -> list[float]:
        """`steps + 1` times from noise (0) to data (1) for Euler's method: equal steps, or where components are known,
        times between which noise gives up equal shares of the data's variance."""
        if not self.components:
            return [step / steps for step in range(steps + 1)]
        variance = self.variance.cpu().double().numpy()  # not every device has float64
        t = 1.0 / (1.0 + np.exp(-np.linspace(-12, 12, 2001)))
        hidden = variance * (1 - t[:, None]) ** 2 / (t[:, None] ** 2 * variance + (1 - t[:, None]) ** 2)
        shown = 1.0 - hidden.sum(axis=1) / variance.sum()  # rises from 0 to 1
        between = np.interp(np.arange(1, steps) / steps, shown, t)
        return [0.0, *map(float, between), 1.0]

    def loss(self, hidden: Tensor, noised: Tensor, clean: Tensor, time: Tensor) -> Tensor:
        """[N] `mean((x_hat - x)^2) / max(1 - t, CLIP)^2`."""
        error = (self(hidden, noised, time) - clean).square().mean(dim=-1)
        loss: Tensor = error / (1.0 - time).clamp_min(CLIP).square()
        return loss
