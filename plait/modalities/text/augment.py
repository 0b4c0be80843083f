"""Augmentation of text: typing slips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plait.contract import Part, Segment

if TYPE_CHECKING:
    from plait.modalities.text.codec import Text

CASES = (str.lower, str.upper, str.capitalize)
ENDS = ".?!"


def augment(modality: Text, segment: Segment, rng: np.random.Generator) -> Segment:
    """The text with slips, each with probability `careless`: another case, final punctuation removed or added, one blank
    doubled. Draws nothing from `rng` when `careless` is 0."""
    if not modality.careless:
        return segment
    text = str(modality.write(segment).value)
    change_case, change_end, double_blank = rng.random(3) < modality.careless
    if change_case:
        text = CASES[rng.integers(len(CASES))](text)
    if change_end:
        bare = text.rstrip(ENDS)
        text = bare if bare not in ("", text) else text + ENDS[rng.integers(len(ENDS))]
    blanks = [index for index, character in enumerate(text) if character == " "]
    if double_blank and blanks:
        index = blanks[rng.integers(len(blanks))]
        text = f"{text[:index]} {text[index:]}"
    return modality.read(Part(modality.name, text))
