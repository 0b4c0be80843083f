"""Flow head: one linear layer that predicts the clean tokens `x` of a block from `z = t x + (1 - t) noise`.

x-prediction with the velocity loss it implies: v = (x - z) / (1 - t), so the squared error is weighted by
1 / (1 - t)^2, clipped (JiT, arXiv:2511.13720; rectified flow, arXiv:2209.03003).

With principal components of the data, the layer predicts the mean of x given the context, and z corrects it outside the
trunk: the conditional mean of a Gaussian around the prediction (a Kalman filter's update in each direction). The trunk need
not pass on the information in z, and predicts the same mean at every time (docs/adr/0013-what-the-noise-shows.md).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model.layers import Linear, sinusoids

CLIP = 0.05  # smallest 1 - t in the loss weight
TIME_WIDTH = 128
MAX_LOG_VAR = 10.0  # bound of |log(variance left open by the prediction / variance of the data)|


class FlowEmbedding(nn.Module):
    """(tokens [N, W], coordinates [N, C], time [N]) -> [N, D].

    The sum of a linear map, fixed sinusoids of the coordinates, and a small network of the time, which is constant in a
    block.
    """

    def __init__(self, width: int, dim: int, num_coordinates: int) -> None:
        super().__init__()
        self.tokens = Linear(width, dim)
        self.time = nn.Sequential(Linear(TIME_WIDTH, dim), nn.SiLU(), Linear(dim, dim))
        self.dim, self.num_coordinates = dim, num_coordinates

    def forward(self, tokens: Tensor, coordinates: Tensor, time: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            time_vectors = self.time(sinusoids(time * 1000.0, TIME_WIDTH).to(tokens.dtype))
        else:
            times, index = torch.unique(time, return_inverse=True)  # once a block, not once a token
            time_vectors = self.time(sinusoids(times * 1000.0, TIME_WIDTH).to(tokens.dtype))[index]
        embedded: Tensor = self.tokens(tokens) + time_vectors
        if self.num_coordinates:
            embedded += self.position_features(coordinates).to(tokens.dtype)
        return embedded

    def position_features(self, coordinates: Tensor) -> Tensor:
        """[N, C] coordinates -> [N, D] float32: sinusoids of each coordinate in an equal share of the width."""
        share = self.dim // self.num_coordinates // 2 * 2
        return F.pad(sinusoids(coordinates, share).flatten(-2), (0, self.dim - share * self.num_coordinates))


class FlowHead(nn.Module):
    """[N, D] hidden states, [N, W] noised tokens and their [N] times -> [N, W] float32 predictions of the clean tokens.

    Where an embedding tells what tokens to expect ([N, W], `expected`), the layer predicts how they differ from that.

    With `components` k > 0 the layer predicts k principal components, which plait.model.pca sets: orthonormal `axes` [k, W],
    the data's `variance` [k] along each, and its `mean` [W]. A second layer predicts the logarithm of the share of each
    variance that the prediction leaves open, so that z may weigh more or less.
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

    def forward(self, hidden: Tensor, noised: Tensor, time: Tensor, expected: Tensor | None = None) -> Tensor:
        predicted: Tensor = self.predict(hidden).float()
        if not self.components:
            return predicted if expected is None else expected.float() + predicted
        axes, t = self.axes.to(hidden.dtype), time[:, None]
        observed = F.linear((noised - t * self.mean).to(hidden.dtype), axes).float()
        mean = self.variance.sqrt() * predicted
        if expected is not None:
            mean = mean + F.linear((expected.float() - self.mean).to(hidden.dtype), axes).float()
        open_variance = self.variance * self.log_var(hidden).float().clamp(-MAX_LOG_VAR, MAX_LOG_VAR).exp()
        gain = t * open_variance / (t.square() * open_variance + (1.0 - t).square())
        corrected = mean + gain * (observed - t * mean)
        return self.mean + F.linear(corrected.to(hidden.dtype), axes.T).float()

    def times(self, steps: int) -> list[float]:
        """`steps + 1` times from noise (0) to data (1) for Euler's method: equal steps, or with components, times between
        which z reveals equal shares of the data's variance."""
        if not self.components:
            return [step / steps for step in range(steps + 1)]
        variance = self.variance.cpu().double().numpy()  # not every device has float64
        t = 1.0 / (1.0 + np.exp(-np.linspace(-12, 12, 2001)))
        hidden_variance = variance * (1 - t[:, None]) ** 2 / (t[:, None] ** 2 * variance + (1 - t[:, None]) ** 2)
        revealed = 1.0 - hidden_variance.sum(axis=1) / variance.sum()  # rises from 0 to 1
        inner_times = np.interp(np.arange(1, steps) / steps, revealed, t)
        return [0.0, *map(float, inner_times), 1.0]

    def loss(
        self, hidden: Tensor, noised: Tensor, clean: Tensor, time: Tensor, expected: Tensor | None = None
    ) -> Tensor:
        """[N] losses `mean((x_hat - x)^2) / max(1 - t, CLIP)^2`; arguments as in `forward`, and [N, W] clean tokens."""
        return self.weighed(self(hidden, noised, time, expected) - clean, time)

    def weighed(self, difference: Tensor, time: Tensor) -> Tensor:
        """[N] what a difference [N, W] between clean tokens counts at [N] times: as one between velocities."""
        loss: Tensor = difference.square().mean(dim=-1) / (1.0 - time).clamp_min(CLIP).square()
        return loss
