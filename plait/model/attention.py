"""Scaled dot-product attention in three implementations; the tests hold them equal.

`B` batch, `H` heads, `G` key/value heads, `Q` queries, `T` keys, `K` head width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from plait.model.mask import bias
from plait.runtime.device import fused_attention_in_bfloat16

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
    faster, with gradients or without AMX (docs/experiments/cpu.md); SDPA otherwise. With G < H, folds the queries of a group into one row instead of
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
    by_products = torch.is_grad_enabled() or not fused_attention_in_bfloat16(q.device)
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and by_products:
        output = _Products.apply(q, k, v, mask)  # type: ignore[no-untyped-call]
        return output
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])


class _Products(torch.autograd.Function):
    """Attention by batched products, with a backward pass of its own: autograd's copies the scores' gradient once more for
    the mask that was added in place."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """As `attend`, with a mask [B, Q, T]."""
        B, H, Q, K = q.shape
        queries, keys, values = (x.reshape(B * H, -1, K) for x in (q, k, v))
        scores = _scaled_bmm(queries, keys.transpose(1, 2), 1.0 / math.sqrt(K))
        scores.view(B, H, Q, -1).add_(mask[:, None])
        weights = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(queries, keys, values, weights)
        return torch.bmm(weights, values).view(B, H, Q, K)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The gradients of queries, keys and values."""
        queries, keys, values, weights = ctx.saved_tensors
        B, H, Q, K = gradient.shape
        gradient = gradient.reshape(B * H, Q, K)
        d_values = torch.bmm(weights.transpose(1, 2), gradient)
        d_weights = torch.bmm(gradient, values.transpose(1, 2))
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_queries = _scaled_bmm(d_scores, keys, 1.0 / math.sqrt(K))
        d_keys = _scaled_bmm(d_scores.transpose(1, 2), queries, 1.0 / math.sqrt(K))
        return d_queries.view(B, H, Q, K), d_keys.view(B, H, -1, K), d_values.view(B, H, -1, K), None


def _scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * (a @ b) without another pass over memory."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def prepare(mask: Bool[Tensor, "B Q T"], dtype: torch.dtype, flexible: bool = False) -> Prepared:
    """The mask for `attend`, computed once for all layers: a bias [B, Q, T] in `dtype`, or blocks for FlexAttention if
    `flexible`."""
    if not flexible:
        return bias(mask, dtype)
    B, Q, T = mask.shape
    return create_block_mask(lambda b, h, q, k: mask[b, q, k], B, None, Q, T, device=mask.device)
