"""Augmentation of pictures: affine maps, crops, erased rectangles, brightness, contrast and colour."""

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
    """Strengths of the variations; set to 0 (or False) those that would change the meaning of a picture.

    `flip`: mirror half of the pictures. `move`: rotate, scale, shear and shift; 1 is as much as another hand's writing.
    `crop`: largest share cut off each side. `colour`: largest relative change of brightness, contrast and saturation, and
    in proportion of the hue. `erase`: largest share of the picture that a rectangle of the border's colour hides (random
    erasing, Zhong et al., 2020). Raises ConfigError for impossible strengths.
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

    def apply(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        """A varied copy of `picture`, of the same size and mode (L or RGB). A variation that is off draws nothing from `rng`,
        except for `move`."""
        border = np.asarray(picture)[[0, -1]]  # top and bottom rows
        mean = border.reshape(-1, len(picture.getbands())).mean(axis=0).astype(int)
        paper = tuple(map(int, mean)) if len(mean) > 1 else int(mean[0])
        matrix, shift = self._affine(np.array(picture.size), rng)
        varied = picture.transform(
            picture.size, Image.Transform.AFFINE, (*matrix[0], shift[0], *matrix[1], shift[1]),
            Image.Resampling.BILINEAR, fillcolor=paper,
        )  # fmt: skip
        if self.erase:
            varied.paste(paper, self._erased_box(varied.size, rng))
        return self._recolour(varied, rng) if self.colour else varied

    def _affine(self, size: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Matrix [2, 2] and shift [2] that map a position in the varied picture of `size` (width, height), in pixels, to one
        in the original."""
        turn, slant = rng.normal(0.0, 0.1 * self.move, 2)
        width_scale, height_scale = rng.normal(1.0, 0.08 * self.move, 2)
        centre = (size - 1) / 2
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix = rotation @ [[width_scale, slant], [0.0, height_scale]]
        if self.flip and rng.random() < 0.5:
            matrix[:, 0] *= -1
        shift = centre - matrix @ centre + rng.normal(0.0, 0.04 * self.move, 2) * size
        if self.crop:
            remaining = 1 - rng.uniform(0.0, self.crop, 2)
            shift = shift + matrix @ (rng.random(2) * (1 - remaining) * size)
            matrix = matrix * remaining
        return matrix, shift

    def _erased_box(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in pixels of a random rectangle of up to `erase` of the picture, aspect 1:2 to 2:1."""
        area, aspect = rng.uniform(0.0, self.erase), 2 ** rng.uniform(-1.0, 1.0)
        sides = np.minimum(1.0, np.sqrt([area * aspect, area / aspect]))
        corner = rng.random(2) * (1 - sides)
        left, top, right, bottom = (
            round(float(edge)) for edge in np.concatenate([corner, corner + sides]) * (*size, *size)
        )
        return left, top, right, bottom

    def _recolour(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Change brightness, contrast, saturation and hue. Brightness scales the odds of a level and contrast raises them to
        a power, so that black and white stay and nothing is clipped; saturation and hue scale and rotate colours about
        the grey axis (Rodrigues' formula)."""
        bright, contrast, saturation = rng.uniform(1 - self.colour, 1 + self.colour, 3)
        angle = rng.uniform(-HUE, HUE) * self.colour
        levels = np.asarray(picture, np.float32) / 255
        light = bright**2 * levels**contrast  # squared, so that middle grey changes by about `bright`
        levels = light / (light + (1 - levels) ** contrast)
        if levels.ndim == 3:
            grey = np.full((3, 3), 1 / 3)
            across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
            levels = levels @ (grey + saturation * (np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * across)).T
        return Image.fromarray(np.rint(255 * levels.clip(0, 1)).astype(np.uint8))


def augment(modality: ImageModality, segment: Segment, rng: np.random.Generator) -> Segment:
    """A varied copy of a picture's segment, of the same size, within `modality.variation`."""
    varied = modality.variation.apply(modality.write(segment).value, rng)
    return Segment(modality.name, (Block(segment.blocks[0].header, modality.patches(varied)),))
