"""Steps of few new tokens, as one call of a kernel (plait.runtime.kernels), on a CPU in bfloat16.

Prompts have many tokens, and those of a block in flight look at each other: both go through torch. Sums are in float32 here, where torch rounds after each operation,
so that numbers differ in rounding.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from plait.infer.kv_cache import Entry, KVCache, NewTokens
from plait.model.layers import Linear, Norm
from plait.model.lora import expert_of
from plait.model.multimodal import MultimodalTransformer
from plait.model.rope import rotary_table
from plait.model.transformer import GATED, Expert, FeedForward, Layer, TrunkConfig
from plait.runtime import kernels

ACTIVATIONS = {"swiglu": 0, "geglu": 1, "gelu_tanh": 1, "gelu": 2, "relu": 3}
SHARED = 0  # number of the trunk's own expert
FEW = 8  # tokens of a step: with more, oneDNN's products of many rows win (docs/experiments/decoding.md)


def fits(model: MultimodalTransformer) -> bool:
    """Whether a model's steps can be fused here."""
    config = model.trunk.config
    widths = [config.dim, *config.split.values(), config.num_heads * config.head_width, config.hidden_width]
    widths += [config.narrow(width).hidden_width for width in config.split.values()]
    is_known = config.norm == "pre" and config.positions == "rotary" and not any(n % kernels.GROUP for n in widths)
    is_here = model.device.type == "cpu" and model.dtype == torch.bfloat16
    is_frozen = not any(parameter.requires_grad for parameter in model.trunk.parameters()) and all(
        module.weight.dtype == torch.bfloat16 for module in model.trunk.modules() if isinstance(module, Linear)
    )
    return is_known and is_here and is_frozen and kernels.library() is not None


