"""The trunk: pre-norm, QK-norm, rotary positions, SwiGLU, grouped-query attention; `vanilla` is the original Transformer.

`B` batch, `L` queries, `T` keys, `H` heads, `K` head width, `D` model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from plait.model.attention import Prepared, attend, prepare
from plait.model.layers import Linear, Norm, sinusoids
from plait.model.lora import Routing, adapted, adapters_of
from plait.model.rope import RotaryScaling, rotary_table, rotate

FeedForwardKind = Literal["swiglu", "geglu", "relu", "gelu", "gelu_tanh"]
GATED: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": F.silu, "geglu": partial(F.gelu, approximate="tanh")}
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


class TrunkConfig(BaseModel):
    """Configuration of the trunk: covers our own presets, the original Transformer, Llama, SmolLM, Qwen, Gemma 1 and GPT-2.

    Unknown keys are errors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(256, ge=8, description="model width")
    num_layers: int = Field(6, ge=1)
    num_heads: int = Field(4, ge=1)
    num_kv_heads: int | None = Field(None, ge=1, description="key/value heads shared by the query heads; none: all")
    head_dim: int | None = Field(None, ge=2, description="width of a head; none: dim / num_heads")
    hidden: int | None = Field(None, ge=1, description="feed-forward width; none: 8/3 of dim if gated, else 4 of dim")
    norm: Literal["pre", "post"] = "pre"
    norm_kind: Literal["layer", "rms"] = "layer"
    norm_eps: float = Field(1e-5, gt=0)
    norm_plus_one: bool = Field(False, description="weights of norms are stored as their distance from 1")
    qk_norm: bool = True
    positions: Literal["rotary", "sinusoidal", "learned"] = "rotary"
    max_positions: int | None = Field(None, ge=1, description="length of the table of learned positions")
    rotary_base: float = Field(10_000.0, gt=0)
    rotary_scaling: RotaryScaling | None = None
    no_rotary_layers: tuple[int, ...] = Field((), description="numbers of layers without rotary positions")
    feed_forward: FeedForwardKind = "swiglu"
    bias: bool = Field(False, description="of every projection and norm")
    qkv_bias: bool | None = Field(
        None, description="of the projections to queries, keys and values; none: as bias says"
    )
    embedding_scale: float = Field(1.0, gt=0, description="factor of the embeddings of ids")
    embedding_rms: float = Field(
        1.0,
        gt=0,
        description="root mean square of pretrained embeddings: what is drawn beside them begins at that size",
    )
    adapters: dict[str, int] = Field(
        default_factory=dict, description="expert, such as image_given -> rank of its low-rank adapters in every layer"
    )

    @model_validator(mode="after")
    def _fits(self) -> TrunkConfig:
        if self.head_dim is None and self.dim % self.num_heads:
            raise ValueError(f"dim={self.dim} does not split into {self.num_heads} heads; set head_dim")
        if self.head_width % 2:
            raise ValueError(f"dim={self.dim} does not split into {self.num_heads} heads of even width")
        if self.num_heads % self.kv_heads:
            raise ValueError(f"num_heads={self.num_heads} is no multiple of num_kv_heads={self.kv_heads}")
        if self.positions == "learned" and not self.max_positions:
            raise ValueError("positions=learned needs max_positions, the length of their table")
        if out_of_range := [layer for layer in self.no_rotary_layers if not 0 <= layer < self.num_layers]:
            raise ValueError(f"no_rotary_layers names {out_of_range}; there are layers 0 to {self.num_layers - 1}")
        return self

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.head_dim or self.dim // self.num_heads

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads."""
        return self.num_kv_heads or self.num_heads

    @property
    def hidden_width(self) -> int:
        """Width inside the feed-forward network."""
        if self.hidden:
            return self.hidden
        return (8 * self.dim // 3 + 63) // 64 * 64 if self.feed_forward in GATED else 4 * self.dim

    def make_norm(self, width: int, bias: bool = False) -> Norm:
        """A norm of the configured kind over `width` features."""
        return Norm(width, bias, self.norm_kind, self.norm_eps, self.norm_plus_one)


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
    """Cache of one layer's keys and values of earlier tokens (plait.infer.kv_cache)."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[N, H, K] outputs of [N, H, K] queries over the cached and the [N, Hkv, K] new keys and values."""


