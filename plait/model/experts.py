"""Which tokens of a batch have layers of their own (split experts, as in a mixture of transformers: Liang et al., 2024).

All tokens attend to each other; what is computed of a token alone, its projections and feed-forward networks, belongs to its
expert. Experts may be narrower than the trunk, and have layers beside some of its layers alone: where they have none, their
tokens pass unchanged and nothing sees them. A batch without such tokens takes the usual way, number for number.

In training, tokens that no gradient leaves are set apart: a frozen trunk's words that see nothing but each other. They pass
forward only, and padding does not pass at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from plait.model.lora import Routing, route


@dataclass(frozen=True)
class Split:
    """Indices into the B * L tokens of a batch: `shared` [S] are the trunk's, `settled` those of the trunk's that no gradient
    leaves, `own` those of each expert. `place` [B * L]: where a token stands when these follow each other; padding stands
    where another does. `adapters` route the shared ones. `mask` [B, L, L] bool: what each token sees; `padding` [B * L] bool."""

    shared: Tensor
    own: tuple[tuple[str, Tensor], ...]
    place: Tensor
    adapters: Routing | None
    settled: Tensor | None = None
    mask: Tensor | None = None
    padding: Tensor | None = None
    is_hollow: bool = False  # zeros stand in the place of some tokens

    @property
    def indices(self) -> tuple[Tensor, ...]:
        """Of the trunk's tokens, then of the settled ones where there are any, then of each expert's."""
        settled = () if self.settled is None else (self.settled,)
        return (self.shared, *settled, *(index for _, index in self.own))

    @property
    def is_one(self) -> bool:
        """Whether all tokens of the batch have the same layers, and stand in its order."""
        return not self.is_hollow and any(len(index) == len(self.place) for index in self.indices)

    def join(self, parts: list[Tensor]) -> Tensor:
        """[n, ...] of each of `indices` -> [B * L, ...] in the order of the batch."""
        zeros = [parts[0].new_zeros(1, *parts[0].shape[1:])] if self.is_hollow else []
        return torch.cat([*parts, *zeros]).index_select(0, self.place)

    def _among(self, skipped: Collection[str]) -> Tensor:
        """[n] where each of the tokens of `indices` stands when those of some experts are left out: these behind the last."""
        counts = [len(index) for index in self.indices]
        names = [""] * (len(counts) - len(self.own)) + [name for name, _ in self.own]
        is_left = torch.cat(
            [torch.full((count,), name not in skipped) for name, count in zip(names, counts, strict=True)]
        ).to(self.place.device)
        return torch.where(is_left, is_left.cumsum(0) - 1, is_left.sum())

    def hollow(self, skipped: Collection[str]) -> Split:
        """The same with zeros in the place of the tokens of some experts."""
        own_left = tuple((name, index) for name, index in self.own if name not in skipped)
        return replace(self, own=own_left, place=self._among(skipped)[self.place], is_hollow=True)

    def without(self, skipped: Collection[str], shape: tuple[int, int]) -> tuple[Split, Tensor]:
        """The same of a batch of `shape` [B, L] without the tokens of some experts: [B, M] tokens, and where each stood in L.

        M is the largest number of tokens that a sequence keeps; others end with tokens that nothing sees."""
        is_here = torch.ones(shape, dtype=torch.bool, device=self.place.device).flatten()
        if self.padding is not None:
            is_here &= ~self.padding
        for name, index in self.own:
            if name in skipped:
                is_here[index] = False
        is_here = is_here.view(shape)
        M = max(1, int(is_here.sum(dim=1).max()))
        tokens = torch.argsort((~is_here).int(), dim=1, stable=True)[:, :M]
        is_valid = is_here.gather(1, tokens)
        row = torch.arange(shape[0], device=tokens.device)[:, None]
        moved = torch.zeros_like(self.place)
        moved[(row * shape[1] + tokens)[is_valid]] = torch.arange(tokens.numel(), device=tokens.device).view_as(tokens)[
            is_valid
        ]
        order = self._among(skipped)
        place = torch.where(is_valid, order[self.place.view(shape).gather(1, tokens)], 0).flatten()
        mask = is_valid[:, None, :].expand(-1, M, -1)
        if self.mask is not None:
            mask = mask & self.mask[row[..., None], tokens[:, :, None], tokens[:, None, :]]
        own_left = tuple((name, moved[index]) for name, index in self.own if name not in skipped)
        settled = None if self.settled is None else moved[self.settled]
        return Split(moved[self.shared], own_left, place, self.adapters, settled, mask), tokens


def settled_tokens(moves: Tensor, mask: Tensor, begins: Tensor) -> Tensor:
    """Which of B * L tokens no gradient leaves, [B, L]: -1 where one does, else the index of the token that gives its vectors, its
    own or, of what all sequences begin with, that of the first.

    `moves` [B, L] bool: tokens that a gradient passes by themselves; `mask` [B, L, L] bool: what each sees; `begins` [B, L] bool:
    tokens that are alike in every sequence that has them. A token that sees one that moves, at whatever distance, moves."""
    while True:
        reached = moves | (mask & moves[:, None, :]).any(dim=-1)
        if torch.equal(reached, moves):
            break
        moves = reached
    B, L = moves.shape
    index = torch.arange(B * L, device=moves.device).view(B, L)
    alike = begins & ~moves
    of_first = torch.gather(index, 0, alike.int().argmax(dim=0, keepdim=True)).expand(B, L)
    return torch.where(moves, -1, torch.where(alike, of_first, index))


def plan(
    expert: Tensor,
    numbers: Mapping[str, int],
    ranks: Mapping[str, int],
    split: Mapping[str, int],
    padding: Tensor | None = None,
    settled: Tensor | None = None,
    mask: Tensor | None = None,
) -> Split | Routing | None:
    """The ways of [B, L] `expert` numbers: through layers of their own, through adapters, or neither (None). `numbers`: number of
    each expert by name; `ranks` of adapters and widths of an expert's own layers (`split`), by the expert's name; `padding` [B, L]
    bool: tokens that need not pass; `settled` [B, L] as `settled_tokens` gives it: shared ones that pass forward only; `mask` [B,
    L, L] bool: what each sees."""
    flat = expert.flatten()
    indices = [(name, (flat == numbers[name]).nonzero().flatten()) for name in sorted(split, key=lambda n: numbers[n])]
    tokens_by_expert = tuple((name, index) for name, index in indices if len(index))
    if not tokens_by_expert:
        return route(expert, numbers, ranks) if ranks else None
    is_shared = torch.ones_like(flat, dtype=torch.bool) if padding is None else ~padding.flatten()
    for _, index in tokens_by_expert:
        is_shared[index] = False
    computed, stands_for = None, flat.new_full(flat.shape, -1) if settled is None else settled.flatten()
    if (stands_for >= 0).any():
        computed = (is_shared & (stands_for == torch.arange(len(flat), device=flat.device))).nonzero().flatten()
        is_shared &= stands_for < 0
    shared = is_shared.nonzero().flatten()
    adapters = route(flat[shared][None], numbers, ranks) if ranks and len(shared) else None
    unused = None if padding is None else padding.flatten()
    unplaced = Split(shared, tokens_by_expert, flat, adapters, computed, mask, unused)
    order = torch.cat(unplaced.indices)
    position_of_token = torch.zeros_like(flat)  # padding stands where the first token does
    position_of_token[order] = torch.arange(len(order), device=order.device)
    place = torch.where(stands_for >= 0, position_of_token[stands_for], position_of_token)
    return replace(unplaced, place=place)