class FusedSteps:
    """The layers of a frozen model, as the kernel reads them. The model `fits`."""

    def __init__(self, model: MultimodalTransformer, cache: KVCache) -> None:
        self.trunk, self.cache = model.trunk, cache
        self.kept: list[object] = []  # what the kernel's pointers point to
        config = self.trunk.config
        layers = [cast(Layer, layer) for layer in self.trunk.layers]
        self.stacks = {SHARED: self._stack(config, list(enumerate(layers)), self.trunk.norm)}
        for name, width in config.split.items():
            expert = cast(Expert, self.trunk.experts[name])
            beside = [(n, found) for n in range(config.num_layers) if (found := expert.layer(n)) is not None]
            self.stacks[model.vocabulary.experts[name]] = self._stack(config.narrow(width), beside, expert.norm, expert)
        self.adapted = {model.vocabulary.expert_numbers[expert_of(name)] for name in config.adapters}
        often = {model.vocabulary.experts[name]: every for name, every in config.split_every.items()}
        self.absent = [  # by layer: the experts that have none there
            frozenset(n for n, every in often.items() if (number + 1) % every) for number in range(config.num_layers)
        ]

    def takes(self, tokens: NewTokens, entries: Sequence[Entry]) -> bool:
        """Whether all entries can be computed here: few tokens, each a block of its own, of stacks that have no adapters for them."""
        if sum(entry.count for entry in entries) > FEW:
            return False
        for entry in entries:
            new = slice(entry.first, entry.first + entry.count)
            if (np.diff(tokens.blocks[new]) == 0).any():
                return False
            if not {*tokens.experts[new].tolist()} <= self.stacks.keys() - self.adapted:
                return False
        return True

    def run(self, x: Tensor, position: Tensor, tokens: NewTokens, entries: Sequence[Entry]) -> Tensor:
        """[N, D] embedded tokens at [N] positions, of entries that it `takes` -> [N, D] hidden states; keys and values are in the cache
        then."""
        for entry in entries:
            self.cache.grow(entry.slot, entry.count)
        hidden = torch.empty(x.shape, dtype=torch.float32, device="cpu")  # as the kernel has it, whatever the defaults
        waiting = [(entry, 0) for entry in entries]  # the number of the first token that is not computed
        while waiting:  # a token looks at those before it alone, so that one stack may follow another
            by_expert: dict[int, list[tuple[Entry, int]]] = {}
            unfinished = []
            for entry, first in waiting:
                experts = tokens.experts[entry.first + first : entry.first + entry.count]
                same = int(np.append(experts != experts[0], True).argmax())
                by_expert.setdefault(int(experts[0]), []).extend((entry, first + i) for i in range(same))
                if first + same < entry.count:
                    unfinished.append((entry, first + same))
            for expert, chosen in by_expert.items():
                index = torch.tensor([entry.first + n for entry, n in chosen])
                streams = [self._stream(entry, n, tokens.experts) for entry, n in chosen]
                hidden[index] = self._step(expert, x[index].float(), position[index], streams)
            waiting = unfinished
        return hidden.to(x.dtype)

    def _step(self, expert: int, x: Tensor, position: Tensor, streams: Sequence[kernels.Stream]) -> Tensor:
        config, library, threads = self.trunk.config, kernels.library(), kernels.team(torch.get_num_threads())
        assert library is not None
        cosines, sines = rotary_table(position[None], config.head_width, config.rotary_base, config.rotary_scaling)
        held = (kernels.Stream * len(streams))(*streams)
        step = kernels.Step(
            cosines.data_ptr(), sines.data_ptr(), held, len(streams), self.cache.dtype == torch.bfloat16
        )
        stack = self.stacks[expert]
        longest = max(stream.length for stream in streams)
        numbers = library.scratch(ctypes.byref(stack), len(streams), longest, threads)
        room = torch.empty(numbers, dtype=torch.float32, device="cpu")
        library.step(ctypes.byref(stack), ctypes.byref(step), x.data_ptr(), room.data_ptr(), threads)
        return x

    def _stream(self, entry: Entry, number: int, experts: np.ndarray) -> kernels.Stream:
        """Where the stream of an entry lies for its new token of this number; `experts` [N] of all new tokens."""
        slot, data = entry.slot, entry.slot.store.data  # [2, layers, slots, H, capacity, K]
        stride = data.stride()
        start = data.data_ptr() + slot.index * stride[2] * data.element_size()
        length, table = slot.length + number, None
        before = np.append(slot.experts[: slot.length], experts[entry.first : entry.first + number])
        hidden = {absent: self._hidden(before, absent) for absent in set(self.absent)}
        if any(mask is not None for mask in hidden.values()):
            masks = [hidden[absent] for absent in self.absent]
            table = (ctypes.c_void_p * len(masks))(*(None if mask is None else mask.ctypes.data for mask in masks))
        stream = kernels.Stream(start, stride[1], stride[0], slot.store.capacity, length, table)
        stream.held = hidden  # what the table points to
        return stream

    @staticmethod
    def _hidden(experts: np.ndarray, absent: frozenset[int]) -> np.ndarray | None:
        """[T] bytes: which keys have no place in a layer without these experts; None where all have."""
        mask = np.isin(experts, list(absent)) if absent else np.zeros(0, bool)
        return np.ascontiguousarray(mask, np.uint8) if mask.any() else None

    # what the kernel reads

    def _stack(
        self,
        config: TrunkConfig,
        layers: Sequence[tuple[int, Layer]],
        norm: torch.nn.Module,
        expert: Expert | None = None,
    ) -> kernels.Stack:
        structures = (kernels.Layer * len(layers))(*(self._layer(number, layer) for number, layer in layers))
        self.kept.append(structures)
        none = kernels.Matrix()
        enter, leave = (none, none) if expert is None else (self._matrix(expert.enter), self._matrix(expert.leave))
        return kernels.Stack(
            enter, leave, structures, self._norm(norm), len(layers), config.dim, config.hidden_width, config.num_heads,
            config.kv_heads, config.head_width, ACTIVATIONS[config.feed_forward], config.feed_forward in GATED,
            config.norm_kind == "rms", config.norm_eps,
        )  # fmt: skip

    def _layer(self, number: int, layer: Layer) -> kernels.Layer:
        attention, feed_forward = layer.attention, layer.feed_forward
        assert isinstance(feed_forward, FeedForward)
        return kernels.Layer(
            self._matrix(attention.project), self._matrix(attention.out), self._matrix(feed_forward.up),
            self._matrix(feed_forward.down), self._norm(layer.norm_attention), self._norm(layer.norm_feed_forward),
            self._norm(attention.norm_q), self._norm(attention.norm_k),
            number not in self.trunk.config.no_rotary_layers, number,
        )  # fmt: skip

    def _matrix(self, linear: Linear) -> kernels.Matrix:
        bias = None if linear.bias is None else linear.bias.detach().float()
        if linear.quantised is not None:
            self.kept += [linear.quantised, bias]
            return linear.quantised.matrix(bias)
        weight = linear.weight.detach().contiguous()
        self.kept += [weight, bias]
        return kernels.Matrix(weight.data_ptr(), None, None, _at(bias), *weight.shape, 16)

    def _norm(self, norm: torch.nn.Module) -> kernels.Norm:
        if not isinstance(norm, Norm):
            return kernels.Norm()
        weight = norm.weight.detach().float() + float(norm.plus_one)
        bias = None if norm.bias is None else norm.bias.detach().float()
        self.kept += [weight, bias]
        return kernels.Norm(weight.data_ptr(), _at(bias))


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
