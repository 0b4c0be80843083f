"""How an independent judge looks at pictures."""

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
LOOKED_AT = 200  # pictures that the side is chosen by


def _levels(part: Part, side: int, channels: int) -> np.ndarray:
    """[channels, side, side] levels from 0 to 1."""
    levels = pixels(part, side, channels).reshape(side, side, channels) / 255.0
    return levels.transpose(2, 0, 1).copy()


def _moved(x: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
    """Turned, scaled and shifted a little, and mirrored half of the time if a mirrored picture means the same."""
    n = len(x)
    noise = torch.randn(n, 2, 3, generator=generator) * torch.tensor([0.12, 0.12, 0.08])
    looks = torch.eye(2, 3).repeat(n, 1, 1)
    if flip:
        looks[:, 0, 0] = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1.0
    grid = F.affine_grid(looks + noise, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def picture_view(channels: int = 1, side: int = SMALLEST, flip: bool = False) -> JudgeView:
    """Pictures of `side` x `side` pixels, grey or RGB. `flip`: a mirrored picture means the same."""
    return JudgeView(
        channels, partial(_levels, side=side, channels=channels), partial(_moved, flip=flip), epochs=EPOCHS
    )


def judge_view(modality: ImageModality, parts: Sequence[Part]) -> JudgeView:
    """Pictures about as large as these, in the colours that the model sees."""
    side = int(
        np.clip(np.median([max(open_picture(part.value).size) for part in parts[:LOOKED_AT]]), SMALLEST, LARGEST)
    )
    return picture_view(modality.channels, side, modality.variation.flip)
