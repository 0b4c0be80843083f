"""Low-rank adapters (Hu et al., 2021), a set for each expert: only the tokens of an expert pass through its adapters.

Tokens of the shared expert (words) are never touched, so the model keeps every word it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from plait.model.layers import product

SCALE = 2.0  # of every adapter's output


@dataclass(frozen=True)
class Routing:
    """Which tokens of a batch go through which adapters: their `index` [M] into the B * L tokens, expert by expert, and the
    `spans` of it, (expert's name, first, last + 1)."""

    index: Tensor
    spans: tuple[tuple[str, int, int], ...]


def route(expert: Tensor, numbers: Mapping[str, int], ranks: Mapping[str, int]) -> Routing | None:
    """Routing of [B, L] `expert` numbers; None if no token has an adapter. `numbers`: number of each expert by name."""
    flat = expert.flatten()
    names = sorted(ranks, key=lambda name: numbers[name])
    order = flat.argsort(stable=True)
    edges = [edge for name in names for edge in (numbers[name], numbers[name] + 1)]
    at = torch.searchsorted(flat[order], torch.tensor(edges, device=flat.device)).tolist()
    present = [(name, first, last) for name, first, last in zip(names, at[::2], at[1::2], strict=True) if last > first]
    if not present:
        return None
    index = torch.cat([order[first:last] for _, first, last in present])
    ends = list(accumulate(last - first for _, first, last in present))
    spans = tuple((name, end - (last - first), end) for (name, first, last), end in zip(present, ends, strict=True))
    return Routing(index, spans)


class Adapters(nn.Module):
    """Adapters of one linear layer, `down` [rank, in] and `up` [out, rank] for each expert."""

    def __init__(self, in_features: int, out_features: int, ranks: Mapping[str, int]) -> None:
        super().__init__()
        self.down = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(rank, in_features)) for name, rank in ranks.items()}
        )
        self.up = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(out_features, rank)) for name, rank in ranks.items()}
        )

    def freeze_for_inference(self, dtype: torch.dtype) -> None:
        """As `Linear.freeze_for_inference`."""
        self.requires_grad_(False)
        self.to(dtype)

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """[M, in] tokens that are routed, expert by expert -> [M, out]: what is added to the layer's output."""
        inner = {name: SCALE * product(x[first:last], self.down[name]) for name, first, last in routing.spans}
        added = [product(of_expert, self.up[name]) for name, of_expert in inner.items()]
        return added[0] if len(added) == 1 else torch.cat(added)


def adapters_of(layers: Mapping[str, nn.Linear], ranks: Mapping[str, int]) -> nn.ModuleDict:
    """Adapters of several layers, by the layers' names."""
    return nn.ModuleDict(
        {name: Adapters(layer.in_features, layer.out_features, ranks) for name, layer in layers.items()}
    )


def adapted(layer: nn.Module, adapters: nn.Module, x: Tensor, routing: Routing) -> Tensor:
    """[B, L, in] -> [B, L, out]: the layer, plus for routed tokens what their adapters add."""
    y: Tensor = layer(x)
    added = adapters(x.flatten(0, -2).index_select(0, routing.index), routing)
    y.flatten(0, -2).index_add_(
        0, routing.index, added.to(y.dtype)
    )  # the layer's backward pass does not need its output
    return y
