"""The pure functions that a model is made of, each a module without state that `torch.onnx` can write down.

`n` new tokens of one stream, `T` kept ones, `G` key/value heads, `K` head width, `D` model width, `V` ids.

There is one function of the trunk: a whole prompt, one id and a block in flight differ in `n` alone. What it needs of
earlier tokens comes in, what later ones need comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from plait.data.vocabulary import MARKS, ROLES, SHARED_EXPERT
from plait.heads.categorical import side_by_side
from plait.heads.symbols import SymbolsEmbedding
from plait.model.attention import attend
from plait.model.experts import plan
from plait.model.layers import sinusoids
from plait.model.lora import Gates, gates
from plait.model.mask import bias
from plait.model.multimodal import MultimodalTransformer
from plait.model.rope import rotary_table
from plait.model.transformer import Expert, Layer, Trunk, mix

EMPTY = -1  # the expert of a kept place that holds no token


class Kept:
    """Keys and values of a layer's earlier tokens, as `plait.model.transformer.LayerCache` wants them; the new ones are in
    `keys` and `values` [G, n, K] afterwards. `sees` [1, n, T + n]: what is added to scores."""

    def __init__(self, keys: Tensor, values: Tensor, sees: Tensor) -> None:
        self.keys, self.values, self.sees = keys, values, sees

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[n, H, K] mixed values of [n, H, K] queries."""
        new_keys, new_values = k.transpose(0, 1), v.transpose(0, 1)
        all_keys, all_values = torch.cat((self.keys, new_keys), 1), torch.cat((self.values, new_values), 1)
        self.keys, self.values = new_keys, new_values
        return attend(q.transpose(0, 1)[None], all_keys[None], all_values[None], self.sees)[0].transpose(0, 1)


