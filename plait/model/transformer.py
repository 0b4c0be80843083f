"""The trunk: pre-norm, QK-norm, rotary positions, SwiGLU, grouped-query attention; `vanilla` is the original Transformer.

`B` batch, `L` queries, `T` keys, `H` heads, `K` head width, `D` model width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from plait.model.attention import Prepared, attend, prepare
from plait.model.experts import Split
from plait.model.layers import Linear, Norm, sinusoids
from plait.model.lora import FURTHER, Routing, adapted, adapters_of, expert_of
from plait.model.rope import RotaryScaling, rotary_table, rotate

SET_OF_ADAPTERS = rf"\w+({re.escape(FURTHER)}[\w-]+)?"  # its name: ParameterDict takes no dots
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
        default_factory=dict,
        description="expert, such as image_given, or a further set of one, such as image_given+mine or, of words, shared+mine -> rank of its "
        "low-rank adapters in every layer",
    )

    split: dict[str, int] = Field(
        default_factory=dict, description="expert, such as audio_written -> width of the layers of its own"
    )
    split_every: dict[str, int] = Field(
        default_factory=dict, description="expert of split -> it has a layer beside every so manieth; 1 if not named"
    )

    @model_validator(mode="after")
    def _experts_fit(self) -> TrunkConfig:
        for name, rank in self.adapters.items():
            if not re.fullmatch(SET_OF_ADAPTERS, name):
                raise ValueError(
                    f"adapters names {name!r}; expected an expert, or one and a name, such as image_given+mine"
                )
            if rank < 1:
                raise ValueError(f"adapters gives {name} rank {rank}; expected one from 1 on")
        if both := sorted({expert_of(name) for name in self.adapters} & set(self.split)):
            raise ValueError(f"adapters and split both name {', '.join(both)}; expected an expert in one of them")
        if self.split and self.norm == "post":
            raise ValueError("split experts need norm=pre: got post")
        if bad := sorted(name for name, width in self.split.items() if width < 8):
            raise ValueError(f"split gives {', '.join(bad)} fewer than 8 numbers a token; expected a width from 8 on")
        for name, every in self.split_every.items():
            if name not in self.split or every < 1 or self.num_layers % every:
                raise ValueError(
                    f"split_every: got {name}: {every}; expected experts of split, and divisors of num_layers={self.num_layers}"
                )
        return self

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

    def narrow(self, width: int) -> TrunkConfig:
        """The configuration of layers of another width, with as many heads as wide, so that all tokens attend to each other."""
        hidden = max(8, round(self.hidden_width * width / self.dim / 8) * 8)
        return self.model_copy(
            update={
                "dim": width,
                "head_dim": self.head_width,
                "hidden": hidden,
                "adapters": {},
                "split": {},
                "split_every": {},
            }
        )

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
        """[N, H, K] outputs of [N, H, K] queries over the cached and the [N, Hkv, K] new keys and values. Tokens of experts without
        a layer here are seen by none."""


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
        return self.output(mix(*self.heads(x_BLD, routing), mask, rotary, cache), routing)

    def heads(self, x: Tensor, routing: Routing | None) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] -> queries [..., H, K], keys and values [..., Hkv, K], before they are turned."""
        config = self.config
        counts = (config.num_heads, config.kv_heads, config.kv_heads)
        widths = [count * config.head_width for count in counts]
        if routing is None:
            parts = self.project.in_parts(x, widths)
        else:
            projected = adapted(self.project, self.adapters["project"], x, routing)
            parts = torch.split_with_sizes(projected, widths, dim=-1)
        q, k, v = (
            part.reshape(*x.shape[:-1], count, config.head_width) for part, count in zip(parts, counts, strict=True)
        )
        return self.norm_q(q), self.norm_k(k), v

    def output(self, values: Tensor, routing: Routing | None) -> Tensor:
        """[..., H * K] -> [..., D]."""
        if routing is not None:
            return adapted(self.out, self.adapters["out"], values, routing)
        output: Tensor = self.out(values)
        return output


def mix(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Prepared,
    rotary: tuple[Tensor, Tensor] | None,
    cache: LayerCache | None,
) -> Tensor:
    """[B, L, H * K]: what [B, L, H, K] queries find in the keys and values, the cached ones included."""
    if rotary is not None:
        q, k = rotate(q, *rotary), rotate(k, *rotary)
    if cache is None:
        values = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask).transpose(1, 2)
    else:
        values = cache.attend(q[0], k[0], v[0])
    return values.reshape(*q.shape[:2], q.shape[2] * q.shape[3])


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


