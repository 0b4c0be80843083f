"""An embedding of continuous tokens that knows the symbols around each of them: letters beside sound, say.

The trunk could find them in the tokens of a header; two cores do not have the time to teach it that (docs/adr/0038).
"""

from __future__ import annotations

from torch import Tensor, nn

from plait.heads.flow import FlowEmbedding
from plait.model.layers import Linear

FARTHEST = 8  # tokens
WIDTH, HIDDEN = 32, 1024  # floats of a symbol, and of the layers over all of them


def shown(time: Tensor) -> Tensor:
    """[N] times -> [N] factors of z in the mean of data of variance 1 given z = t x + (1 - t) noise: 0 for noise, 1 for data."""
    return time / (time.square() + (1.0 - time).square())


class SymbolsEmbedding(FlowEmbedding):
    """(tokens [N, W], coordinates [N, 1 + 2 * slots], time [N]) -> [N, D].

    Coordinates are the place of a token, then the symbols around it, 0 for none, then how many tokens after it each begins. To a
    `FlowEmbedding` of the place alone it adds a network of three layers over the symbols and their distances. Noised tokens count
    for what they show of data of variance 1 (`shown`, as c_in of Karras et al., 2022), or noise would drown the symbols.
    """

    def __init__(self, width: int, dim: int, slots: int, symbols: int) -> None:
        super().__init__(width, dim, num_coordinates=1)
        self.symbol, self.distance = nn.Embedding(symbols + 1, WIDTH), nn.Embedding(2 * FARTHEST + 1, WIDTH)
        self.around = nn.Sequential(
            Linear(slots * WIDTH, HIDDEN), nn.SiLU(), Linear(HIDDEN, HIDDEN), nn.SiLU(), Linear(HIDDEN, dim)
        )

    def forward(self, tokens: Tensor, coordinates: Tensor, time: Tensor) -> Tensor:
        embedded: Tensor = super().forward(tokens * shown(time)[:, None].to(tokens.dtype), coordinates, time)
        numbers, distances = coordinates[:, 1:].long().chunk(2, dim=-1)
        symbols = self.symbol(numbers) + self.distance(distances.clamp(-FARTHEST, FARTHEST) + FARTHEST)
        symbols = symbols * (numbers > 0).to(symbols.dtype)[..., None]
        around: Tensor = self.around(symbols.flatten(1).to(tokens.dtype))
        return embedded + around

    def position_features(self, coordinates: Tensor) -> Tensor:
        return super().position_features(coordinates[:, :1])
