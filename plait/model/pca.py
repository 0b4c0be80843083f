"""Principal components of a modality's tokens, to initialise its embedding and its flow head.

A token may have many times the trunk's width: a picture of 64 x 64 RGB pixels is one token. From random weights, training
spends thousands of steps on finding the directions in which pictures differ. The components V of a few thousand tokens, with
the variance along each, give these directions at the start (docs/experiments/dictionary-drawing.md).

The embedding starts as x -> Q V (x - mean) / sqrt(variance + 1), where 1 is the variance of the noise added to x. Q maps the
first components to directions of the residual stream that nothing else uses at the start: not the sinusoids of coordinates,
not the time, nor the mean that a layer norm subtracts. A constant is added in one more direction, so long that a norm divides
all tokens by about the same number: a pale picture stays pale.

The flow head predicts each component; what a noised token reveals of them is added outside the trunk (plait.heads.flow). The
head's weights start along the same directions, so that a picture which attention copies is predicted unchanged.
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

MAX_TOKENS = 2000  # of a modality, that components are computed from
SHARE = 0.75  # of the trunk's width that components may use
CONSTANT = 2.0  # squared length of the constant relative to that of the components


@dataclass
class PrincipalComponents:
    """Components of tokens [n, W]: their `mean` [W], orthonormal `axes` [k, W] by descending `variance` [k], the `total`
    variance, and the distinct `coordinates` [m, C] of the tokens."""

    mean: Tensor
    axes: Tensor
    variance: Tensor
    total: float
    coordinates: Tensor

    @property
    def share(self) -> float:
        """Share of the total variance that the components explain."""
        return float(self.variance.sum()) / max(self.total, 1e-12)


def find(modality: Modality, parts: Sequence[Part], max_components: int, seed: int) -> PrincipalComponents:
    """Up to `max_components` components of MAX_TOKENS tokens, drawn from those of `parts`; none if all tokens are equal.
    Raises RowError."""
    rng = np.random.default_rng([seed, 7])
    tokens: list[np.ndarray] = []
    coordinates: list[np.ndarray] = []
    for index in rng.permutation(len(parts)):  # parts come sorted, source by source
        headers: list[Sequence[str]] = []
        for block in modality.read(with_bytes(parts[index])).blocks:
            tokens.append(block.tokens)
            coordinates.append(modality.coordinates(block.header, headers))
            headers.append(block.header)
        if sum(map(len, tokens)) >= 4 * MAX_TOKENS:  # enough to draw from
            break
    all_tokens, all_coordinates = np.concatenate(tokens), np.concatenate(coordinates)
    indices = rng.permutation(len(all_tokens))[:MAX_TOKENS]
    return of_tokens(torch.from_numpy(all_tokens[indices]), torch.from_numpy(all_coordinates[indices]), max_components)


def of_tokens(tokens: Tensor, coordinates: Tensor, max_components: int) -> PrincipalComponents:
    """Up to `max_components` components of [n, W] tokens at [n, C] coordinates."""
    tokens = tokens.float()
    mean = tokens.mean(dim=0)
    axes, variance = _components(tokens - mean)
    total = float((tokens - mean).square().sum() / len(tokens))
    distinct = torch.unique(coordinates, dim=0)
    return PrincipalComponents(mean, axes[:max_components], variance[:max_components], total, distinct)


def _components(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Of [n, W] centred tokens: [k, W] orthonormal components by descending variance, and their [k] variances; k <= min(n,
    W)."""
    n, width = centred.shape
    if width <= n:
        values, vectors = torch.linalg.eigh((centred.T @ centred).double())
        axes = vectors.T
    else:  # the same from the tokens' Gram matrix, in a tenth of the time where tokens are wide
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())
        axes = (vectors.T.to(centred.dtype) @ centred).double()
        axes = axes / axes.norm(dim=1, keepdim=True).clamp_min(1e-12)
    is_nonzero = values > (1e-6 * values[-1]).clamp_min(1e-12)
    axes, values = axes[is_nonzero].flip(0), values[is_nonzero].flip(0)
    return axes.to(centred.dtype), (values / n).to(centred.dtype)


def _directions(embedding: FlowEmbedding, coordinates: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """[D, k] orthonormal directions for components and [D] the direction of the constant, all unused by the sinusoids of
    [m, C] coordinates."""
    dim = embedding.dim
    used = [torch.ones(1, dim)]
    if embedding.num_coordinates:
        places = torch.unique(coordinates[:, : embedding.num_coordinates], dim=0)  # the rest is no sinusoid
        used.append(embedding.position_features(places))
    _, sizes, axes = torch.linalg.svd(torch.cat(used), full_matrices=False)
    max_used = dim - int(SHARE * dim) - 1
    used_axes = axes[(sizes > 1e-3 * sizes[0])][:max_used]
    random = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(torch.cat((used_axes.T, random), dim=1))[0]
    free = basis[:, len(used_axes) :]
    return free[:, 1 : 1 + int(SHARE * dim)], free[:, 0]


@torch.no_grad()
def start(model: MultimodalTransformer, components: Mapping[str, PrincipalComponents], seed: int = 0) -> None:
    """Set the flow heads and embeddings of a model to the components of its modalities, by name.

    The model must have been built for as many components. An embedder that is no `FlowEmbedding` stays unchanged.
    """
    for name, pca in components.items():
        embedding, head = model.embedders[name], model.flows[name]
        assert isinstance(head, FlowHead)
        head.axes.copy_(pca.axes)
        head.variance.copy_(pca.variance)
        head.mean.copy_(pca.mean)
        nn.init.zeros_(head.predict.weight)
        nn.init.zeros_(head.log_var.weight)
        if not isinstance(embedding, FlowEmbedding):
            continue
        directions, constant = _directions(embedding, pca.coordinates, seed)
        count = min(directions.shape[1], len(pca.axes))
        directions = directions[:, :count]
        weight = directions @ (pca.axes[:count] / (pca.variance[:count, None] + 1.0).sqrt())
        embedding.tokens.weight.copy_(weight)
        embedding.tokens.bias.copy_((CONSTANT * count) ** 0.5 * constant - weight @ pca.mean)
        time_weight = embedding.time[-1].get_parameter("weight")
        time_weight.sub_(directions @ (directions.T @ time_weight))
        if model.trunk.config.embedding_rms != 1.0:
            continue  # a pretrained trunk does not pass tokens on unchanged
        squared_norm = (1.0 + CONSTANT) * count / embedding.dim  # of a token: the last norm divides by its root
        head.predict.weight[:count] = squared_norm**0.5 * directions.T
