"""Frozen encoders that read pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from plait.contract import Part
from plait.modalities import Reader, encoders
from plait.modalities.image.augment import Variation
from plait.modalities.image.backbone import FEATURES, LAYOUT, NAMED, Backbone, accepts, laid_out
from plait.modalities.image.efficientnet import PACKAGE, SIDE, WEIGHTS, WIDTH, fused, pretrained, see
from plait.modalities.image.efficientnet import EfficientNetLite0 as Network
from plait.runtime.device import resolve_dtype
from plait.runtime.packages import places, unpacked

# a picture keeps its sides and its hues: names tell left from right, and colours
VARIATION = Variation(flip=False, move=0.7, crop=0.15, colour=0.0, erase=0.05)


class Looking(nn.Module):
    """[B, side, side, 3] levels from 0 to 255 -> [B, FEATURES, WIDTH]: a network's maps, laid out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: Tensor) -> Tensor:
        levels = levels.permute(0, 3, 1, 2).float()  # channels stay last
        dtype = next(self.network.parameters()).dtype
        maps: Tensor = self.network.maps(((levels - 127.0) / 128.0).to(dtype)).float()
        return laid_out(maps.mean(dim=(2, 3)), maps, levels / 255.0)


class EfficientNetLite0:
    """Features of EfficientNet-Lite0: the picture's mean as the whole, laid out with its places."""

    name = "efficientnet_lite0"
    version = f"efficientnet-lite0 57934424, mean, {LAYOUT}"
    width = WIDTH
    tokens, words, letters, seconds = FEATURES, NAMED, 0, 0.0

    def prepare(self, modality: Any, part: Part) -> np.ndarray:
        """[SIDE, SIDE, 3] levels of the whole picture on a white square."""
        picture: Image.Image = modality.canvas(part)
        return (see(picture).permute(1, 2, 0) * 128.0 + 127.0).round().to(torch.uint8).numpy()

    def vary(self, prepared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture moved, cropped and partly hidden."""
        return np.asarray(VARIATION.apply(Image.fromarray(prepared), rng))

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`."""
        return {f"{PACKAGE.folder}/{WEIGHTS}": (unpacked(PACKAGE, folder) / WEIGHTS).read_bytes()}

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """As `Reader.load`."""
        dtype = resolve_dtype("auto", device)
        looking = Looking(fused(pretrained(places()))).to(device, dtype)

        @torch.inference_mode()
        def encode(prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
            features: Tensor = looking(torch.from_numpy(np.stack(prepared)).to(device))
            return list(features.half().numpy(force=True))

        return encode

    def networks(self) -> Mapping[str, tuple[nn.Module, Tensor]]:
        """As `Portable.networks`."""
        return {self.name: (Looking(fused(pretrained(places()))), torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8))}


READERS: dict[str, Reader] = {reader.name: reader for reader in (EfficientNetLite0(),)}


def find(name: str) -> Reader | None:
    """As `encoders.find`."""
    return encoders.find(name, READERS, Backbone, accepts)


def take(source: Path) -> Path:
    """As `encoders.take`, once the encoder has read a white picture."""

    def check(name: str, folder: Path) -> None:
        reader = Backbone(name, folder)
        encoders.checked(reader, np.full((reader.side, reader.side, 3), 255, np.uint8))

    return encoders.take(source, check)
