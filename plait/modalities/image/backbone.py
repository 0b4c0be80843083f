"""Encoders of pictures by other makers: ViT, DeiT, DINOv2, the picture's half of CLIP and SigLIP, ResNet, ConvNeXt and others
that `transformers` has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from plait.contract import Part
from plait.modalities import encoders
from plait.modalities.image.augment import Variation
from plait.runtime.pictures import to_canvas

if TYPE_CHECKING:
    from torch import Tensor

PLACES = 3  # a side of the grid that features are averaged in
SHADES, SEEN = 6, 32  # of a channel of the palette; pixels a side that it is made of
LAYOUT = f"{PLACES}x{PLACES} and the palette of {SHADES} shades in {SEEN}x{SEEN}"  # part of a reader's version
NAMED = 12  # words of what a picture shows
FEATURES = 1 + PLACES**2 + 1
SIDE = 224  # of the square that networks see whose configuration does not say it
MAPS = ("resnet", "regnet", "convnext", "convnextv2")  # convolutional families
TOKENS = (
    "vit", "deit", "beit", "dinov2", "dinov2_with_registers", "clip", "clip_vision_model", "siglip", "siglip_vision_model",
)  # fmt: skip
VARIATION = Variation(flip=False, move=0.7, crop=0.15, colour=0.0, erase=0.05)


def accepts(config: Mapping[str, Any]) -> bool:
    """Whether a configuration of transformers is of an encoder of pictures."""
    return config.get("model_type") in (*MAPS, *TOKENS)


def palette(shades: Tensor, width: int) -> Tensor:
    """[B, 3, H, W] pixels from 0 to 1 -> [B, width] roots of the shares of colours, in at most SHADES steps a channel, without
    white, which is mostly ground; zeros fill the width."""
    steps = max(n for n in range(1, SHADES + 1) if n**3 <= width)
    pixels = F.adaptive_avg_pool2d(shades, SEEN).flatten(2)  # [B, 3, n]
    numbers = (pixels * steps).long().clamp(0, steps - 1)
    colours = (numbers[:, 0] * steps + numbers[:, 1]) * steps + numbers[:, 2]
    shares = torch.zeros(len(shades), width, device=shades.device)
    shares.scatter_add_(1, colours, torch.full_like(colours, 1.0 / colours.shape[1], dtype=shares.dtype))
    shares[:, steps**3 - 1] = 0.0
    return shares.sqrt()


def laid_out(first: Tensor, maps: Tensor, shades: Tensor) -> Tensor:
    """[B, W] of the whole picture, a map [B, W, h, w] and its pixels [B, 3, H, W] from 0 to 1 -> [B, FEATURES, W]: the whole,
    PLACES x PLACES places row by row, and the palette, since encoders that know things know little of colours."""
    grid = F.adaptive_avg_pool2d(maps, PLACES).flatten(2).transpose(1, 2)
    colours = palette(shades, first.shape[1]).to(first.dtype)
    return torch.cat((first[:, None], grid, colours[:, None]), dim=1)


class Backbone:
    """Features of an encoder that was taken: its first token (or the mean) as the whole, laid out with its places."""

    tokens, words, letters, seconds = FEATURES, NAMED, 0, 0.0

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        config = encoders.whole_config(folder)
        self.config: Mapping[str, Any] = config.get("vision_config") or config
        self.version = f"{name}, first, {LAYOUT}"
        sizes = self.config.get("hidden_sizes")
        self.width = int(self.config.get("hidden_size") or (sizes[-1] if sizes else 0))
        self.side = int(self.config.get("image_size") or SIDE)

    def prepare(self, modality: Any, part: Part) -> np.ndarray:
        """[side, side, 3] levels of the whole picture on a white square."""
        picture = to_canvas(modality.canvas(part), 3)
        square = ImageOps.pad(picture, (self.side, self.side), Image.Resampling.BICUBIC, color="white")
        return np.array(square, np.uint8)

    def vary(self, prepared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture moved, cropped and partly hidden."""
        return np.asarray(VARIATION.apply(Image.fromarray(prepared), rng))

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`."""
        return encoders.files(self.name)

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """As `Reader.load`."""
        whole = encoders.network(self.folder)
        network = getattr(whole, "vision_model", whole).to(device)
        shown = encoders.settings(self.folder, encoders.PREPROCESSOR)
        mean, std = (
            torch.tensor(shown.get(key) or [0.5] * 3, device=device).view(1, 3, 1, 1)
            for key in ("image_mean", "image_std")
        )

        @torch.inference_mode()
        def encode(prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
            levels = torch.from_numpy(np.stack(prepared)).to(device).permute(0, 3, 1, 2).float() / 255.0
            first, maps = self.first_and_map(network((levels - mean) / std).last_hidden_state)
            return list(laid_out(first, maps, levels).half().numpy(force=True))

        return encode

    def first_and_map(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, W] tokens or [B, W, h, w] maps -> [B, W] and [B, W, h, w]."""
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3)), hidden
        patch = self.config.get("patch_size")
        side = self.side // int(patch) if patch else math.isqrt(hidden.shape[1])
        before = hidden.shape[1] - side * side  # class token, registers
        maps = hidden[:, before:].transpose(1, 2).unflatten(2, (side, side))  # type: ignore[no-untyped-call]
        return (hidden[:, 0] if before else hidden.mean(dim=1)), maps