class Expert(nn.Module):
    """Layers of the tokens of one expert, `width` numbers a token, beside every so manieth of the trunk's (`every`): the last of
    as many."""

    def __init__(self, config: TrunkConfig, width: int, every: int = 1) -> None:
        super().__init__()
        self.every = every
        self.enter, self.leave = Linear(config.dim, width), Linear(width, config.dim)
        narrow = config.narrow(width)
        self.layers = nn.ModuleList(Layer(narrow) for _ in range(config.num_layers // every))
        self.norm = narrow.make_norm(width, bias=config.bias)

    def layer(self, number: int) -> Layer | None:
        """The layer beside the trunk's layer `number`, if there is one."""
        return cast(Layer, self.layers[number // self.every]) if (number + 1) % self.every == 0 else None


def split_layer(
    layers: Sequence[Layer],
    parts: list[Tensor],
    split: Split,
    shape: tuple[int, int],
    mask: Prepared,
    rotary: tuple[Tensor, Tensor] | None,
    cache: LayerCache | None,
) -> list[Tensor]:
    """One layer of the trunk, again for its settled tokens if any, and of every expert: [n, width] tokens of each before ->
    after. They meet in the attention of the batch of `shape` [B, L]; settled tokens take no gradient.

    In training a layer without tokens passes too, so that every rank uses every weight."""
    settled = split.settled is not None
    ways = [split.adapters, *(None for _ in layers[1:])]
    moving = [torch.is_grad_enabled() and not (settled and number == 1) for number in range(len(layers))]
    passing = [number for number, x in enumerate(parts) if torch.is_grad_enabled() or len(x)]
    is_one = not torch.is_grad_enabled() and split.is_one
    of_parts = []
    for number in passing:
        with torch.set_grad_enabled(moving[number]):
            attention = layers[number].attention
            of_parts.append(attention.heads(layers[number].norm_attention(parts[number]), ways[number]))
    q, k, v = (
        (joined := heads[0] if is_one else split.join(list(heads))).view(*shape, *joined.shape[1:])
        for heads in zip(*of_parts, strict=True)
    )
    values = mix(q, k, v, mask, rotary, cache).flatten(0, 1)
    after = list(parts)
    for number in passing:
        layer, routing = layers[number], ways[number]
        with torch.set_grad_enabled(moving[number]):
            mixed = values if is_one else values.index_select(0, split.indices[number])
            x = parts[number] + layer.attention.output(mixed, routing)
            after[number] = x + layer.feed_forward(layer.norm_feed_forward(x), routing)
    return after


@dataclass(frozen=True)
class View:
    """Tokens that meet in a layer, a batch of `shape`, with the mask and the rotary table of theirs."""

    split: Split
    shape: tuple[int, int]
    mask: Prepared
    rotary: tuple[Tensor, Tensor] | None

    def hollow(self, skipped: Collection[str]) -> View:
        """The same with zeros in the place of the tokens of some experts, which a cache hides."""
        return View(self.split.hollow(skipped), self.shape, self.mask, self.rotary)

    def without(self, skipped: Collection[str], dtype: torch.dtype) -> View:
        """The same without the tokens of some experts."""
        split, tokens = self.split.without(skipped, self.shape)
        row = torch.arange(len(tokens), device=tokens.device)[:, None]
        rotary = None if self.rotary is None else (self.rotary[0][row, tokens], self.rotary[1][row, tokens])
        assert split.mask is not None
        return View(split, (tokens.shape[0], tokens.shape[1]), prepare(split.mask, dtype), rotary)


class Trunk(nn.Module):
    """The stack of layers: [B, L, D] embedded tokens, their positions and a mask -> [B, L, D] hidden states."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        if config.positions == "learned":
            assert config.max_positions is not None
            self.position = nn.Embedding(config.max_positions, config.dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.experts = nn.ModuleDict(
            {name: Expert(config, width, config.split_every.get(name, 1)) for name, width in config.split.items()}
        )
        self.norm = config.make_norm(config.dim, bias=config.bias) if config.norm == "pre" else nn.Identity()
        self.split_layer = split_layer

    def compile_layers(self) -> None:
        """Compile a layer with torch.compile; all are alike, so what is compiled for the first serves them all."""
        for layer in self.layers:
            layer.compile()
        self.split_layer = torch.compile(split_layer)

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        position: Int[Tensor, "B L"],
        mask: Bool[Tensor, "B L T"] | BlockMask | None,
        caches: Sequence[LayerCache] | None = None,
        routing: Routing | Split | None = None,
    ) -> Float[Tensor, "B L D"]:
        """`mask`: which of the T keys each query may attend to, None for all; a `BlockMask` selects FlexAttention. With
        `caches`, each layer's cache attends instead, and the mask is ignored. `routing`: tokens that pass through
        adapters, or through layers of their own."""
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
        turns = [None if number in config.no_rotary_layers else rotary for number in range(config.num_layers)]
        if isinstance(routing, Split):
            return self._split(x_BLD, prepared, rotary, caches, routing)
        for number, layer in enumerate(self.layers):
            x_BLD = layer(x_BLD, prepared, turns[number], caches[number] if caches else None, routing)
        x_BLD = self.norm(x_BLD)
        return x_BLD

    def _split(
        self,
        x_BLD: Tensor,
        mask: Prepared,
        rotary: tuple[Tensor, Tensor] | None,
        caches: Sequence[LayerCache] | None,
        split: Split,
    ) -> Tensor:
        B, L, _ = x_BLD.shape
        flat = x_BLD.flatten(0, 1)
        experts = {name: cast(Expert, self.experts[name]) for name, _ in split.own}
        of_trunk = [flat.index_select(0, index) for index in split.indices[: -len(experts)]]
        entered = {name: experts[name].enter(flat.index_select(0, index)) for name, index in split.own}
        views = {frozenset[str](): View(split, (B, L), mask, rotary)}
        for number, layer in enumerate(self.layers):
            beside = {name: found for name, expert in experts.items() if (found := expert.layer(number)) is not None}
            skipped = frozenset(experts) - frozenset(beside)
            if skipped not in views:
                everything = views[frozenset()]
                views[skipped] = everything.hollow(skipped) if caches else everything.without(skipped, x_BLD.dtype)
            layers = [*(cast(Layer, layer) for _ in of_trunk), *beside.values()]
            parts = [*of_trunk, *(entered[name] for name in beside)]
            if not any(map(len, parts)):
                continue
            view, cache = views[skipped], caches[number] if caches else None
            turn = None if number in self.config.no_rotary_layers else view.rotary
            after = self.split_layer(layers, parts, view.split, view.shape, view.mask, turn, cache)
            of_trunk = after[: len(of_trunk)]
            entered |= zip(beside, after[len(of_trunk) :], strict=True)
        outputs = [expert.leave(expert.norm(entered[name])) for name, expert in experts.items()]
        return split.join([*map(self.norm, of_trunk), *outputs]).view(B, L, -1)
