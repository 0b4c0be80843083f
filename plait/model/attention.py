"""Scaled dot-product attention in three implementations; the tests hold them equal.

`B` batch, `H` heads, `G` key/value heads, `Q` queries, `T` keys, `K` head width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from plait.model.mask import bias

Prepared = Tensor | BlockMask | None  # None: every query sees every key


def attend_by_formula(
    q: Float[Tensor, "B H Q K"], k: Float[Tensor, "B G T K"], v: Float[Tensor, "B G T K"], mask: Bool[Tensor, "B Q T"]
) -> Float[Tensor, "B H Q K"]:
    """The slow reference: softmax(q k^T / sqrt(K)) v (Vaswani et al., 2017, equation 1), with keys and values repeated for
    the heads that share them (Ainslie et al., 2023)."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = torch.einsum("bhqk,bhtk->bhqt", q, k) / math.sqrt(q.shape[-1])
    weights = torch.softmax(scores.masked_fill(~mask[:, None], -math.inf), dim=-1)
    return torch.einsum("bhqt,bhtk->bhqk", weights, v)


def attend(
    q: Float[Tensor, "B H Q K"], k: Float[Tensor, "B G T K"], v: Float[Tensor, "B G T K"], mask: Prepared
) -> Float[Tensor, "B H Q K"]:
    """Fast attention in the dtype of keys and values, with a mask from `prepare`.

    Uses FlexAttention, which skips masked blocks, for a `BlockMask`; batched products in bfloat16 on a CPU, where they are
    faster (docs/experiments/cpu.md); SDPA otherwise. With G < H, folds the queries of a group into one row instead of
    repeating keys and values.
    """
    groups = q.shape[1] // k.shape[1]
    if isinstance(mask, BlockMask):
        output: Tensor = flex_attention(q, k, v, block_mask=mask, enable_gqa=groups > 1)
        return output
    if k.dtype != q.dtype:
        return attend(q.to(k.dtype), k, v, None if mask is None else mask.to(k.dtype)).to(q.dtype)
    B, H, Q, K = q.shape
    if groups > 1:
        folded = q.reshape(B, H // groups, groups * Q, K)
        if mask is not None:
            mask = mask[:, None].expand(B, groups, Q, -1).reshape(B, groups * Q, -1)
        return attend(folded, k, v, mask).view(B, H, Q, K)
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v)
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        keys, queries = k.reshape(B * H, -1, K), q.reshape(B * H, Q, K)
        scores = torch.bmm(queries * (1.0 / math.sqrt(K)), keys.transpose(1, 2))
        scores.view(B, H, Q, -1).add_(mask[:, None])  # in place: the product's gradient does not need its result
        return torch.bmm(torch.softmax(scores, dim=-1), v.reshape(B * H, -1, K)).view(B, H, Q, K)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])


def prepare(mask: Bool[Tensor, "B Q T"], dtype: torch.dtype, flexible: bool = False) -> Prepared:
    """The mask for `attend`, computed once for all layers: a bias [B, Q, T] in `dtype`, or blocks for FlexAttention if
    `flexible`."""
    if not flexible:
        return bias(mask, dtype)
    B, Q, T = mask.shape
    return create_block_mask(lambda b, h, q, k: mask[b, q, k], B, None, Q, T, device=mask.device)
