"""A watermark in pictures that a model made (plait.modalities.Marks).

Two fixed patterns of CELLS x CELLS signs, stretched over the whole picture, whatever its size: one is added to the brightness, one
along blue against yellow, more where the picture is busy (spread spectrum: Cox et al. 1997, "Secure Spread Spectrum Watermarking
for Multimedia"). Found again as a correlation with what is left of the picture without its coarse shapes; a picture that was cut
is sought at several sizes and all places. The pattern is public: this tells what was made of what was photographed so long as
nobody minds, and keeps out no one who wants it gone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from plait.contract import Part
from plait.modalities import PROVENANCE
from plait.runtime.pictures import open_picture, to_canvas

NAME = "image"
CELLS = 24
SIDE = 2 * CELLS  # pixels that a picture is looked at in
LOOKED_AT = 8 * SIDE  # pixels that a side is shrunk to first, if it is longer
WEIGHTS = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5]])  # brightness, and blue against yellow (ITU-R BT.601)
SHIFTS = np.array([[1.0, 1.0, 1.0], [-0.707, -0.707, 1.414]]) / np.sqrt(3)  # of a pixel, of about equal size
STRENGTHS = (2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0)  # levels of 255
VISIBLE = 5.0  # from this strength on it is enough to be found in the picture as it is, and not after JPEG
QUALITY = 75  # of JPEG
ENOUGH = 8.0
FOUND = 5.0  # standard deviations of pictures without a mark
FOUND_CUT = 6.5  # where several thousand places are tried
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)  # of a side, that may be left of a picture


@cache
def _patterns() -> np.ndarray:
    """[2, CELLS, CELLS] signs around 0, the same on every machine."""
    signs = np.random.Generator(np.random.PCG64(20261127)).integers(0, 2, (2, CELLS, CELLS)) * 2.0 - 1.0
    return np.asarray(signs - signs.mean((1, 2), keepdims=True))


def _stretched(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    picture = Image.fromarray(plane.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), np.float64)


@cache
def _sought(width: int, height: int) -> np.ndarray:
    """[2, height, width]: the patterns without what is coarse in them, as pictures are looked at."""
    planes = [_stretched(plane, width, height) for plane in _patterns()]
    return np.stack([plane - uniform_filter(plane, 7) for plane in planes])


def _fine(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    """What a plane of a picture has beside its coarse shapes, alike strong everywhere."""
    scaled = _stretched(plane, width, height)
    rest = scaled - uniform_filter(scaled, 7, mode="nearest")
    spread = np.sqrt(np.maximum(uniform_filter(rest * rest, 9, mode="nearest"), 0.0))
    return np.asarray(np.clip(rest / (spread + 1.0), -1.5, 1.5))


def _with(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Pixels [height, width, 3] with the mark, of at most about twice the strength."""
    height, width = pixels.shape[:2]
    brightness = pixels @ WEIGHTS[0]
    mean = uniform_filter(brightness, 5, mode="nearest")
    variance: np.ndarray = uniform_filter(brightness**2, 5, mode="nearest") - mean**2
    amount = strength * (0.7 + np.minimum(np.sqrt(np.maximum(variance, 0.0)) / 20, 1.5))
    shift = np.zeros_like(pixels)
    for plane, axis in zip(_patterns(), SHIFTS, strict=True):
        shift += (_stretched(plane, width, height) * amount)[..., None] * axis
    marked: np.ndarray = np.clip(np.rint(pixels + shift), 0, 255).astype(np.uint8)
    return marked


def _directly(pixels: np.ndarray) -> float:
    """How clearly a whole picture has the mark, in standard deviations of those without."""
    clear = []
    for weights, sought in zip(WEIGHTS, _sought(SIDE, SIDE), strict=True):
        fine = _fine(pixels @ weights, SIDE, SIDE)
        clear.append(float((fine * sought).sum() / np.sqrt((sought**2).sum() * (fine**2).sum() + 1e-9)) * CELLS)
    return max(clear[0], float(sum(clear)) / 2**0.5)  # grey pictures have the brightness alone


def _cut(pixels: np.ndarray) -> float:
    """As `_directly`, at the best of many places that a part of a picture may come from."""
    whole = np.fft.rfft2(_sought(SIDE, SIDE))
    planes = [pixels @ weights for weights in WEIGHTS]
    best = 0.0
    for rows in SHARES:
        for columns in SHARES:
            height, width = round(SIDE * rows), round(SIDE * columns)
            summed = np.zeros((SIDE, SIDE))
            for plane, sought in zip(planes, whole, strict=True):
                fine = np.zeros((SIDE, SIDE))
                fine[:height, :width] = _fine(plane, width, height)
                summed += np.fft.irfft2(sought * np.conj(np.fft.rfft2(fine)), (SIDE, SIDE)) / np.sqrt(
                    (fine**2).sum() + 1e-9
                )
            there = summed[: SIDE - height + 1, : SIDE - width + 1]
            scale = np.sqrt((_sought(SIDE, SIDE) ** 2).mean()) * np.sqrt(height * width)
            best = max(best, float(there.max() / scale) * CELLS * (rows * columns / 2) ** 0.5)
    return best


def _pixels(part: Part) -> np.ndarray:
    return np.asarray(to_canvas(open_picture(part.value), 3), np.float64)


def _saved(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(buffer), np.float64)


def mark(part: Part) -> Part:
    """The picture with the mark, as weak as it may be to be found after JPEG, and a note for its files. Raises RowError."""
    picture = open_picture(part.value)
    pixels = _pixels(part)
    marked = pixels.astype(np.uint8)
    for strength in STRENGTHS:
        marked = _with(pixels, strength)
        if _directly(marked.astype(np.float64) if strength >= VISIBLE else _saved(marked)) >= ENOUGH:
            break
    result = Image.fromarray(marked)
    return Part(NAME, result.convert("L") if picture.mode == "L" else result, {**part.options, PROVENANCE: "Plait"})


def marker() -> Callable[[Part | None], Part | None]:
    """Each picture by itself."""
    return lambda piece: None if piece is None else mark(piece)


def evidence(part: Part) -> tuple[float, float]:
    """How clearly a picture has the mark, and from where on it counts as found: standard deviations. Raises RowError."""
    picture = to_canvas(open_picture(part.value), 3)
    picture.thumbnail((LOOKED_AT, LOOKED_AT), Image.Resampling.BOX)
    pixels = np.asarray(picture, np.float64)
    directly = _directly(pixels)
    if directly >= FOUND:
        return directly, FOUND
    cut = _cut(pixels)
    return (cut, FOUND_CUT) if cut / FOUND_CUT > directly / FOUND else (directly, FOUND)
