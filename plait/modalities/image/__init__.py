"""Images: raw pixel patches, no codec. A picture is one block under `<rows:R> <cols:C>`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from plait.contract import Block, HeadKind, Part, Segment
from plait.errors import ConfigError, RowError
from plait.modalities.image.variation import Variation

if TYPE_CHECKING:
    from torch import nn

OPEN = "<open:image>"
MAX_SIDE = 64  # patches; bounds the number of <rows:R> and <cols:C> ids
LONGEST_SIDE = 100_000  # pixels that a picture to read may have; Pillow cannot scale a side of millions


SMALL = 28  # pixels a side: as one token a picture learns fastest (docs/experiments.md)
WIDE_PATCH = 16
MOST_SUGGESTED = 16  # patches


def _is_grey(picture: PILImage.Image) -> bool:
    canvas = to_canvas(picture, 3)
    canvas.thumbnail((64, 64))
    red, green, blue = np.asarray(canvas, np.int16).reshape(-1, 3).T
    return bool(np.abs(red - green).max() <= 8 and np.abs(blue - green).max() <= 8)


def to_canvas(picture: PILImage.Image, channels: int) -> PILImage.Image:
    """EXIF turned, 16 bits scaled to 8, alpha composited on white, then RGB or grey."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        array = np.asarray(picture, np.float32)
        scale = 255.0 / 65535.0 if picture.mode.startswith("I") and array.max(initial=0) > 255 else 1.0
        if picture.mode == "F" and array.max(initial=0) <= 1.0:  # levels from 0 to 1
            scale = 255.0
        picture = PILImage.fromarray((array * scale).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = PILImage.new("RGBA", picture.size, "white")
        picture = PILImage.alpha_composite(white, picture)
    try:
        return picture.convert("L" if channels == 1 else "RGB")
    except ValueError as error:
        raise RowError(
            f"image part: got mode {picture.mode}; expected one that converts to RGB: save it as RGB"
        ) from error


class Image:
    """Flow modality over patches of `patch` x `patch` pixels and `channels` (3 RGB, 1 grey) floats.

    A token holds levels from -1 (black) to 1, less `mean` and divided by `std`. With those of the training pictures it is
    centred: what all share, such as white paper, then does not drown what tells them apart (docs/experiments.md).

    A picture keeps its aspect, shrinks until rows x cols <= `max_patches`, and each side is rounded to whole
    patches; it is never enlarged beyond that rounding.

    Further settings are those of `Variation`: what `vary` may do.
    """

    name = "image"
    head: HeadKind = "flow"

    def __init__(
        self,
        patch: int = 14,
        channels: int = 3,
        max_patches: int = 64,
        mean: float = 0.0,
        std: float = 1.0,
        **variation: Any,
    ) -> None:
        if patch < 1 or max_patches < 1 or channels not in (1, 3):
            raise ConfigError(
                f"image: patch={patch}, channels={channels}, max_patches={max_patches}; "
                "expected patch >= 1, channels 1 or 3, max_patches >= 1"
            )
        if not (-1 <= mean <= 1 and 0 < std <= 1):
            raise ConfigError(
                f"image: mean={mean}, std={std}; expected a mean from -1 (black) to 1 (white) and a deviation from it of at most 1"
            )
        self.patch, self.channels, self.max_patches, self.mean, self.std = patch, channels, max_patches, mean, std
        self.variation = Variation(**variation)
        self.max_side = min(max_patches, MAX_SIDE)

    @property
    def token_width(self) -> int:
        return self.patch * self.patch * self.channels

    def grammar(self) -> Sequence[str]:
        sides = range(1, self.max_side + 1)
        return (OPEN, *(f"<rows:{r}>" for r in sides), *(f"<cols:{c}>" for c in sides))

    def expects(self, header: Sequence[str], options: Mapping[str, Any]) -> Sequence[str]:
        size = options.get("size")
        forced = self._forced(*size) if size else None
        if len(header) == 1:
            return (f"<rows:{forced[0]}>",) if forced else self.grammar()[1 : self.max_side + 1]
        if len(header) == 2:
            rows = int(header[1][6:-1])
            most = min(self.max_side, self.max_patches // rows)
            return (f"<cols:{forced[1]}>",) if forced else tuple(f"<cols:{c}>" for c in range(1, most + 1))
        return ()

    def _forced(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of a picture that must be exactly `width` x `height`. Raises ConfigError if it cannot be."""
        rows, cols = height // self.patch, width // self.patch
        whole = width == cols * self.patch and height == rows * self.patch
        if not whole or min(rows, cols) < 1 or rows * cols > self.max_patches or max(rows, cols) > self.max_side:
            wanted = f"sides that are multiples of {self.patch} pixels and at most {self.max_patches} patches in all"
            wanted = f"{self.patch}x{self.patch}, the only size of this model" if self.max_patches == 1 else wanted
            raise ConfigError(f"image: got size {width}x{height}; expected {wanted}")
        return rows, cols

    def _shape(self, header: Sequence[str]) -> tuple[int, int]:
        return int(header[1][6:-1]), int(header[2][6:-1])

    def block_len(self, header: Sequence[str]) -> int:
        rows, cols = self._shape(header)
        return rows * cols

    def ends(self, header: Sequence[str]) -> bool:
        return True

    def coordinates(self, header: Sequence[str]) -> np.ndarray:
        rows, cols = self._shape(header)
        places: np.ndarray = np.indices((rows, cols), np.float32).reshape(2, -1).T
        return np.ascontiguousarray(places)

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of patches for a picture of `width` x `height` pixels."""
        if width < 1 or height < 1:
            raise ConfigError(f"image: got size {width}x{height}; expected both sides >= 1 pixel")
        scale = 1.0
        while True:
            rows = max(1, round(height * scale / self.patch))
            cols = max(1, round(width * scale / self.patch))
            if rows * cols <= self.max_patches and max(rows, cols) <= self.max_side:
                return rows, cols
            if min(rows, cols) == 1:  # a strip: only its long side can still shrink
                return min(rows, self.max_side), min(cols, self.max_side)
            scale *= 0.99 * min(1.0, (self.max_patches / (rows * cols)) ** 0.5)

    def _open(self, value: Any) -> PILImage.Image:
        if isinstance(value, PILImage.Image):
            return value
        if isinstance(value, np.ndarray):
            try:
                return PILImage.fromarray(value)
            except (TypeError, ValueError) as error:
                raise RowError(
                    f"image part: got an array of {value.dtype} and shape {value.shape}; expected [height, width] or "
                    "[height, width, 3] of uint8"
                ) from error
        try:
            data = Path(value).read_bytes() if isinstance(value, str | Path) else bytes(value)
            picture = PILImage.open(io.BytesIO(data))
            picture.load()
        except FileNotFoundError as error:
            raise RowError(f"image part: {value} is not there; expected the path of a picture") from error
        except UnidentifiedImageError as error:
            raise RowError(
                f"image part: {value if isinstance(value, str | Path) else 'bytes'} is no picture; expected a format that "
                "Pillow reads, such as PNG or JPEG"
            ) from error
        except (OSError, SyntaxError, TypeError, ValueError, PILImage.DecompressionBombError) as error:
            raise RowError(
                f"image part: cannot decode {value if isinstance(value, str | Path) else 'bytes'}: {error}; "
                "expected a whole picture in a format that Pillow reads"
            ) from error
        return picture

    def _canvas(self, part: Part) -> PILImage.Image:
        picture = to_canvas(self._open(part.value), self.channels)
        if not (min(picture.size) >= 1 and max(picture.size) <= LONGEST_SIDE):
            width, height = picture.size
            raise RowError(
                f"image part: got {width}x{height} pixels; expected sides of 1 to {LONGEST_SIDE}: scale it down"
            )
        return picture

    def check(self, part: Part) -> None:
        self._canvas(part)

    def read(self, part: Part) -> Segment:
        picture = self._canvas(part)
        rows, cols = self._grid(*picture.size)
        size = (cols * self.patch, rows * self.patch)
        if picture.size != size:
            picture = picture.resize(size, PILImage.Resampling.LANCZOS)
        return Segment(self.name, (Block((OPEN, f"<rows:{rows}>", f"<cols:{cols}>"), self._patches(picture)),))

    def _patches(self, picture: PILImage.Image) -> np.ndarray:
        """[rows * cols, token_width] float32."""
        rows, cols = picture.height // self.patch, picture.width // self.patch
        pixels = np.asarray(picture, np.float32).reshape(rows, self.patch, cols, self.patch, self.channels)
        return self._tokens(pixels.transpose(0, 2, 1, 3, 4).reshape(rows * cols, self.token_width))

    def _tokens(self, eight_bit: np.ndarray) -> np.ndarray:
        """Levels from 0 to 255 as the model sees them."""
        levels: np.ndarray = eight_bit / np.float32(127.5) - np.float32(1.0)
        return (levels - np.float32(self.mean)) / np.float32(self.std)

    def _eight_bit(self, tokens: np.ndarray) -> np.ndarray:
        """The reverse: whole numbers from 0 to 255."""
        levels = tokens * self.std + self.mean
        whole: np.ndarray = np.rint((levels.clip(-1, 1) + 1.0) * 127.5)
        return whole

    def write(self, segment: Segment) -> Part:
        block = segment.blocks[0]
        rows, cols = self._shape(block.header)
        tokens = block.tokens.reshape(rows, cols, self.patch, self.patch, self.channels)
        pixels = tokens.transpose(0, 2, 1, 3, 4).reshape(rows * self.patch, cols * self.patch, self.channels)
        eight_bit = self._eight_bit(pixels).astype(np.uint8)
        return Part(self.name, PILImage.fromarray(eight_bit[..., 0] if self.channels == 1 else eight_bit))

    def vary(self, segment: Segment, rng: np.random.Generator) -> Segment:
        """Another look at the same thing, as the settings say; the same size."""
        varied = self.variation.of(self.write(segment).value, rng)
        return Segment(self.name, (Block(segment.blocks[0].header, self._patches(varied)),))

    def canonical(self, tokens: np.ndarray) -> np.ndarray:
        return self._tokens(self._eight_bit(tokens).astype(np.float32))

    def embedder(self, dim: int) -> nn.Module:
        from plait.heads.flow import FlowEmbedding

        return FlowEmbedding(self.token_width, dim, num_coordinates=2)

    def fit(self, parts: Iterable[Part]) -> None:
        """Nothing is learned: `mean` and `std` are settings."""

    def suggest(self, parts: Sequence[Part]) -> dict[str, Any]:
        """Grey where all are grey. One size up to 28 x 28: a picture is one token. Otherwise patches of 16 x 16, as many as
        a canvas of 64 x 64 has at most."""
        pictures = [self._open(part.value) for part in parts]
        sizes = {picture.size for picture in pictures}
        grey = all(_is_grey(picture) for picture in pictures)
        width, height = np.median([picture.size for picture in pictures], axis=0)
        if grey and len(sizes) == 1 and width == height <= SMALL:
            return {"patch": int(width), "channels": 1, "max_patches": 1}
        patch = WIDE_PATCH
        fitting = max(1, round(width / patch)) * max(1, round(height / patch))
        return {"patch": patch, "channels": 1 if grey else 3, "max_patches": int(min(MOST_SUGGESTED, fitting))}

    def state(self) -> dict[str, Any]:
        names = ("patch", "channels", "max_patches", "mean", "std")
        return {name: getattr(self, name) for name in names} | asdict(self.variation)

    def metrics(self, made: Part, reference: Part) -> dict[str, float]:
        a = np.asarray(to_canvas(self._open(made.value), self.channels), np.float32)
        canvas = to_canvas(self._open(reference.value), self.channels)  # transparent is white, as `read` sees it
        b = np.asarray(canvas.resize(a.shape[1::-1]), np.float32)
        return {"mse": float(np.mean((a - b) ** 2) / 255.0**2)}

    def example(self, seed: int) -> Part:
        rng = np.random.default_rng(seed)
        height, width = (self.patch * int(side) for side in rng.integers(1, int(self.max_patches**0.5) + 1, 2))
        return Part(self.name, PILImage.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)))


MODALITY = Image
