"""Where in a text its tokens are, and its words (plait.modalities.Regions)."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import pairwise
from typing import TYPE_CHECKING

from plait.contract import Block, Part, Segment
from plait.modalities import Region

if TYPE_CHECKING:
    from plait.modalities.text.codec import Text

# a word, a number or a sign, with the blanks before it; of scripts without blanks a character
WORD = re.compile(r"\s*(?:[^\W\u3040-\u30ff\u3400-\u9fff]+|\S)")


def of_tokens(modality: Text, segment: Segment) -> list[Region]:
    """The characters that each token adds."""
    regions: list[Region] = []
    for block in segment.blocks:
        lengths = [
            len(str(modality.write(Segment(modality.name, (Block((), block.tokens[:count]),))).value))
            for count in range(len(block.tokens) + 1)
        ]
        regions += [{"characters": pair} for pair in pairwise(lengths)]
    return regions


def pieces(modality: Text, part: Part) -> list[Region]:
    """Its words, numbers and signs."""
    modality.check(part)
    return [{"characters": match.span()} for match in WORD.finditer(part.value)]


def without(modality: Text, part: Part, numbers: Collection[int]) -> Part:
    """The text without some words."""
    kept = [match.group() for number, match in enumerate(WORD.finditer(part.value)) if number not in numbers]
    return Part(modality.name, "".join(kept))
