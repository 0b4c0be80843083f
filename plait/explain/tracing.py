"""A pass of a model that can be looked into: attention weights, gradients, and relevance.

It runs a copy of the model of its own, in float32, one row at a time: what answers people is neither slowed nor changed. Attention is
taken over where the trunk takes a cache (plait.model.transformer.LayerCache), which keeps weights and may follow the rules of relevance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from plait.data.pack import Batch
from plait.data.row import Row
from plait.explain.scorer import Scorer
from plait.model.layers import Norm
from plait.model.lora import adapted
from plait.model.mask import allowed
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import FeedForward

TINY = 1e-9


def _halved(product: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The value of a product whose `left` holds the second factor fixed and `right` the first: half the relevance goes to each."""
    return product.detach() + 0.5 * (left + right - (left + right).detach())


class Tap:
    """Attention of a layer by the formula, its weights [H, N, T] kept. With `relevance`, products share their relevance evenly, as
    in AttnLRP (Achtibat et al., 2024); the softmax's own gradient is its rule."""

    def __init__(self, mask: Tensor, relevance: bool) -> None:
        self.mask, self.relevance = mask, relevance
        self.weights = mask.new_zeros(())

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `LayerCache.attend`; the tokens are those of the pass alone."""
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        scores = self._product("nhk,thk->hnt", q, k) / math.sqrt(q.shape[-1])
        weights = torch.softmax(scores.masked_fill(~self.mask, -torch.inf), dim=-1)
        self.weights = weights
        return self._product("hnt,thk->nhk", weights, v)

    def _product(self, how: str, a: Tensor, b: Tensor) -> Tensor:
        product = torch.einsum(how, a, b)
        if not self.relevance:
            return product
        return _halved(product, torch.einsum(how, a, b.detach()), torch.einsum(how, a.detach(), b))


def _norm(norm: Norm, x: Tensor) -> Tensor:
    """A norm whose division passes relevance on as it is."""
    weight = norm.weight + 1.0 if norm.plus_one else norm.weight
    centred = x - x.mean(dim=-1, keepdim=True) if norm.kind == "layer" else x
    scale = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + norm.eps).detach()
    y = centred * scale * weight
    return y if norm.bias is None else y + norm.bias


def _feed_forward(network: FeedForward, x: Tensor, routing: object = None) -> Tensor:
    """A feed-forward network whose activation is, for relevance, a factor, and whose gate shares it with what it lets through."""

    def linear(name: str, y: Tensor) -> Tensor:
        layer = getattr(network, name)
        return layer(y) if routing is None else adapted(layer, network.adapters[name], y, routing)  # type: ignore[arg-type]

    def active(y: Tensor) -> Tensor:
        safe = torch.where(y.abs() < TINY, torch.full_like(y, TINY), y)
        return y * (network.activation(safe) / safe).detach()

    up = linear("up", x)
    if not network.gated:
        return linear("down", active(up))
    gate, value = torch.split_with_sizes(up, (network.down.in_features,) * 2, dim=-1)
    gate = active(gate)
    return linear("down", _halved(gate * value, gate * value.detach(), gate.detach() * value))


@contextmanager
def relevant(network: MultimodalTransformer) -> Iterator[None]:
    """The trunk with the rules of relevance in the place of its norms and feed-forward networks. For a network of one's own."""
    replaced = []
    for module in network.trunk.modules():
        if isinstance(module, Norm):
            module.forward = partial(_norm, module)  # type: ignore[method-assign]
        elif isinstance(module, FeedForward):
            module.forward = partial(_feed_forward, module)  # type: ignore[method-assign]
        else:
            continue
        replaced.append(module)
    try:
        yield
    finally:
        for module in replaced:
            del module.forward


@dataclass
class Pass:
    """What a pass left. `embedded` [L, D] and its gradient, `weights` of each layer [H, L, L] and their gradients, which tokens
    [n] answer for the target."""

    embedded: Tensor
    gradient: Tensor
    weights: list[Tensor]
    weight_gradients: list[Tensor]
    asking: Tensor


