"""What is looked at where a question is about things in a picture (plait.modalities.Finds)."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from plait.contract import Part

SIDE, PATCH = 64, 32  # pixels; patches of 16 hardly learn places (docs/experiments/finding.md)
patches = (SIDE // PATCH) ** 2
width = PATCH * PATCH * 3
places = 64  # three boxes as text, or six words of each of ten answers


def see(modality: Any, part: Part) -> np.ndarray:
    """[patches, width] levels of the picture, centred as the modality's tokens are, stretched to a square: boxes are told in shares of
    its sides."""
    picture = modality.canvas(part).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    levels: np.ndarray = (np.asarray(picture, np.float32) / 127.5 - 1.0 - modality.mean) / modality.std
    rows = SIDE // PATCH
    tokens: np.ndarray = levels.reshape(rows, PATCH, rows, PATCH, 3).transpose(0, 2, 1, 3, 4).reshape(patches, width)
    return tokens.astype(np.float16)
