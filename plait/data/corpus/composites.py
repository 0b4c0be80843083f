"""Derived pictures and facts: the main colour of a drawing, and composites of drawings with exact boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from plait.tasks.composing import CELLS, paper, put

HUES = {"red": 0, "orange": 30, "yellow": 55, "green": 120, "blue": 220, "purple": 285, "pink": 330}  # degrees
GREYS = {"black": 60, "grey": 190, "white": 256}  # levels below which a colourless pixel is called so
COLOURLESS = 0.22  # saturation below which a pixel has no hue
CLEAR = 0.6  # share of a drawing's pixels that its main colour must have
BACKGROUND = 245  # levels above which all three channels are the paper


def main_colour(picture: Image.Image) -> str | None:
    """The colour of at least CLEAR of a drawing's pixels, without the white ground; None where no colour has as many."""
    levels = np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BOX), np.float32).reshape(-1, 3)
    drawn = levels[(levels < BACKGROUND).any(axis=1)]
    if len(drawn) < 0.05 * len(levels):
        return None
    high, low = drawn.max(axis=1), drawn.min(axis=1)
    hue = np.asarray(Image.fromarray(drawn[None].astype(np.uint8)).convert("HSV"), np.float32)[0, :, 0] * 360 / 255
    centres = np.array(list(HUES.values()))
    nearest = np.abs((hue[:, None] - centres + 180) % 360 - 180).argmin(axis=1)
    grey = np.searchsorted(list(GREYS.values()), high, side="right")
    coloured = (high - low) / np.maximum(high, 1) >= COLOURLESS
    counts = {name: int((coloured & (nearest == i)).sum()) for i, name in enumerate(HUES)}
    counts |= {name: int((~coloured & (grey == i)).sum()) for i, name in enumerate(GREYS)}
    name, count = max(counts.items(), key=lambda item: item[1])
    return name if count >= CLEAR * len(drawn) and name != "white" else None


def composite(
    drawings: Sequence[tuple[str, Image.Image]], rng: np.random.Generator
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Named drawings scaled and moved, each in its own cell of a CANVAS x CANVAS picture, and their boxes in pixels.

    At most CELLS x CELLS drawings. A box encloses what is drawn, without the drawing's white margin.
    """
    canvas = paper(rng)
    boxes = []
    for cell, (label, drawing) in zip(rng.permutation(CELLS * CELLS), drawings, strict=False):
        mask = Image.fromarray((np.asarray(drawing.convert("RGB")) < BACKGROUND).any(axis=2).astype(np.uint8) * 255)
        extent = mask.getbbox()
        if extent is not None:
            thing = drawing.convert("RGB").crop(extent)
            boxes.append({"label": label, "box": put(canvas, thing, mask.crop(extent), cell, rng)})
    return canvas, boxes
