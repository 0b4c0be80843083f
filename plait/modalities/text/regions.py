"""Where in a text its tokens are, and its words (plait.modalities.Regions)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from plait.contract import Part, Segment
from plait.modalities import Region

if TYPE_CHECKING:
    from plait.modalities.text.codec import Text

# a word, a number or a sign, with the blanks before it; of scripts without blanks a character
WORD = re.compile(r"\s*(?:[^\W\u3040-\u30ff\u3400-\u9fff]+|\S)")


def of_tokens(modality: Text, segment: Segment) -> list[Region]:
    """The characters that each token belongs to: those of a character of several tokens have the same."""
    text = str(modality.write(segment).value)
    ids = np.concatenate([block.tokens for block in segment.blocks]) if segment.blocks else np.zeros(0, np.int64)
    again, starts = modality.tokenise(text)
    if not np.array_equal(again, ids):  # tokens that no text is cut into by itself
        starts = np.array([len(str(modality.write(_beginning(segment, n)).value)) for n in range(len(ids))], np.int64)
    ends = [*np.unique(starts)[1:], len(text)]
    rank = np.searchsorted(np.unique(starts), starts)
    return [{"characters": (int(first), int(ends[place]))} for first, place in zip(starts, rank, strict=True)]


def _beginning(segment: Segment, count: int) -> Segment:
    """The first tokens of a segment of one block."""
    [block] = segment.blocks
    return Segment(segment.modality, (type(block)((), block.tokens[:count]),))


def pieces(modality: Text, part: Part) -> list[Region]:
    """Its words, numbers and signs."""
    modality.check(part)
    return [{"characters": match.span()} for match in WORD.finditer(part.value)]


def without(modality: Text, part: Part, numbers: Collection[int]) -> Part:
    """The text without some words."""
    kept = [match.group() for number, match in enumerate(WORD.finditer(part.value)) if number not in numbers]
    return Part(modality.name, "".join(kept))
