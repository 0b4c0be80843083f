"""A start for the wide maps: into the trunk and out of it along the principal components of the data.

A picture of 64 x 64 pixels is one token of 12,288 numbers, and the trunk is 256 wide. From a random start thousands of steps go
into finding out which 256 of all directions pictures differ in, and until then nothing that is drawn can be told apart. The
components of a few thousand tokens say it at once (docs/experiments.md): x -> Q V (x - mean) / sqrt(variance + 1) goes in, where
the 1 is the variance of the noise that is added to it, and mean + V sqrt(variance) Q' h comes out.

Q puts the components into directions of the residual stream that nothing else uses at the start: not the sinusoids of places,
not the time, nor the mean that a layer norm takes away. Beside them stands a constant, so long that the norm before the head
divides all tokens by about the same number: a pale picture comes out pale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plait.contract import Modality, Part
from plait.data.media import opened
from plait.heads.flow import FlowEmbedding, FlowHead
from plait.model.braid import Braid

MOST = 2000  # tokens of a modality that are looked at
SHARE = 0.75  # of the trunk's width that components may take
CONSTANT = 2.0  # square of the constant's length, in that of the components


@dataclass
class Found:
    """Tokens [n, W] of a modality and their coordinates [n, C]."""

    tokens: np.ndarray
    coordinates: np.ndarray


def tokens_of(modality: Modality, parts: Sequence[Part], seed: int) -> Found:
    """Up to MOST tokens, drawn from those of `parts`."""
    rng = np.random.default_rng([seed, 7])
    tokens: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for index in rng.permutation(len(parts)):  # parts come sorted, a source after the other
        for block in modality.read(opened(parts[index])).blocks:
            tokens.append(block.tokens)
            places.append(modality.coordinates(block.header))
        if sum(map(len, tokens)) >= 4 * MOST:  # enough to draw from
            break
    found = Found(np.concatenate(tokens), np.concatenate(places))
    chosen = rng.permutation(len(found.tokens))[:MOST]
    return Found(found.tokens[chosen], found.coordinates[chosen])


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
    real = values > 1e-6 * values[-1].clamp_min(1e-12)
    axes, values = axes[real].flip(0), values[real].flip(0)
    return axes.to(centred.dtype), (values / n).to(centred.dtype)


def _directions(embedding: FlowEmbedding, coordinates: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """[D, k] orthonormal directions for components, and [D] the direction of the constant."""
    dim = embedding.dim
    used = [torch.ones(1, dim)]
    if embedding.num_coordinates:
        used.append(embedding.places(torch.unique(coordinates, dim=0)))
    _, sizes, axes = torch.linalg.svd(torch.cat(used), full_matrices=False)
    room = dim - int(SHARE * dim) - 1
    taken = axes[(sizes > 1e-3 * sizes[0])][:room]
    fill = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(torch.cat((taken.T, fill), dim=1))[0]
    free = basis[:, len(taken) :]
    return free[:, 1 : 1 + int(SHARE * dim)], free[:, 0]


@torch.no_grad()
def start(model: Braid, given: Mapping[str, Found], seed: int = 0) -> dict[str, float]:
    """Set the maps of the flow modalities that are given; returns the share of their variance that goes through the trunk.

    A modality with an embedding of its own is left as it is.
    """
    kept = {}
    for name, found in given.items():
        embedding, head = model.embedders[name], model.flows[name]
        if not isinstance(embedding, FlowEmbedding) or not isinstance(head, FlowHead) or len(found.tokens) < 2:
            continue
        device = head.predict.weight.device
        tokens = torch.from_numpy(found.tokens).float().to(device)
        coordinates = torch.from_numpy(found.coordinates).to(device)
        mean = tokens.mean(dim=0)
        axes, variance = _components(tokens - mean)
        into, constant = (made.to(device) for made in _directions(embedding, coordinates.cpu(), seed))
        count = min(into.shape[1], len(axes))
        kept[name] = float(variance[:count].sum() / variance.sum().clamp_min(1e-12))
        into, axes, variance = into[:, :count], axes[:count], variance[:count]
        inward = into @ (axes / (variance[:, None] + 1.0).sqrt())
        embedding.tokens.weight.copy_(inward)
        embedding.tokens.bias.copy_((CONSTANT * count) ** 0.5 * constant - inward @ mean)
        told = embedding.time[-1].get_parameter("weight")
        told.sub_(into @ (into.T @ told))
        embedded = embedding(tokens, coordinates, torch.ones(len(tokens), device=device))
        norm = embedded.var(dim=1, unbiased=False).mean().sqrt()
        head.predict.weight.copy_(norm * (axes.T * variance.sqrt()) @ into.T)
        head.predict.bias.copy_(mean)
    return kept