class Attention(nn.Module):
    """Grouped-query self-attention with optional QK-norm and rotary positions."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.adapters = nn.ModuleDict()
        width = config.head_width
        qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
        self.project = Linear(config.dim, (config.num_heads + 2 * config.kv_heads) * width, bias=qkv_bias)
        self.out = Linear(config.num_heads * width, config.dim, bias=config.bias)
        self.norm_q = config.make_norm(width) if config.qk_norm else nn.Identity()
        self.norm_k = config.make_norm(width) if config.qk_norm else nn.Identity()
        if config.adapters:
            self.adapters = adapters_of({"project": self.project, "out": self.out}, config.adapters)

    def forward(
        self,
        x_BLD: Tensor,
        mask: Prepared,
        rotary: tuple[Tensor, Tensor] | None,
        cache: LayerCache | None,
        routing: Routing | None = None,
    ) -> Tensor:
        config = self.config
        B, L, _ = x_BLD.shape
        widths = [heads * config.head_width for heads in (config.num_heads, config.kv_heads, config.kv_heads)]
        if routing is None:
            parts = self.project.in_parts(x_BLD, widths)
        else:
            projected = adapted(self.project, self.adapters["project"], x_BLD, routing)
            parts = torch.split_with_sizes(projected, widths, dim=-1)
        q, k, v = (part.reshape(B, L, -1, config.head_width) for part in parts)
        q, k = self.norm_q(q), self.norm_k(k)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        if cache is None:
            values = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask).transpose(1, 2)
        else:
            values = cache.attend(q[0], k[0], v[0])
        values = values.reshape(B, L, -1)
        if routing is not None:
            return adapted(self.out, self.adapters["out"], values, routing)
        output: Tensor = self.out(values)
        return output


class FeedForward(nn.Module):
    """Feed-forward network per token: gated (Shazeer, 2020), or plain (Vaswani et al., 2017)."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.gated = config.feed_forward in GATED
        self.activation = (GATED if self.gated else PLAIN)[config.feed_forward]
        width = config.hidden_width
        self.up = Linear(config.dim, 2 * width if self.gated else width, bias=config.bias)
        self.down = Linear(width, config.dim, bias=config.bias)
        self.adapters = nn.ModuleDict()
        if config.adapters:
            self.adapters = adapters_of({"up": self.up, "down": self.down}, config.adapters)

    def forward(self, x_BLD: Tensor, routing: Routing | None = None) -> Tensor:
        width = self.down.in_features
        if routing is not None:
            up = adapted(self.up, self.adapters["up"], x_BLD, routing)
            if self.gated:
                gate, value = torch.split_with_sizes(up, (width, width), dim=-1)  # slices would be padded in backward
                h = self.activation(gate) * value
            else:
                h = self.activation(up)
            return adapted(self.down, self.adapters["down"], h, routing)
        if self.gated:
            gate, value = self.up.in_parts(x_BLD, (width, width))
            h = self.activation(gate) * value
        else:
            h = self.activation(self.up(x_BLD))
        output: Tensor = self.down(h)
        return output


class Layer(nn.Module):
    """Attention and feed-forward on a residual stream, each normalised before (pre) or after (post)."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.post = config.norm == "post"
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.norm_attention = config.make_norm(config.dim, bias=config.bias)
        self.norm_feed_forward = config.make_norm(config.dim, bias=config.bias)

    def forward(
        self,
        x: Tensor,
        mask: Prepared,
        rotary: tuple[Tensor, Tensor] | None,
        cache: LayerCache | None,
        routing: Routing | None = None,
    ) -> Tensor:
        if self.post:
            x = self.norm_attention(x + self.attention(x, mask, rotary, cache, routing))
            x = self.norm_feed_forward(x + self.feed_forward(x, routing))
            return x
        x = x + self.attention(self.norm_attention(x), mask, rotary, cache, routing)
        x = x + self.feed_forward(self.norm_feed_forward(x), routing)
        return x


class Trunk(nn.Module):
    """The stack of layers: [B, L, D] embedded tokens, their positions and a mask -> [B, L, D] hidden states."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        if config.positions == "learned":
            assert config.max_positions is not None
            self.position = nn.Embedding(config.max_positions, config.dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = config.make_norm(config.dim, bias=config.bias) if config.norm == "pre" else nn.Identity()

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        position: Int[Tensor, "B L"],
        mask: Bool[Tensor, "B L T"] | BlockMask | None,
        caches: Sequence[LayerCache] | None = None,
        routing: Routing | None = None,
    ) -> Float[Tensor, "B L D"]:
        """`mask`: which of the T keys each query may attend to, None for all; a `BlockMask` selects FlexAttention. With
        `caches`, each layer's cache attends instead, and the mask is ignored. `routing`: tokens that pass through
        adapters."""
        config = self.config
        rotary = None
        if config.positions == "rotary":
            cos, sin = rotary_table(position, config.head_width, config.rotary_base, config.rotary_scaling)
            rotary = cos.to(x_BLD.dtype), sin.to(x_BLD.dtype)
        elif config.positions == "sinusoidal":
            x_BLD = x_BLD + sinusoids(position, config.dim).to(x_BLD.dtype)
        else:
            x_BLD = x_BLD + self.position(position).to(x_BLD.dtype)
        prepared = mask if mask is None or isinstance(mask, BlockMask) else prepare(mask, x_BLD.dtype)
        for number, layer in enumerate(self.layers):
            layer_rotary = None if number in config.no_rotary_layers else rotary
            x_BLD = layer(x_BLD, prepared, layer_rotary, caches[number] if caches else None, routing)
        x_BLD = self.norm(x_BLD)
        return x_BLD
