"""The same words typed with less care, for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plait.contract import Part, Segment

if TYPE_CHECKING:
    from plait.modalities.text.codec import Text

CASES = (str.lower, str.upper, str.capitalize)
ENDS = ".?!"


def augment(modality: Text, segment: Segment, rng: np.random.Generator) -> Segment:
    """The same words typed with less care: in another case, with the final punctuation gone or put, with a blank twice;
    each by chance `careless`. What is off draws nothing from `rng`."""
    if not modality.careless:
        return segment
    text = str(modality.write(segment).value)
    cased, ended, spaced = rng.random(3) < modality.careless
    if cased:
        text = CASES[rng.integers(len(CASES))](text)
    if ended:
        bare = text.rstrip(ENDS)
        text = bare if bare not in ("", text) else text + ENDS[rng.integers(len(ENDS))]
    blanks = [place for place, letter in enumerate(text) if letter == " "]
    if spaced and blanks:
        place = blanks[rng.integers(len(blanks))]
        text = f"{text[:place]} {text[place:]}"
    return modality.read(Part(modality.name, text))
