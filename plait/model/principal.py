"""A start for the wide maps: into the trunk and out of it along the principal components of the data.

A picture of 64 x 64 pixels is one token of 12,288 numbers, and the trunk is 256 wide. From a random start thousands of steps go
into finding out which 256 of all directions pictures differ in, and until then nothing that is drawn can be told apart. The
components of a few thousand tokens say it at once (docs/experiments.md): x -> (x - mean) V / sqrt(variance + 1) goes in, where
the 1 is the variance of the noise that is added to it, and mean + V sqrt(variance) h comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from plait.contract import Modality, Part
from plait.data.media import opened
from plait.heads.flow import FlowEmbedding, FlowHead
from plait.model.braid import Braid

MOST = 2000  # tokens of a modality that are looked at


def tokens_of(modality: Modality, parts: Sequence[Part], seed: int) -> np.ndarray:
    """[n, W] up to MOST tokens, drawn from those of `parts`."""
    rng = np.random.default_rng([seed, 7])
    found: list[np.ndarray] = []
    for index in rng.permutation(len(parts)):  # parts come sorted, a source after the other
        found += [block.tokens for block in modality.read(opened(parts[index])).blocks]
        if sum(map(len, found)) >= 4 * MOST:  # enough to draw from
            break
    tokens = np.concatenate(found)
    return tokens[rng.permutation(len(tokens))[:MOST]]


@torch.no_grad()
def start(model: Braid, tokens: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Set the maps of flow modalities whose `tokens` [n, W] are given; returns the share of their variance that the width of
    the trunk can hold. A modality with an embedding of its own is left as it is."""
    kept = {}
    for name, given in tokens.items():
        embedding, head = model.embedders[name], model.flows[name]
        if not isinstance(embedding, FlowEmbedding) or not isinstance(head, FlowHead) or len(given) < 2:
            continue
        found = torch.from_numpy(given).float()
        mean = found.mean(dim=0)
        _, sizes, axes = torch.linalg.svd(found - mean, full_matrices=False)  # axes: [min(n, W), W]
        variance = sizes.square() / len(found)
        count = min(embedding.tokens.out_features, len(axes))
        kept[name] = float(variance[:count].sum() / variance.sum().clamp_min(1e-12))
        axes, variance = axes[:count], variance[:count]
        inward = axes / (variance[:, None] + 1.0).sqrt()
        embedding.tokens.weight[:count] = inward
        embedding.tokens.bias[:count] = -(inward @ mean)
        head.predict.weight[:, :count] = axes.T * variance.sqrt()
        head.predict.bias.copy_(mean)
    return kept
