"""Which tokens of a batch have layers of their own (split experts, as in a mixture of transformers: Liang et al., 2024).

All tokens attend to each other; what is computed of a token alone, its projections and feed-forward networks, belongs to its
expert. Experts may be narrower than the trunk. A batch without such tokens takes the usual way, number for number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from plait.model.lora import Routing, route


@dataclass(frozen=True)
class Split:
    """Indices into the B * L tokens of a batch: `shared` [S] are the trunk's, `own` those of each expert. `place` [B * L]:
    where a token stands when the shared ones are followed by those of each expert. `adapters` route the shared ones."""

    shared: Tensor
    own: tuple[tuple[str, Tensor], ...]
    place: Tensor
    adapters: Routing | None

    def join(self, parts: list[Tensor]) -> Tensor:
        """[S, ...] and [n, ...] of each expert -> [B * L, ...] in the order of the batch."""
        return torch.cat(parts).index_select(0, self.place)


def plan(
    expert: Tensor, numbers: Mapping[str, int], ranks: Mapping[str, int], split: Mapping[str, int]
) -> Split | Routing | None:
    """The ways of [B, L] `expert` numbers: through layers of their own, through adapters, or neither (None). `numbers`: number of
    each expert by name; `ranks` of adapters and widths of an expert's own layers (`split`), by the expert's name."""
    flat = expert.flatten()
    indices = [(name, (flat == numbers[name]).nonzero().flatten()) for name in sorted(split, key=lambda n: numbers[n])]
    tokens_by_expert = tuple((name, index) for name, index in indices if len(index))
    if not tokens_by_expert:
        return route(expert, numbers, ranks) if ranks else None
    is_shared = torch.ones_like(flat, dtype=torch.bool)
    for _, index in tokens_by_expert:
        is_shared[index] = False
    shared = is_shared.nonzero().flatten()
    order = torch.cat([shared, *(index for _, index in tokens_by_expert)])
    position_of_token = torch.empty_like(order)
    position_of_token[order] = torch.arange(len(order), device=order.device)
    adapters = route(flat[shared][None], numbers, ranks) if ranks and len(shared) else None
    return Split(shared, tokens_by_expert, position_of_token, adapters)
