"""Principal components of a modality's tokens: where its embedding starts, and what its flow head knows beforehand.

A picture of 64 x 64 pixels is one token of 12,288 numbers, and the trunk is 256 wide. From a random start thousands of steps go
into finding out which directions pictures differ in, and until then nothing that is drawn can be told apart. The components
V of a few thousand tokens, with the variance along each, say it at once (docs/experiments/dictionary-drawing.md).

Into the trunk goes x -> Q V (x - mean) / sqrt(variance + 1), where the 1 is the variance of the noise that is added to x. Q puts
the first components into directions of the residual stream that nothing else uses at the start: not the sinusoids of places,
not the time, nor the mean that a layer norm takes away. Beside them stands a constant, so long that a norm divides all tokens
by about the same number: a pale picture stays pale.

Out of it comes what to expect of each component; what a noised token shows of them already is added outside the trunk
(plait.heads.flow). The layer that reads it starts along the same directions, so that a picture which attention copies to another is drawn as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from plait.contract import Modality, Part
from plait.data.media import with_bytes
from plait.heads.flow import FlowEmbedding, FlowHead
from plait.model.multimodal import MultimodalTransformer

LOOKED_AT = 2000  # tokens of a modality
SHARE = 0.75  # of the trunk's width that components may take
CONSTANT = 2.0  # square of the constant's length, in that of the components


@dataclass
class PrincipalComponents:
    """Components of some tokens [n, W]: their `mean` [W], orthonormal `axes` [k, W], largest first, the `variance` [k] along
    each and in `total`; and the distinct `coordinates` [m, C] of the tokens."""

    mean: Tensor
    axes: Tensor
    variance: Tensor
    total: float
    coordinates: Tensor

    @property
    def share(self) -> float:
        """Of the variance, that the components hold."""
        return float(self.variance.sum()) / max(self.total, 1e-12)


def find(modality: Modality, parts: Sequence[Part], most: int, seed: int) -> PrincipalComponents:
    """Up to `most` components of LOOKED_AT tokens, drawn from those of `parts`; none of them if these do not differ."""
    rng = np.random.default_rng([seed, 7])
    tokens: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for index in rng.permutation(len(parts)):  # parts come sorted, a source after the other
        for block in modality.read(with_bytes(parts[index])).blocks:
            tokens.append(block.tokens)
            places.append(modality.coordinates(block.header))
        if sum(map(len, tokens)) >= 4 * LOOKED_AT:  # enough to draw from
            break
    every, where = np.concatenate(tokens), np.concatenate(places)
    chosen = rng.permutation(len(every))[:LOOKED_AT]
    return of_tokens(torch.from_numpy(every[chosen]), torch.from_numpy(where[chosen]), most)


def of_tokens(tokens: Tensor, coordinates: Tensor, most: int) -> PrincipalComponents:
    """Up to `most` components of [n, W] tokens at [n, C] coordinates."""
    tokens = tokens.float()
    mean = tokens.mean(dim=0)
    axes, variance = _components(tokens - mean)
    total = float((tokens - mean).square().sum() / len(tokens))
    return PrincipalComponents(mean, axes[:most], variance[:most], total, torch.unique(coordinates, dim=0))


def _components(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Of [n, W] tokens: [k, W] orthonormal components, largest first, and [k] the variance along each; k <= min(n, W)."""
    n, width = centred.shape
    if width <= n:
        values, vectors = torch.linalg.eigh((centred.T @ centred).double())
        axes = vectors.T
    else:  # the same from the products of tokens, in a tenth of the time of a decomposition where tokens are wide
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())
        axes = (vectors.T.to(centred.dtype) @ centred).double()
        axes = axes / axes.norm(dim=1, keepdim=True).clamp_min(1e-12)
    real = values > (1e-6 * values[-1]).clamp_min(1e-12)
    axes, values = axes[real].flip(0), values[real].flip(0)
    return axes.to(centred.dtype), (values / n).to(centred.dtype)


def _directions(embedding: FlowEmbedding, coordinates: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """[D, k] orthonormal directions for components, and [D] the direction of the constant."""
    dim = embedding.dim
    used = [torch.ones(1, dim)]
    if embedding.num_coordinates:
        used.append(embedding.places(coordinates))
    _, sizes, axes = torch.linalg.svd(torch.cat(used), full_matrices=False)
    room = dim - int(SHARE * dim) - 1
    taken = axes[(sizes > 1e-3 * sizes[0])][:room]
    fill = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(torch.cat((taken.T, fill), dim=1))[0]
    free = basis[:, len(taken) :]
    return free[:, 1 : 1 + int(SHARE * dim)], free[:, 0]


@torch.no_grad()
def start(model: MultimodalTransformer, given: Mapping[str, PrincipalComponents], seed: int = 0) -> None:
    """Set the flow heads of a model that was made for the components that are given, and its embeddings.

    A modality with an embedding of its own keeps it as it is.
    """
    for name, found in given.items():
        embedding, head = model.embedders[name], model.flows[name]
        assert isinstance(head, FlowHead)
        head.axes.copy_(found.axes)
        head.variance.copy_(found.variance)
        head.mean.copy_(found.mean)
        nn.init.zeros_(head.predict.weight)
        nn.init.zeros_(head.log_var.weight)
        if not isinstance(embedding, FlowEmbedding):
            continue
        into, constant = _directions(embedding, found.coordinates, seed)
        count = min(into.shape[1], len(found.axes))
        into = into[:, :count]
        inward = into @ (found.axes[:count] / (found.variance[:count, None] + 1.0).sqrt())
        embedding.tokens.weight.copy_(inward)
        embedding.tokens.bias.copy_((CONSTANT * count) ** 0.5 * constant - inward @ found.mean)
        told = embedding.time[-1].get_parameter("weight")
        told.sub_(into @ (into.T @ told))
        length = (1.0 + CONSTANT) * count / embedding.dim  # square of what the last norm divides a token by
        head.predict.weight[:count] = length**0.5 * into.T
