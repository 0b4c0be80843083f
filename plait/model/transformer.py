"""The trunk. Pre-norm, QK-norm, rotary positions, SwiGLU, grouped-query attention; `vanilla` is the founding paper's.

`B` batch, `L` queries, `T` keys, `H` heads, `K` head width, `D` model width.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from plait.model.attention import Prepared, attend, prepare
from plait.model.layers import Linear, Norm, sinusoids
from plait.model.rope import rotary_table, rotate


class TrunkConfig(BaseModel):
    """Shape of the trunk. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(256, ge=8, description="model width")
    num_layers: int = Field(6, ge=1)
    num_heads: int = Field(4, ge=1)
    num_kv_heads: int | None = Field(None, ge=1, description="key/value heads shared by the query heads; none: all")
    hidden: int | None = Field(None, ge=1, description="feed-forward width; none: 8/3 of dim (4 of dim for ReLU)")
    norm: Literal["pre", "post"] = "pre"
    qk_norm: bool = True
    positions: Literal["rotary", "sinusoidal"] = "rotary"
    feed_forward: Literal["swiglu", "relu"] = "swiglu"
    bias: bool = False

    @model_validator(mode="after")
    def _fits(self) -> TrunkConfig:
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ValueError(f"dim={self.dim} does not split into {self.num_heads} heads of even width")
        if self.num_heads % self.kv_heads:
            raise ValueError(f"num_heads={self.num_heads} is no multiple of num_kv_heads={self.kv_heads}")
        return self

    @property
    def head_width(self) -> int:
        return self.dim // self.num_heads

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def hidden_width(self) -> int:
        if self.hidden:
            return self.hidden
        return 4 * self.dim if self.feed_forward == "relu" else (8 * self.dim // 3 + 63) // 64 * 64


def vanilla(dim: int = 256, num_layers: int = 6, num_heads: int = 4) -> TrunkConfig:
    """The Transformer of Vaswani et al. (2017): post-norm, multi-head attention, sinusoids, ReLU feed-forward."""
    return TrunkConfig(
        dim=dim,
        num_layers=num_layers,
        num_heads=num_heads,
        norm="post",
        qk_norm=False,
        positions="sinusoidal",
        feed_forward="relu",
        bias=True,
    )


@runtime_checkable
class LayerCache(Protocol):
    """Where one layer's keys and values of earlier tokens are kept (plait.infer.kv_cache)."""

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Kept keys and values with [B, H, L, K] new ones appended."""


class Attention(nn.Module):
    """Grouped-query self-attention with optional QK-norm and rotary positions."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.head_width
        self.project = Linear(config.dim, (config.num_heads + 2 * config.kv_heads) * width, bias=config.bias)
        self.out = Linear(config.num_heads * width, config.dim, bias=config.bias)
        self.norm_q = Norm(width) if config.qk_norm else nn.Identity()
        self.norm_k = Norm(width) if config.qk_norm else nn.Identity()

    def forward(
        self, x_BLD: Tensor, mask: Prepared, rotary: tuple[Tensor, Tensor] | None, cache: LayerCache | None
    ) -> Tensor:
        config = self.config
        B, L, _ = x_BLD.shape
        heads = self.project(x_BLD).view(B, L, -1, config.head_width)
        q, k, v = heads.split((config.num_heads, config.kv_heads, config.kv_heads), dim=2)
        q, k = self.norm_q(q), self.norm_k(k)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            k, v = cache.join(k, v)
        if config.kv_heads != config.num_heads:
            repeat = config.num_heads // config.kv_heads
            k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        mixed: Tensor = self.out(attend(q, k, v, mask).transpose(1, 2).reshape(B, L, -1))
        return mixed


class FeedForward(nn.Module):
    """SwiGLU (Shazeer, 2020) or the founding paper's ReLU network, token by token."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.gated = config.feed_forward == "swiglu"
        width = config.hidden_width
        self.up = Linear(config.dim, 2 * width if self.gated else width, bias=config.bias)
        self.down = Linear(width, config.dim, bias=config.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        h = self.up(x_BLD)
        if self.gated:
            gate, value = h.chunk(2, dim=-1)
            h = F.silu(gate) * value
        else:
            h = F.relu(h)
        made: Tensor = self.down(h)
        return made


class Layer(nn.Module):
    """Attention and feed-forward around a residual stream, normalised before (pre) or after (post) each."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.post = config.norm == "post"
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.norm_attention = Norm(config.dim, bias=config.bias)
        self.norm_feed_forward = Norm(config.dim, bias=config.bias)

    def forward(
        self, x: Tensor, mask: Prepared, rotary: tuple[Tensor, Tensor] | None, cache: LayerCache | None
    ) -> Tensor:
        if self.post:
            x = self.norm_attention(x + self.attention(x, mask, rotary, cache))
            x = self.norm_feed_forward(x + self.feed_forward(x))
            return x
        x = x + self.attention(self.norm_attention(x), mask, rotary, cache)
        x = x + self.feed_forward(self.norm_feed_forward(x))
        return x


class Trunk(nn.Module):
    """Embedded tokens, positions and a mask to hidden states."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = Norm(config.dim, bias=config.bias) if config.norm == "pre" else nn.Identity()

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        position: Int[Tensor, "B L"],
        mask: Bool[Tensor, "B L T"] | BlockMask | None,
        caches: list[LayerCache] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """`mask` says which of the T keys (kept ones first, if there are caches) each query may see, None that all may be
        seen; one that is prepared for FlexAttention is taken as it is."""
        config = self.config
        rotary = None
        if config.positions == "rotary":
            cos, sin = rotary_table(position, config.head_width)
            rotary = cos.to(x_BLD.dtype), sin.to(x_BLD.dtype)
        else:
            x_BLD = x_BLD + sinusoids(position, config.dim).to(x_BLD.dtype)
        prepared = mask if mask is None or isinstance(mask, BlockMask) else prepare(mask, x_BLD.dtype)
        for number, layer in enumerate(self.layers):
            x_BLD = layer(x_BLD, prepared, rotary, caches[number] if caches else None)
        x_BLD = self.norm(x_BLD)
        return x_BLD
