"""The attention mask (docs/notation.md).

Query i may attend to key j iff j is in its row or in what its row begins with, and either (copy_j = 0 and block_j < block_i) or
(block_j = block_i and copy_j = copy_i).
"""

from __future__ import annotations

import torch
from torch import Tensor

from plait.data.pack import SHARED_ROW


def allowed(row: Tensor, block: Tensor, copy: Tensor, shares: Tensor | None = None) -> Tensor:
    """[B, L] integers each -> [B, L, L] bool: whether query i (axis 1) may attend to key j (axis 2). `shares` [B, L] bool: of
    which tokens the row begins with SHARED_ROW."""
    same_row = row[:, :, None] == row[:, None, :]
    if shares is not None:
        same_row = same_row | (shares[:, :, None] & (row == SHARED_ROW)[:, None, :])
    earlier = (copy[:, None, :] == 0) & (block[:, None, :] < block[:, :, None])
    together = (block[:, None, :] == block[:, :, None]) & (copy[:, None, :] == copy[:, :, None])
    return same_row & (earlier | together)


def allowed_by_definition(row: list[int], block: list[int], copy: list[int], shares: list[bool]) -> list[list[bool]]:
    """The slow reference of `allowed` for one sequence: the rule, pair by pair."""
    length = range(len(row))
    return [
        [
            (row[i] == row[j] or (shares[i] and row[j] == SHARED_ROW))
            and ((copy[j] == 0 and block[j] < block[i]) or (block[j] == block[i] and copy[j] == copy[i]))
            for j in length
        ]
        for i in length
    ]


def bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The additive mask in `dtype`: 0 where `mask` is true, a large negative number elsewhere."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -1e4)
