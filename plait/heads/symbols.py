"""An embedding of continuous tokens that knows the symbols around each of them, letters beside sound, and what they look like.

The trunk could find the symbols in the tokens of a header, and learn from nothing how they sound; two cores do not have the time to
teach it that (docs/adr/0038). A small network can: it sees a hundred times as many tokens a second.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.heads.flow import FlowEmbedding
from plait.model.layers import Linear

FARTHEST = 32  # parts of tokens
WIDTH, HIDDEN = 32, 1024  # floats of a symbol, and of the layers over all of them


def shown(time: Tensor) -> Tensor:
    """[N] times -> [N] share of z in the mean of data of variance 1 given z = t x + (1 - t) noise: 0 for noise, 1 for data."""
    return (time / (time.square() + (1.0 - time).square())).clamp(max=1.0)


class SymbolsEmbedding(FlowEmbedding):
    """(tokens [N, W], coordinates [N, 1 + 2 * slots], time [N]) -> [N, D].

    Coordinates are the place of a token, then the symbols around it, 0 for none, then how many parts of a token after it each
    begins. A network of three layers sketches the token from these (`expected`). What a noised token shows of the data
    (`shown`, as c_in of Karras et al., 2022) and the sketch of the rest go through a `FlowEmbedding` of the place alone.
    """

    def __init__(self, width: int, dim: int, slots: int, symbols: int) -> None:
        super().__init__(width, dim, num_coordinates=1)
        self.symbol, self.distance = nn.Embedding(symbols + 1, WIDTH), nn.Embedding(2 * FARTHEST + 1, WIDTH)
        self.sketch = nn.Sequential(
            Linear(slots * WIDTH, HIDDEN), nn.SiLU(), Linear(HIDDEN, HIDDEN), nn.SiLU(), Linear(HIDDEN, width)
        )

    def expected(self, coordinates: Tensor, dtype: torch.dtype = torch.float32, dropped: float = 0.0) -> Tensor:
        """[N, 1 + 2 * slots] coordinates -> [N, W] tokens as the symbols around them let expect them, computed in `dtype`; with a share
        `dropped` of what layers pass on, and a quarter as many symbols, left out."""
        numbers, distances = coordinates[:, 1:].long().chunk(2, dim=-1)
        if dropped:
            numbers = numbers * (torch.rand(numbers.shape, device=numbers.device) > dropped / 4)
        symbols = self.symbol(numbers) + self.distance(distances.clamp(-FARTHEST, FARTHEST) + FARTHEST)
        symbols = symbols * (numbers > 0).to(symbols.dtype)[..., None]
        passed = symbols.flatten(1).to(dtype)
        for layer in self.sketch:
            passed = layer(passed)
            if dropped and isinstance(layer, nn.SiLU):
                passed = F.dropout(passed, dropped)
        return passed  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor, coordinates: Tensor, time: Tensor) -> Tensor:
        share = shown(time)[:, None].to(tokens.dtype)
        estimate = share * tokens + (1.0 - share) * self.expected(coordinates, tokens.dtype)
        embedded: Tensor = super().forward(estimate, coordinates, time)
        return embedded

    def position_features(self, coordinates: Tensor) -> Tensor:
        return super().position_features(coordinates[:, :1])
