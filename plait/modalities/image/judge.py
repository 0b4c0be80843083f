"""The input of an independent judge of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plait.contract import Part
from plait.modalities import JudgeView
from plait.modalities.image.measure import pixels
from plait.runtime.pictures import open_picture

if TYPE_CHECKING:
    from plait.modalities.image.codec import Image as ImageModality

EPOCHS = 30
SMALLEST, LARGEST = 28, 64  # pixels a side
MAX_PARTS = 200  # pictures that determine the side


def _levels(part: Part, side: int, channels: int) -> np.ndarray:
    """[channels, side, side] levels from 0 to 1."""
    levels = pixels(part, side, channels).reshape(side, side, channels) / 255.0
    return levels.transpose(2, 0, 1).copy()


def _affine(x: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
    """[B, channels, side, side] rotated, scaled and shifted a little; half of them mirrored if `flip`."""
    n = len(x)
    noise = torch.randn(n, 2, 3, generator=generator) * torch.tensor([0.12, 0.12, 0.08])
    transforms = torch.eye(2, 3).repeat(n, 1, 1)
    if flip:
        transforms[:, 0, 0] = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1.0
    grid = F.affine_grid(transforms + noise, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _recoloured(x: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
    """[B, 3, side, side] as `_affine` gives them, in other colours, a fifth of them in grey: things keep what they are."""
    x, n = _affine(x, generator, flip), len(x)
    contrast = torch.rand(n, 3, 1, 1, generator=generator) * 0.6 + 0.7
    brightness = (torch.rand(n, 3, 1, 1, generator=generator) - 0.5) * 0.3
    x = (x * contrast + brightness).clamp(0, 1)
    is_grey = torch.rand(n, 1, 1, 1, generator=generator) < 0.2
    return torch.where(is_grey, x.mean(dim=1, keepdim=True), x)


def picture_view(
    channels: int = 1, side: int = SMALLEST, flip: bool = False, styles: bool = False, epochs: int = EPOCHS
) -> JudgeView:
    """A view of `side` x `side` pixels, grey or RGB; `flip` if a mirrored picture means the same, `styles` if things are to be
    known in styles, and so in colours, that were not among those learned from."""
    vary = _recoloured if styles else _affine
    return JudgeView(channels, partial(_levels, side=side, channels=channels), partial(vary, flip=flip), epochs=epochs)


def judge_view(modality: ImageModality, parts: Sequence[Part]) -> JudgeView:
    """A view as large as the median of the parts, within bounds, with the channels of `modality`. Raises RowError."""
    side = int(
        np.clip(np.median([max(open_picture(part.value).size) for part in parts[:MAX_PARTS]]), SMALLEST, LARGEST)
    )
    return picture_view(modality.channels, side, modality.variation.flip)