class Step(nn.Module):
    """The trunk: `vectors` [n, D], `position`, `block` and `expert` [n], and of kept tokens `keys` and `values` [layers, G, T, K] and
    `kept_experts` [T] -> [n, D] hidden states, and keys and values [layers, G, n, K] of the new tokens.

    Tokens see all that are kept, and of the new ones those of their own block and of earlier ones. A kept place of expert EMPTY is
    seen by none, for runtimes that want as many places every time. Every token passes every expert, and keeps what its own makes
    of it.
    """

    def __init__(self, trunk: Trunk, numbers: Mapping[str, int]) -> None:
        """`numbers`: number of each expert by name."""
        super().__init__()
        self.trunk, self.numbers = trunk, dict(numbers)

    def forward(
        self,
        vectors: Tensor,
        position: Tensor,
        block: Tensor,
        expert: Tensor,
        keys: Tensor,
        values: Tensor,
        kept_experts: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        trunk, config = self.trunk, self.trunk.config
        key_experts = torch.cat((kept_experts, expert))
        key_blocks = torch.cat((torch.full_like(kept_experts, -1), block))
        sees = (key_blocks[None, :] <= block[:, None]) & (key_experts > EMPTY)[None, :]
        x, rotary = vectors[None], None
        if config.positions == "rotary":
            rotary = rotary_table(position[None], config.head_width, config.rotary_base, config.rotary_scaling)
        elif config.positions == "sinusoidal":
            x = x + sinusoids(position[None], config.dim)
        else:
            x = x + trunk.position(position[None])
        routing = gates(expert, self.numbers, config.adapters) if config.adapters else None
        experts = {name: cast(Expert, module) for name, module in trunk.experts.items()}
        entered = {name: module.enter(x) for name, module in experts.items()}
        kept: list[Kept] = []
        for number, layer in enumerate(trunk.layers):
            beside = {name: found for name, module in experts.items() if (found := module.layer(number)) is not None}
            hidden = [key_experts == self.numbers[name] for name in experts if name not in beside]
            visible = sees & ~reduce(torch.logical_or, hidden)[None, :] if hidden else sees
            kept.append(Kept(keys[number], values[number], bias(visible[None], vectors.dtype)))
            turn = None if number in config.no_rotary_layers else rotary
            x, of_beside = self._layer(cast(Layer, layer), x, {n: (beside[n], entered[n]) for n in beside}, expert, routing, kept[-1], turn)  # fmt: skip
            entered |= of_beside
        outputs = {name: module.leave(module.norm(entered[name])) for name, module in experts.items()}
        hidden_states = self._chosen(trunk.norm(x), outputs, expert)[0]
        return hidden_states, torch.stack([each.keys for each in kept]), torch.stack([each.values for each in kept])

    def _chosen(self, of_trunk: Tensor, of_experts: Mapping[str, Tensor], expert: Tensor) -> Tensor:
        """[1, n, ...] of each token what its expert made of it."""
        for name, of_expert in of_experts.items():
            own = (expert == self.numbers[name]).view(1, -1, *(1,) * (of_trunk.ndim - 2))
            of_trunk = torch.where(own, of_expert, of_trunk)
        return of_trunk

    def _layer(
        self,
        layer: Layer,
        x: Tensor,
        beside: Mapping[str, tuple[Layer, Tensor]],
        expert: Tensor,
        routing: Gates | None,
        kept: Kept,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One layer of the trunk, and those of experts beside it: their [1, n, width] tokens before -> after."""
        if not beside:
            return layer(x, None, rotary, kept, routing), {}
        of_trunk = layer.attention.heads(layer.norm_attention(x), routing)
        own = {name: its.attention.heads(its.norm_attention(tokens), None) for name, (its, tokens) in beside.items()}
        q, k, v = (
            self._chosen(part, {name: heads[number] for name, heads in own.items()}, expert)
            for number, part in enumerate(of_trunk)
        )
        mixed = mix(q, k, v, None, rotary, kept)

        def after(its: Layer, tokens: Tensor, way: Gates | None) -> Tensor:
            between = tokens + its.attention.output(mixed, way)
            return between + its.feed_forward(its.norm_feed_forward(between), way)  # type: ignore[no-any-return]

        return after(layer, x, routing), {name: after(*pair, None) for name, pair in beside.items()}


class Embed(nn.Module):
    """[n] ids -> [n, D] vectors of all tables side by side."""

    def __init__(self, network: MultimodalTransformer) -> None:
        super().__init__()
        self.tables = nn.ModuleList(network.tables.values())
        self.scale = network.trunk.config.embedding_scale

    def forward(self, ids: Tensor) -> Tensor:
        vectors: Tensor | None = None
        first = 0
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            found = table((ids - first).clamp(0, table.num_embeddings - 1))
            vectors = found if vectors is None else torch.where(ids[:, None] >= first, found, vectors)
            first += table.num_embeddings
        assert vectors is not None
        return vectors if self.scale == 1.0 else vectors * self.scale


class EmbedTokens(nn.Module):
    """Continuous tokens of a modality, or features of a reader: `tokens` [n, W], `coordinates` [n, C], `time` [n] -> [n, D]."""

    def __init__(self, network: MultimodalTransformer, name: str) -> None:
        super().__init__()
        self.embedder = network.embedders[name]
        self.size = network.trunk.config.embedding_rms * network.trunk.config.embedding_scale

    def forward(self, tokens: Tensor, coordinates: Tensor, time: Tensor) -> Tensor:
        return self.embedder(tokens, coordinates, time) * self.size  # type: ignore[no-any-return]


class Logits(nn.Module):
    """[n, D] hidden states -> [n, V] logits over all ids."""

    def __init__(self, network: MultimodalTransformer) -> None:
        super().__init__()
        self.heads = network.categorical

    def forward(self, hidden: Tensor) -> Tensor:
        return side_by_side(self.heads.values(), hidden)


class Clean(nn.Module):
    """A modality's tokens as its flow head predicts them: `hidden` [n, D], `noised` [n, W], `coordinates` [n, C], `time` [n] ->
    [n, W]."""

    def __init__(self, network: MultimodalTransformer, name: str) -> None:
        super().__init__()
        self.head, self.embedder = network.flows[name], network.embedders[name]

    def forward(self, hidden: Tensor, noised: Tensor, coordinates: Tensor, time: Tensor) -> Tensor:
        expected = self.embedder.expected(coordinates) if isinstance(self.embedder, SymbolsEmbedding) else None
        return self.head(hidden, noised, time, expected)  # type: ignore[no-any-return]


class Given(nn.Module):
    """Tokens of one block that a user gives, under a `header`: [B, n, W] of a flow modality, or [B, n] ids of a categorical one, its
    own -> [B, n, D] hidden states."""

    def __init__(self, network: MultimodalTransformer, name: str, header: Sequence[str]) -> None:
        super().__init__()
        vocabulary = network.vocabulary
        modality = vocabulary.modalities[name]
        self.trunk = network.trunk
        self.is_flow = name in network.flows
        self.tokens = network.embedders[name] if self.is_flow else network.tables[name]
        self.marks = network.tables[MARKS]
        self.numbers, self.expert = vocabulary.expert_numbers, vocabulary.expert(name, written=False)
        self.size = network.trunk.config.embedding_rms * network.trunk.config.embedding_scale
        self.scale = network.trunk.config.embedding_scale
        self.before = vocabulary.encode((ROLES["user"], *header))
        self.coordinates = torch.from_numpy(modality.coordinates(header)) if self.is_flow else None

    def forward(self, tokens: Tensor) -> Tensor:
        B, n = tokens.shape[:2]
        before = torch.tensor(self.before, device=tokens.device)
        vectors = (self.marks(before) * self.scale).expand(B, -1, -1)
        if self.is_flow:
            assert self.coordinates is not None
            flat = tokens.float().flatten(0, 1)
            embedded = (
                self.tokens(flat, self.coordinates.to(flat).repeat(B, 1), torch.ones_like(flat[:, 0])).view(B, n, -1)
                * self.size
            )
        else:
            embedded = self.tokens(tokens.long()) * self.scale
        first, L = len(before), len(before) + n
        block = torch.arange(L, device=tokens.device)
        if self.is_flow:
            block[first:] = first
        experts = torch.full((B, L), SHARED_EXPERT, device=tokens.device)
        experts[:, 1:] = self.expert
        config = self.trunk.config
        routing = (
            plan(experts, self.numbers, config.adapters, config.split) if config.adapters or config.split else None
        )
        mask = (block[None, :] <= block[:, None]).expand(B, L, L)
        position = torch.arange(L, device=tokens.device).expand(B, L)
        hidden: Tensor = self.trunk(torch.cat((vectors, embedded), dim=1), position, mask, routing=routing)
        return hidden[:, first:]
