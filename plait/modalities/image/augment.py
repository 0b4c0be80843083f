"""Other looks at the same picture, for training: moved, cropped, partly hidden, in other light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from plait.contract import Block, Segment
from plait.errors import ConfigError

if TYPE_CHECKING:
    from plait.modalities.image.codec import Image as ImageModality

HUE = 0.6  # radians that `colour` = 1 would turn hues by


@dataclass(frozen=True)
class Variation:
    """How much a picture may change, each 0 (or False) where it would change what a picture means.

    `flip`: mirror. `move`: turn, scale, slant and shift, 1 for what another hand would do. `crop`: the most that is cut off
    each side's length. `colour`: the most that brightness, contrast and saturation change by, with a little of the hue.
    `erase`: the largest share of the picture that a rectangle of the border's colour hides (random erasing, Zhong et al.
    2020). Raises ConfigError.
    """

    flip: bool = False
    move: float = 1.0
    crop: float = 0.0
    colour: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if self.move < 0 or not all(0 <= share < 1 for share in (self.crop, self.colour, self.erase)):
            raise ConfigError(
                f"image: move={self.move}, crop={self.crop}, colour={self.colour}, erase={self.erase}; expected move >= 0, "
                "the others from 0 to below 1"
            )

    def of(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Turned, scaled, slanted and moved a little about the middle; mirrored, cropped, partly hidden and in other light
        where the settings say so; the same size and mode (L or RGB). What is off draws nothing from `rng`."""
        border = np.asarray(picture)[[0, -1]]  # top and bottom rows
        mean = border.reshape(-1, len(picture.getbands())).mean(axis=0).astype(int)
        paper = tuple(map(int, mean)) if len(mean) > 1 else int(mean[0])
        matrix, shift = self._affine(np.array(picture.size), rng)
        varied = picture.transform(
            picture.size, Image.Transform.AFFINE, (*matrix[0], shift[0], *matrix[1], shift[1]),
            Image.Resampling.BILINEAR, fillcolor=paper,
        )  # fmt: skip
        if self.erase:
            varied.paste(paper, self._hidden(varied.size, rng))
        return self._lit(varied, rng) if self.colour else varied

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

    def _lit(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        """In other light. Brightness and contrast scale and stretch the odds of a level, so that black and white stay and
        nothing is clipped; saturation and hue stretch and turn colours about the axis of greys (Rodrigues' formula)."""
        bright, contrast, saturation = rng.uniform(1 - self.colour, 1 + self.colour, 3)
        angle = rng.uniform(-HUE, HUE) * self.colour
        levels = np.asarray(picture, np.float32) / 255
        light = bright**2 * levels**contrast  # squared: middle grey then changes by `bright`
        levels = light / (light + (1 - levels) ** contrast)
        if levels.ndim == 3:
            grey = np.full((3, 3), 1 / 3)
            across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
            levels = levels @ (grey + saturation * (np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * across)).T
        return Image.fromarray(np.rint(255 * levels.clip(0, 1)).astype(np.uint8))


def augment(modality: ImageModality, segment: Segment, rng: np.random.Generator) -> Segment:
    """Another look at the same thing, as the settings say; the same size."""
    varied = modality.variation.of(modality.write(segment).value, rng)
    return Segment(modality.name, (Block(segment.blocks[0].header, modality.patches(varied)),))
