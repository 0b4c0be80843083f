"""Images: raw pixel patches, no codec. A picture is one block under `<rows:R> <cols:C>`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage

from plait.contract import Block, HeadKind, Part, Segment
from plait.errors import ConfigError
from plait.modalities.image.augment import Variation
from plait.runtime.pictures import check_size, open_picture, to_canvas

if TYPE_CHECKING:
    from torch import nn

OPEN = "<open:image>"
MAX_SIDE = 64  # patches; bounds the number of <rows:R> and <cols:C> ids


class Image:
    """Flow modality over patches of `patch` x `patch` pixels and `channels` (3 RGB, 1 grey) floats.

    A token holds levels from -1 (black) to 1 (white), minus `mean`, divided by `std`. With those of the training pictures
    the tokens are centred, so that common features such as white paper do not dominate
    (docs/experiments/dictionary-reading.md).

    A picture keeps its aspect, shrinks until rows x cols <= `max_patches`, and each side is rounded to whole
    patches; it is never enlarged beyond that rounding.

    `reader` names a frozen encoder that also reads what is given (`readers`); without `raw` it alone does. With a `finder` what is
    asked of a picture is looked for in it.

    Further settings are those of `Variation`, for `augment`. Raises ConfigError for impossible settings.
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
        reader: str = "",
        raw: bool = True,
        finder: bool = False,
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
        self.reader, self.raw, self.finder = reader, raw, finder
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
        forced = self._forced(*self._sides(size)) if size else None
        if len(header) == 1:
            return (f"<rows:{forced[0]}>",) if forced else self.grammar()[1 : self.max_side + 1]
        if len(header) == 2:
            rows = int(header[1][6:-1])
            max_cols = min(self.max_side, self.max_patches // rows)
            return (f"<cols:{forced[1]}>",) if forced else tuple(f"<cols:{c}>" for c in range(1, max_cols + 1))
        return ()

    @staticmethod
    def _sides(size: Any) -> tuple[int, int]:
        """Width and height from a pair of whole numbers, or from text such as 28x28. Raises ConfigError."""
        sides = size.lower().split("x") if isinstance(size, str) else size
        try:
            width, height = map(int, sides)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"image: got size {size!r}; expected WIDTHxHEIGHT in pixels, such as 28x28") from error
        return width, height

    def _forced(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of patches of a picture of exactly `width` x `height` pixels. Raises ConfigError where that is
        impossible."""
        rows, cols = height // self.patch, width // self.patch
        is_multiple = width == cols * self.patch and height == rows * self.patch
        if not is_multiple or min(rows, cols) < 1 or rows * cols > self.max_patches or max(rows, cols) > self.max_side:
            expected = f"sides that are multiples of {self.patch} pixels and at most {self.max_patches} patches in all"
            if self.max_patches == 1:
                expected = f"{self.patch}x{self.patch}, the only size of this model"
            raise ConfigError(f"image: got size {width}x{height}; expected {expected}")
        return rows, cols

    def _shape(self, header: Sequence[str]) -> tuple[int, int]:
        return int(header[1][6:-1]), int(header[2][6:-1])

    def block_len(self, header: Sequence[str]) -> int:
        rows, cols = self._shape(header)
        return rows * cols

    def ends(self, header: Sequence[str]) -> bool:
        return True

    def coordinates(self, header: Sequence[str], before: Sequence[Sequence[str]] = ()) -> np.ndarray:
        rows, cols = self._shape(header)
        positions: np.ndarray = np.indices((rows, cols), np.float32).reshape(2, -1).T
        return np.ascontiguousarray(positions)

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of patches that a picture of `width` x `height` pixels is scaled to."""
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

    def canvas(self, part: Part) -> PILImage.Image:
        picture = open_picture(part.value)
        check_size(picture)
        return to_canvas(picture, self.channels)

    def check(self, part: Part) -> None:
        self.canvas(part)

    def read(self, part: Part) -> Segment:
        picture = self.canvas(part)
        rows, cols = self._grid(*picture.size)
        size = (cols * self.patch, rows * self.patch)
        if picture.size != size:
            picture = picture.resize(size, PILImage.Resampling.LANCZOS)
        return Segment(self.name, (Block((OPEN, f"<rows:{rows}>", f"<cols:{cols}>"), self.patches(picture)),))

    def patches(self, picture: PILImage.Image) -> np.ndarray:
        """[rows * cols, token_width] float32 tokens of a picture whose sides are multiples of `patch`."""
        rows, cols = picture.height // self.patch, picture.width // self.patch
        pixels = np.asarray(picture, np.float32).reshape(rows, self.patch, cols, self.patch, self.channels)
        return self._tokens(pixels.transpose(0, 2, 1, 3, 4).reshape(rows * cols, self.token_width))

    def _tokens(self, eight_bit: np.ndarray) -> np.ndarray:
        """Tokens of levels from 0 to 255."""
        levels: np.ndarray = eight_bit / np.float32(127.5) - np.float32(1.0)
        return (levels - np.float32(self.mean)) / np.float32(self.std)

    def _eight_bit(self, tokens: np.ndarray) -> np.ndarray:
        """Levels of tokens, rounded to whole numbers from 0 to 255."""
        levels = tokens * self.std + self.mean
        rounded: np.ndarray = np.rint((levels.clip(-1, 1) + 1.0) * 127.5)
        return rounded

    def write(self, segment: Segment) -> Part:
        block = segment.blocks[0]
        rows, cols = self._shape(block.header)
        tokens = block.tokens.reshape(rows, cols, self.patch, self.patch, self.channels)
        pixels = tokens.transpose(0, 2, 1, 3, 4).reshape(rows * self.patch, cols * self.patch, self.channels)
        eight_bit = self._eight_bit(pixels).astype(np.uint8)
        return Part(self.name, PILImage.fromarray(eight_bit[..., 0] if self.channels == 1 else eight_bit))

    def canonical(self, tokens: np.ndarray) -> np.ndarray:
        return self._tokens(self._eight_bit(tokens).astype(np.float32))

    def embedder(self, dim: int) -> nn.Module:
        from plait.heads.flow import FlowEmbedding

        return FlowEmbedding(self.token_width, dim, num_coordinates=2)

    def fit(self, parts: Iterable[Part]) -> None:
        """Learns nothing: `mean` and `std` are settings."""

    def state(self) -> dict[str, Any]:
        names = ("patch", "channels", "max_patches", "mean", "std")
        reads = {"reader": self.reader, "raw": self.raw} if self.reader else {}
        finds = {"finder": True} if self.finder else {}
        return {name: getattr(self, name) for name in names} | reads | finds | asdict(self.variation)

    def example(self, seed: int) -> Part:
        rng = np.random.default_rng(seed)
        height, width = (self.patch * int(side) for side in rng.integers(1, int(self.max_patches**0.5) + 1, 2))
        return Part(self.name, PILImage.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)))