class Tracer:
    """Passes of a scorer's rows through a float32 copy of its model that nothing else uses."""

    def __init__(self, network: MultimodalTransformer, scorer: Scorer) -> None:
        self.network, self.scorer = network, scorer
        network.requires_grad_(False)

    def embed(self, row: Row) -> Tensor:
        """[L, D] input vectors of a row."""
        with torch.no_grad():
            return self.network.embed(self._batch(row))[0]

    def _batch(self, row: Row) -> Batch:
        return self.scorer.batch([row]).to(self.network.device)

    def run(self, row: Row, relevance: bool) -> Pass:
        """The target's gradient at every token of a row, by the rules of relevance or plainly."""
        batch = self._batch(row)
        x = self.embed(row)[None].requires_grad_()
        mask = allowed(batch.row, batch.block, batch.copy, batch.shares)[0]
        taps = self._taps(batch, mask, relevance)
        with torch.enable_grad():
            if relevance:
                with relevant(self.network):
                    hidden = self._hidden(batch, x, taps)
            else:
                hidden = self._hidden(batch, x, taps)
            score, asking = self._score(batch, hidden, relevance)
            weights = [tap.weights for tap in taps]
            gradients = torch.autograd.grad(score, [x, *weights], materialize_grads=True)
        return Pass(x[0].detach(), gradients[0][0], [each.detach() for each in weights], list(gradients[1:]), asking)

    def _taps(self, batch: Batch, mask: Tensor, relevance: bool) -> list[Tap]:
        """A tap for every layer; tokens of experts that have no layer beside it are hidden there."""
        config, numbers = self.network.trunk.config, self.network.vocabulary.expert_numbers
        taps = []
        for number in range(config.num_layers):
            absent = [numbers[name] for name, every in config.split_every.items() if (number + 1) % every]
            is_here = ~torch.isin(batch.expert[0], torch.tensor(absent, device=mask.device, dtype=batch.expert.dtype))
            alone = torch.eye(
                len(mask), dtype=torch.bool, device=mask.device
            )  # a query that sees nothing has no softmax
            taps.append(Tap((mask & is_here[None, :]) | (alone & ~is_here[:, None]), relevance))
        return taps

    def _hidden(self, batch: Batch, x: Tensor, taps: list[Tap]) -> Tensor:
        hidden: Tensor = self.network.trunk(x, batch.position, None, taps, self.network.routing(batch))
        return hidden[0]

    def _score(self, batch: Batch, hidden: Tensor, relevance: bool) -> tuple[Tensor, Tensor]:
        """The target's score with a gradient, and the tokens that answer for it. Relevance starts at logits, or at the prediction's
        own direction, since what is shared out has to be a sum."""
        scorer = self.scorer
        chosen = torch.from_numpy(scorer.chosen).to(hidden.device)
        if scorer.is_categorical:
            asking = (batch.target[0] >= 0).nonzero().flatten()[chosen]
            logits = self.network.logits(hidden[asking])
            wanted = batch.target[0][asking]
            of_wanted = logits.gather(1, wanted[:, None])[:, 0]
            if not relevance:  # odds, since the gradient of a sure word's probability is nothing
                others = logits.scatter(1, wanted[:, None], -torch.inf).logsumexp(dim=1)
                of_wanted = of_wanted - others
            return of_wanted.sum(), asking
        tokens = batch.noised[scorer.kind]
        asking = tokens.index[chosen]
        head = self.network.flows[scorer.kind]
        expected = self.network.expected(scorer.kind, tokens.coordinates[chosen])
        noised = tokens.inputs[chosen], tokens.time[chosen], expected
        if relevance:
            predicted = head(hidden[asking], *noised)
            return (predicted * predicted.detach()).mean(dim=-1).mean(), asking
        loss = head.loss(hidden[asking], noised[0], tokens.clean[chosen], noised[1], expected)  # type: ignore[operator]
        return -loss.mean(), asking
