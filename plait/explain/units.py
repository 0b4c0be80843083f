"""What is given, in units that can be hidden: words, patches, frames; pieces of media whose tokens stand for more than a piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plait import registry
from plait.contract import Message, Modality, Part
from plait.data.row import Row
from plait.data.vocabulary import Vocabulary
from plait.modalities import Region

FEWEST_TOKENS = 4  # of a medium that is hidden by tokens
HALF = 0.5 - 1e-6  # of a piece that has to lie in what is taken out
MOST_UNITS = 40  # of a part: more tokens are hidden some together


@dataclass(frozen=True)
class Unit:
    """A piece of a part. `tokens`: the indices of its own in the row, where hiding them hides it; else the medium is read again
    without its `piece`."""

    message: int
    part: int
    kind: str
    region: Region
    tokens: tuple[int, ...] = ()
    piece: int = -1


def tokens_of(row: Row, message: int, part: int) -> np.ndarray:
    """Indices of the clean tokens of a part, headers included."""
    runs = [
        np.arange(span.first, span.first + span.count)
        for span in row.spans
        if span.copy == 0 and (span.origin.message, span.origin.part) == (message, part)
    ]
    return np.concatenate(runs) if runs else np.zeros(0, int)


def units_of(row: Row, messages: Sequence[Message], vocabulary: Vocabulary, before: int, is_read: bool) -> list[Unit]:
    """Units of all parts of the messages, in their order, as far as they stand before the index `before` in the row. `is_read`:
    whether readers and finders take part."""
    units: list[Unit] = []
    for number, message in enumerate(messages):
        for place, part in enumerate(message.parts):
            modality = vocabulary.modalities[part.type]
            regions = registry.regions(part.type)
            tokens = tokens_of(row, number, place)
            tokens = tokens[tokens < before]
            if not len(tokens):
                continue
            is_given = message.role != "assistant"
            through = is_given and ((is_read and part.type in vocabulary.readers) or part.type in vocabulary.finders)
            content = tokens if modality.head == "categorical" else tokens[row.ids[tokens] < 0]
            few = modality.head != "categorical" and len(content) < FEWEST_TOKENS
            if regions is not None and is_given and (through or few):
                pieces = regions.pieces(modality, part)
                units += [Unit(number, place, part.type, region, (), n) for n, region in enumerate(pieces)]
            else:
                units += _of_tokens(number, place, part, modality, content, is_given)
    return units


def _of_tokens(
    message: int, place: int, part: Part, modality: Modality, tokens: np.ndarray, is_given: bool
) -> list[Unit]:
    """Units of tokens: those of a word together, of a long medium so many that there are at most MOST_UNITS."""
    regions = registry.regions(part.type)
    if regions is None:
        return [Unit(message, place, part.type, {}, (int(token),)) for token in tokens]
    located = regions.of_tokens(modality, modality.read(part))[: len(tokens)]
    if modality.head == "categorical":
        words = [region["characters"] for region in regions.pieces(modality, part) if "characters" in region]
        owner = np.searchsorted([last for _, last in words], [at["characters"][0] + 0.5 for at in located])
    else:
        together = -(-len(tokens) // MOST_UNITS)
        owner = np.arange(len(located)) // together
    units = []
    for number in np.unique(owner):
        of_unit = np.flatnonzero(owner == number)
        region = _joined([located[index] for index in of_unit])
        units.append(Unit(message, place, part.type, region, tuple(int(tokens[index]) for index in of_unit)))
    return units


def _joined(regions: Sequence[Region]) -> Region:
    """The region from the first to the last of several, of one kind."""
    if len(regions) == 1:
        return regions[0]
    [name] = {name for region in regions for name in region}
    values = np.array([region[name] for region in regions])
    half = values.shape[1] // 2
    return {name: (*map(float, values[:, :half].min(axis=0)), *map(float, values[:, half:].max(axis=0)))}


def taken_out(messages: Sequence[Message], units: Sequence[Unit], vocabulary: Vocabulary) -> tuple[Message, ...]:
    """The messages as somebody would have sent them without some units: words left out, pieces of media emptied. Raises RowError."""
    changed = list(messages)
    for number, place in sorted({(unit.message, unit.part) for unit in units if unit.message < len(messages)}):
        part = changed[number].parts[place]
        regions, modality = registry.regions(part.type), vocabulary.modalities[part.type]
        if regions is None:
            continue
        gone = [unit.region for unit in units if (unit.message, unit.part) == (number, place)]
        pieces = regions.pieces(modality, part)
        inside = [n for n, piece in enumerate(pieces) if any(_shared(piece, region) > HALF for region in gone)]
        parts = list(changed[number].parts)
        parts[place] = regions.without(modality, part, inside)
        changed[number] = replace(changed[number], parts=tuple(parts))
    return tuple(changed)


def _shared(piece: Region, region: Region) -> float:
    """The share of a piece that lies in a region, of the same kind."""
    [name] = set(piece) & set(region)
    one, other = np.array(piece[name]), np.array(region[name])
    half = len(one) // 2
    sides = np.minimum(one[half:], other[half:]) - np.maximum(one[:half], other[:half])
    return float(np.prod(np.clip(sides, 0, None) / np.maximum(one[half:] - one[:half], 1e-9)))
