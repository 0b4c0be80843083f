"""Low-rank adapters (Hu et al., 2021), in sets: only the tokens of its expert pass through a set.

A set is called after its expert (`image_given`); further ones of the same expert have a name behind a plus sign
(`image_given+mine`), and their sums add up. Tokens of words pass through adapters only where a set says so (`shared+mine`), so
a model without one keeps every word it had. There are two ways to the same sum. `Spans` sorts tokens by expert and computes no more than needed: for processors. `Gates` passes all tokens through the
adapters of all experts side by side and zeroes what is not theirs: more arithmetic, a fifth of the kernels, no waiting for
the device, and fixed shapes: for accelerators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model.layers import product

SCALE = 2.0  # of every adapter's output
FURTHER = "+"  # between an expert and the name of a further set of its adapters


def expert_of(adapters: str) -> str:
    """The expert whose tokens pass through a set of adapters, by the set's name."""
    return adapters.partition(FURTHER)[0]


@dataclass(frozen=True)
class Spans:
    """Which tokens of a batch go through which adapters: their `index` [M] into the B * L tokens, set by set, and the
    `spans` of it, (name of the set, first, last + 1)."""

    index: Tensor
    spans: tuple[tuple[str, int, int], ...]

    def add(self, y: Tensor, x: Tensor, adapters: Adapters) -> Tensor:
        """`y` [N, out], to which it adds in place what the adapters make of `x` [N, in]."""
        return y.index_add_(0, self.index, self.of_routed(x.index_select(0, self.index), adapters).to(y.dtype))

    def of_routed(self, x: Tensor, adapters: Adapters) -> Tensor:
        """[M, in] tokens that are routed, set by set -> [M, out]: what is added to the layer's output."""
        inner = {name: SCALE * product(x[first:last], adapters.down[name]) for name, first, last in self.spans}
        added = [product(of_expert, adapters.up[name]) for name, of_expert in inner.items()]
        return added[0] if len(added) == 1 else torch.cat(added)


@dataclass(frozen=True)
class Gates:
    """Which tokens of a batch go through which adapters: `gates` [B * L, R] is SCALE in the columns of the sets of a token's own
    expert and 0 elsewhere; R is the sum of all ranks, by the sets' names in alphabetical order."""

    gates: Tensor

    def add(self, y: Tensor, x: Tensor, adapters: Adapters) -> Tensor:
        """As `Spans.add`."""
        names = sorted(adapters.down)
        down = torch.cat([adapters.down[name] for name in names]).to(x.dtype)
        up = torch.cat([adapters.up[name] for name in names], dim=1).to(x.dtype)
        return y.addmm_(F.linear(x, down) * self.gates.to(x.dtype), up.T)


Routing = Spans | Gates


def route(expert: Tensor, numbers: Mapping[str, int], ranks: Mapping[str, int]) -> Routing | None:
    """Routing of [B, L] `expert` numbers, as the device likes it. `numbers`: number of each expert by name."""
    return spans(expert, numbers, ranks) if expert.device.type == "cpu" else gates(expert, numbers, ranks)


def gates(expert: Tensor, numbers: Mapping[str, int], ranks: Mapping[str, int]) -> Gates:
    """The gates of [B, L] `expert` numbers."""
    owners = [numbers[expert_of(name)] for name in sorted(ranks) for _ in range(ranks[name])]
    owned = expert.flatten()[:, None] == torch.tensor(owners, device=expert.device)
    return Gates(SCALE * owned.float())


def spans(expert: Tensor, numbers: Mapping[str, int], ranks: Mapping[str, int]) -> Spans | None:
    """The spans of [B, L] `expert` numbers; None if no token has an adapter."""
    flat = expert.flatten()
    number_of = {name: numbers[expert_of(name)] for name in ranks}
    names = sorted(ranks, key=lambda name: (number_of[name], name))
    order = flat.argsort(stable=True)
    edges = [edge for name in names for edge in (number_of[name], number_of[name] + 1)]
    at = torch.searchsorted(flat[order], torch.tensor(edges, device=flat.device)).tolist()
    present = [(name, first, last) for name, first, last in zip(names, at[::2], at[1::2], strict=True) if last > first]
    if not present:
        return None
    index = torch.cat([order[first:last] for _, first, last in present])
    ends = list(accumulate(last - first for _, first, last in present))
    return Spans(
        index,
        tuple((name, end - (last - first), end) for (name, first, last), end in zip(present, ends, strict=True)),
    )


class Adapters(nn.Module):
    """Adapters of one linear layer, `down` [rank, in] and `up` [out, rank] of each set."""

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


def adapters_of(layers: Mapping[str, nn.Linear], ranks: Mapping[str, int]) -> nn.ModuleDict:
    """Adapters of several layers, by the layers' names."""
    return nn.ModuleDict(
        {name: Adapters(layer.in_features, layer.out_features, ranks) for name, layer in layers.items()}
    )


def adapted(layer: nn.Module, adapters: nn.Module, x: Tensor, routing: Routing) -> Tensor:
    """[B, L, in] -> [B, L, out]: the layer, plus for routed tokens what their adapters add.

    Adding in place is safe: the layer's backward pass does not need its output. Flat tensors, since autograd copies the
    gradient of a view that was changed.
    """
    flat = x.flatten(0, -2)
    y: Tensor = routing.add(layer(flat), flat, adapters)  # type: ignore[arg-type]
    return y.view(*x.shape[:-1], -1)
