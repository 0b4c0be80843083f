"""What the trunk has after each of its layers, read as at its end: what a trunk that ended there would hand to the heads.

Taps are hooks on a copy that nothing else uses, for the length of one pass. The core has no place for them: a model that answers or
learns never meets one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from plait.data.pack import Batch
from plait.model.experts import Split
from plait.model.mask import allowed
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import Expert, Layer, Trunk

TRUNK = ""  # the stream of the trunk's own tokens; those of experts with layers of their own have the expert's name
Streams = dict[str, Tensor]


Change = Callable[[int, str, Tensor], Tensor]  # a layer's number, a stream, what it is -> what it shall be


class Taps:
    """The residual streams of one pass. `after[n]` are those that the n-th layer changed; `after[0]` those that enter the first. With a
    `change`, which keeps their shapes, the pass goes on with what that makes of them, and none are kept. The first layers take what they
    changed from `known`, of one sequence of the batch, instead of computing it."""

    def __init__(self, trunk: Trunk, change: Change | None = None, known: Sequence[Streams] = ()) -> None:
        self.change, self.known = change, known
        self.has_entered = False
        self.after: list[Streams] = [{} for _ in range(len(trunk.layers) + 1)]
        self.numbers: dict[nn.Module, int] = {layer: number for number, layer in enumerate(trunk.layers, start=1)}
        self.experts = {layer: name for name, expert in trunk.experts.items() for layer in cast(Expert, expert).layers}
        self.compute = trunk.split_layer

    def _kept(self, number: int, stream: str, state: Tensor) -> Tensor:
        if self.change is not None:
            return self.change(number, stream, state)
        self.after[number][stream] = state
        return state

    def keep(self, number: int, stream: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        """A hook that keeps a module's output."""
        return lambda _module, _inputs, output: self._kept(number, stream, output)

    def enter(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """A hook that keeps what enters the first layer."""
        self.has_entered = True
        return (self._kept(0, TRUNK, inputs[0]), *inputs[1:])

    def split_layer(self, layers: Sequence[Layer], parts: list[Tensor], *others: Any) -> list[Tensor]:
        """As that of the trunk, whose own layer is the first: without gradients no token is settled."""
        if not self.has_entered:
            self.has_entered = True
            parts = [self._kept(0, TRUNK, parts[0]), *parts[1:]]
        names = [self.experts.get(layer, TRUNK) for layer in layers]
        number = self.numbers[layers[0]]
        if number < len(self.known):
            outputs = [repeated(self.known[number][name], part) for name, part in zip(names, parts, strict=True)]
        else:
            outputs = self.compute(layers, parts, *others)
        return [self._kept(number, name, output) for name, output in zip(names, outputs, strict=True)]

    def replay(self, number: int) -> Callable[..., Tensor]:
        """The forward pass of a layer whose output is known."""
        return lambda state, *_others: repeated(self.known[number][TRUNK], state)


def repeated(state: Tensor, like: Tensor) -> Tensor:
    """Of the tokens of one sequence those of a batch, in which they follow each other."""
    return state.repeat(len(like) // len(state), *[1] * (state.dim() - 1)) if len(state) else state


@contextmanager
def tapped(trunk: Trunk, change: Change | None = None, known: Sequence[Streams] = ()) -> Iterator[Taps]:
    """A trunk with taps on every layer. For a network of one's own, without gradients."""
    taps = Taps(trunk, change, known)
    handles = [trunk.layers[0].register_forward_pre_hook(taps.enter)]
    handles += [layer.register_forward_hook(taps.keep(number, TRUNK)) for layer, number in taps.numbers.items()]
    handles += [
        cast(Expert, expert).enter.register_forward_hook(taps.keep(0, name)) for name, expert in trunk.experts.items()
    ]
    trunk.split_layer = taps.split_layer  # type: ignore[assignment]
    replayed = [layer for layer, number in taps.numbers.items() if number < len(known)]
    for layer in replayed:
        layer.forward = taps.replay(taps.numbers[layer])
    try:
        yield taps
    finally:
        for layer in replayed:
            del layer.forward
        trunk.split_layer = taps.compute
        for handle in handles:
            handle.remove()


@torch.no_grad()
def after_layers(network: MultimodalTransformer, batch: Batch) -> list[Tensor]:
    """[B * L, D] hidden states of a batch as of trunks that end after 0, 1, ... layers; the last are the model's own."""
    trunk, mask = network.trunk, allowed(batch.row, batch.block, batch.copy, batch.shares)
    routing = network.routing(batch, mask)
    with tapped(trunk) as taps:
        trunk(network.embed(batch), batch.position, mask, None, routing)
    states, streams = [], Streams()
    for changed in taps.after:
        streams = streams | changed
        states.append(_read(trunk, streams, routing))
    return states


def _read(trunk: Trunk, streams: Streams, routing: object) -> Tensor:
    """[B * L, D] what the end of a trunk makes of its streams."""
    of_trunk = trunk.norm(streams[TRUNK])
    if not isinstance(routing, Split):
        return cast(Tensor, of_trunk.flatten(0, 1))
    experts = [(cast(Expert, trunk.experts[name]), streams[name]) for name, _ in routing.own]
    return routing.join([of_trunk, *(expert.leave(expert.norm(stream)) for expert, stream in experts)])
