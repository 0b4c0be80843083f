"""The mask, whole (docs/notation.md).

Query i may attend to key j iff row_i = row_j and either (copy_j = 0 and block_j < block_i) or
(block_j = block_i and copy_j = copy_i).
"""

from __future__ import annotations

import torch
from torch import Tensor


def allowed(row: Tensor, block: Tensor, copy: Tensor) -> Tensor:
    """[B, L] integers each -> [B, L, L] bool, query by key."""
    same_row = row[:, :, None] == row[:, None, :]
    earlier = (copy[:, None, :] == 0) & (block[:, None, :] < block[:, :, None])
    together = (block[:, None, :] == block[:, :, None]) & (copy[:, None, :] == copy[:, :, None])
    return same_row & (earlier | together)


def allowed_by_definition(row: list[int], block: list[int], copy: list[int]) -> list[list[bool]]:
    """The rule read aloud, one pair at a time: the slow reference of `allowed`."""
    length = range(len(row))
    return [
        [
            row[i] == row[j]
            and ((copy[j] == 0 and block[j] < block[i]) or (block[j] == block[i] and copy[j] == copy[i]))
            for j in length
        ]
        for i in length
    ]


def bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where `mask` allows, a large negative number elsewhere; to be added to scores."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -1e4)
