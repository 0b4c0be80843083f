"""Images: raw pixel patches in [-1, 1], no codec. A picture is one block under `<rows:R> <cols:C>`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from plait.contract import Block, HeadKind, Part, Segment
from plait.errors import ConfigError, RowError

if TYPE_CHECKING:
    from torch import nn

OPEN = "<open:image>"
MAX_SIDE = 64  # patches; bounds the number of <rows:R> and <cols:C> ids


HUE = 0.6  # radians that `colour` = 1 would turn hues by
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
    """Flow modality over patches of `patch` x `patch` pixels and `channels` (3 RGB, 1 grey) floats in [-1, 1].

    A picture keeps its aspect, shrinks until rows x cols <= `max_patches`, and each side is rounded to whole
    patches; it is never enlarged beyond that rounding.

    What `vary` may do, each 0 (or False) where it would change what a picture means. `flip`: mirror. `move`: turn, scale,
    slant and shift, 1 for what another hand would do. `crop`: the most that is cut off each side's length. `colour`: the most
    that brightness, contrast and saturation change by, with a little of the hue. `erase`: the largest share of the picture
    that a rectangle of the border's colour hides (random erasing, Zhong et al. 2020).
    """

    name = "image"
    head: HeadKind = "flow"

    def __init__(
        self,
        patch: int = 14,
        channels: int = 3,
        max_patches: int = 64,
        flip: bool = False,
        move: float = 1.0,
        crop: float = 0.0,
        colour: float = 0.0,
        erase: float = 0.0,
    ) -> None:
        if patch < 1 or max_patches < 1 or channels not in (1, 3):
            raise ConfigError(
                f"image: patch={patch}, channels={channels}, max_patches={max_patches}; "
                "expected patch >= 1, channels 1 or 3, max_patches >= 1"
            )
        if move < 0 or not all(0 <= share < 1 for share in (crop, colour, erase)):
            raise ConfigError(
                f"image: move={move}, crop={crop}, colour={colour}, erase={erase}; expected move >= 0, the others from 0 to "
                "below 1"
            )
        self.patch, self.channels, self.max_patches, self.flip = patch, channels, max_patches, flip
        self.move, self.crop, self.colour, self.erase = move, crop, colour, erase
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
            return PILImage.fromarray(value)
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

    def read(self, part: Part) -> Segment:
        picture = to_canvas(self._open(part.value), self.channels)
        rows, cols = self._grid(*picture.size)
        size = (cols * self.patch, rows * self.patch)
        if picture.size != size:
            picture = picture.resize(size, PILImage.Resampling.LANCZOS)
        return Segment(self.name, (Block((OPEN, f"<rows:{rows}>", f"<cols:{cols}>"), self._patches(picture)),))

    def _patches(self, picture: PILImage.Image) -> np.ndarray:
        """[rows * cols, token_width] float32 in [-1, 1]."""
        rows, cols = picture.height // self.patch, picture.width // self.patch
        pixels = np.asarray(picture, np.float32).reshape(rows, self.patch, cols, self.patch, self.channels)
        patches: np.ndarray = pixels.transpose(0, 2, 1, 3, 4).reshape(rows * cols, self.token_width) / 127.5 - 1.0
        return patches

    def write(self, segment: Segment) -> Part:
        block = segment.blocks[0]
        rows, cols = self._shape(block.header)
        tokens = block.tokens.reshape(rows, cols, self.patch, self.patch, self.channels)
        pixels = tokens.transpose(0, 2, 1, 3, 4).reshape(rows * self.patch, cols * self.patch, self.channels)
        eight_bit = np.rint((pixels.clip(-1, 1) + 1.0) * 127.5).astype(np.uint8)
        return Part(self.name, PILImage.fromarray(eight_bit[..., 0] if self.channels == 1 else eight_bit))

    def vary(self, segment: Segment, rng: np.random.Generator) -> Segment:
        """Turned, scaled, slanted and moved a little about the middle; mirrored, cropped, partly hidden and in other light
        where the settings say so; the same size. What is off draws nothing from `rng`."""
        picture = self.write(segment).value
        border = np.asarray(picture)[[0, -1]].reshape(-1, self.channels).mean(axis=0).astype(int)  # top and bottom rows
        paper = tuple(map(int, border)) if self.channels == 3 else int(border[0])
        matrix, shift = self._affine(np.array(picture.size), rng)
        varied = picture.transform(
            picture.size, PILImage.Transform.AFFINE, (*matrix[0], shift[0], *matrix[1], shift[1]),
            PILImage.Resampling.BILINEAR, fillcolor=paper,
        )  # fmt: skip
        if self.erase:
            varied.paste(paper, self._hidden(varied.size, rng))
        if self.colour:
            varied = self._lit(varied, rng)
        return Segment(self.name, (Block(segment.blocks[0].header, self._patches(varied)),))

    def _affine(self, size: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and shift from a place in the varied picture of `size` (width, height) to that in the picture as it is."""
        turn, slant = rng.normal(0.0, 0.1 * self.move, 2)
        wide, high = rng.normal(1.0, 0.08 * self.move, 2)
        centre = (size - 1) / 2
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[wide, slant], [0.0, high]]
        if self.flip and rng.random() < 0.5:
            matrix[:, 0] *= -1
        shift = centre - matrix @ centre + rng.normal(0.0, 0.04 * self.move, 2) * size
        if self.crop:
            kept = 1 - rng.uniform(0.0, self.crop, 2)
            shift = shift + matrix @ (rng.random(2) * (1 - kept) * size)
            matrix = matrix * kept
        return matrix, shift

    def _hidden(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        """The corners of a rectangle, up to twice as wide as high or as high as wide, of up to `erase` of the picture."""
        area, aspect = rng.uniform(0.0, self.erase), 2 ** rng.uniform(-1.0, 1.0)
        sides = np.minimum(1.0, np.sqrt([area * aspect, area / aspect]))
        first = rng.random(2) * (1 - sides)
        left, top, right, bottom = (round(float(at)) for at in np.concatenate([first, first + sides]) * (*size, *size))
        return left, top, right, bottom

    def _lit(self, picture: PILImage.Image, rng: np.random.Generator) -> PILImage.Image:
        """In other light. Brightness and contrast scale and stretch the odds of a level, so that black and white stay and
        nothing is clipped; saturation and hue stretch and turn colours about the axis of greys (Rodrigues' formula)."""
        bright, contrast, saturation = rng.uniform(1 - self.colour, 1 + self.colour, 3)
        angle = rng.uniform(-HUE, HUE) * self.colour
        levels = np.asarray(picture, np.float32) / 255
        light = bright**2 * levels**contrast  # squared: middle grey then changes by `bright`
        levels = light / (light + (1 - levels) ** contrast)
        if self.channels == 3:
            grey = np.full((3, 3), 1 / 3)
            across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
            levels = levels @ (grey + saturation * (np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * across)).T
        return PILImage.fromarray(np.rint(255 * levels.clip(0, 1)).astype(np.uint8))

    def canonical(self, tokens: np.ndarray) -> np.ndarray:
        eight_bit: np.ndarray = np.rint((tokens.clip(-1, 1) + 1.0) * 127.5).astype(np.float32)
        return eight_bit / 127.5 - 1.0

    def embedder(self, dim: int) -> nn.Module:
        from plait.heads.flow import FlowEmbedding

        return FlowEmbedding(self.token_width, dim, num_coordinates=2)

    def fit(self, parts: Iterable[Part]) -> None:
        """Pixels need no statistics: [-1, 1] is their range in every data set."""

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
        names = ("patch", "channels", "max_patches", "flip", "move", "crop", "colour", "erase")
        return {name: getattr(self, name) for name in names}

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
