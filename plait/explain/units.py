"""What is given, in units that can be hidden: words, patches, frames; pieces of media whose tokens stand for more than a piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plait import registry
from plait.contract import WORDS, Block, Message, Modality, Part, Segment
from plait.data.row import Row
from plait.data.vocabulary import Vocabulary
from plait.modalities import Region

FEWEST_TOKENS = 4  # of a medium that is hidden by tokens
MOST_UNITS = 64  # of a part: more words or frames are hidden some together
HALF = 0.5 - 1e-6  # of a piece that has to lie in what is taken out


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

    @property
    def key(self) -> tuple[int, int, tuple[tuple[str, tuple[float, ...]], ...]]:
        """What it is the same by in rows that end at different targets."""
        return self.message, self.part, tuple(self.region.items())


def tokens_of(row: Row, message: int, part: int) -> np.ndarray:
    """Indices of the clean tokens of a part, headers included."""
    runs = [
        np.arange(span.first, span.first + span.count)
        for span in row.spans
        if span.copy == 0 and (span.origin.message, span.origin.part) == (message, part)
    ]
    return np.concatenate(runs) if runs else np.zeros(0, int)


def content_of(
    row: Row, message: int, part: Part, place: int, vocabulary: Vocabulary
) -> tuple[np.ndarray, list[Region]]:
    """The tokens of a part that stand for its content, by their indices in the row, and the region of each and of those that the row ends
    before. Words are located by the
    row's own ids: a chat template's text and a part's may be one run. Raises RowError."""
    modality = vocabulary.modalities[part.type]
    tokens = tokens_of(row, message, place)
    regions = registry.regions(part.type)
    if modality.head != "categorical":
        tokens = tokens[row.ids[tokens] < 0]
    if regions is None:
        return tokens, [{"token": (float(number), number + 1.0)} for number in range(len(tokens))]
    if modality.head != "categorical":
        return tokens, regions.of_tokens(modality, modality.read(part))
    ids = row.ids[tokens] - vocabulary.offsets[part.type]
    segment = Segment(part.type, (Block((), ids),))
    return tokens, _moved(regions.of_tokens(modality, segment), str(modality.write(segment).value), part)


def _moved(regions: Sequence[Region], written: str, part: Part) -> list[Region]:
    """Regions in what was written, as regions in the part, whose blanks at its ends a template may have taken away."""
    text = str(part.value)
    bare = written.strip()
    shift = text.find(bare) - written.find(bare) if bare and bare in text else 0
    moved = []
    for region in regions:
        first, last = (min(max(int(at) + shift, 0), len(text)) for at in region["characters"])
        moved.append({"characters": (float(first), float(last))})
    return list(moved)


def units_of(row: Row, messages: Sequence[Message], vocabulary: Vocabulary, block: int, is_read: bool) -> list[Unit]:
    """Units of all parts of the messages, in their order, as far as they stand in blocks before a `block` of the row. `is_read`:
    whether readers and finders take part. Raises RowError."""
    units: list[Unit] = []
    for number, message in enumerate(messages):
        for place, part in enumerate(message.parts):
            modality = vocabulary.modalities[part.type]
            regions = registry.regions(part.type)
            tokens, located = content_of(row, number, part, place, vocabulary)
            is_given = message.role != "assistant"
            is_searched = (is_read and part.type in vocabulary.readers) or part.type in vocabulary.finders
            is_coarse = modality.head != "categorical" and len(tokens) < FEWEST_TOKENS
            if regions is not None and is_given and len(tokens_of(row, number, place)) and (is_searched or is_coarse):
                pieces = regions.pieces(modality, part)
                units += [Unit(number, place, part.type, region, (), n) for n, region in enumerate(pieces)]
            else:
                units += _of_tokens(Unit(number, place, part.type, {}), part, modality, tokens, located)
    return [shown for unit in units if (shown := _before(unit, row, block)) is not None]


def _before(unit: Unit, row: Row, block: int) -> Unit | None:
    """The unit with its tokens before a block; None without any."""
    if unit.piece >= 0:
        return unit
    tokens = tuple(token for token in unit.tokens if row.block[token] < block)
    return replace(unit, tokens=tokens) if tokens else None


def _of_tokens(bare: Unit, part: Part, modality: Modality, tokens: np.ndarray, located: Sequence[Region]) -> list[Unit]:
    """Units of tokens: those of a word together, and of many words or frames so many that there are at most MOST_UNITS."""
    regions = registry.regions(part.type)
    owner = np.arange(len(located))
    if regions is not None and modality.head == "categorical":
        ends = [region["characters"][1] for region in regions.pieces(modality, part)]
        owner = np.searchsorted(ends, [region["characters"][0] + 0.5 for region in located]).clip(max=len(ends) - 1)
    numbers = np.unique(owner)
    owner = np.searchsorted(numbers, owner)
    if not any("box" in region for region in located):  # squares side by side are no square
        owner = owner // -(-len(numbers) // MOST_UNITS) if len(numbers) else owner
    units = []
    for number in np.unique(owner):
        of_unit = np.flatnonzero(owner == number)
        region = _joined([located[int(index)] for index in of_unit])
        in_row = of_unit[of_unit < len(tokens)]
        units.append(replace(bare, region=region, tokens=tuple(map(int, tokens[in_row]))))
    return units


def _joined(regions: Sequence[Region]) -> Region:
    """The region from the first to the last of several, of one kind."""
    [name] = {name for region in regions for name in region}
    values = np.array([region[name] for region in regions])
    half = values.shape[1] // 2
    return {name: (*map(float, values[:, :half].min(axis=0)), *map(float, values[:, half:].max(axis=0)))}


def with_part(messages: Sequence[Message], number: int, place: int, part: Part) -> tuple[Message, ...]:
    """The messages with another part in one place."""
    parts = list(messages[number].parts)
    parts[place] = part
    return (*messages[:number], replace(messages[number], parts=tuple(parts)), *messages[number + 1 :])


def taken_out(messages: Sequence[Message], units: Sequence[Unit], vocabulary: Vocabulary) -> tuple[Message, ...]:
    """The messages as somebody would have sent them without some units: words left out, pieces of media emptied. Raises RowError."""
    changed = tuple(messages)
    for number, place in sorted({(unit.message, unit.part) for unit in units if unit.message < len(messages)}):
        part = changed[number].parts[place]
        regions, modality = registry.regions(part.type), vocabulary.modalities[part.type]
        if regions is None:
            continue
        gone = [unit.region for unit in units if (unit.message, unit.part) == (number, place)]
        pieces = regions.pieces(modality, part)
        inside = [n for n, piece in enumerate(pieces) if any(_shared(piece, region) > HALF for region in gone)]
        changed = with_part(changed, number, place, regions.without(modality, part, inside))
    return changed


def words_taken_out(messages: Sequence[Message], units: Sequence[Unit], vocabulary: Vocabulary) -> tuple[Message, ...]:
    """As `taken_out`, of words alone."""
    return taken_out(messages, [unit for unit in units if unit.kind == WORDS], vocabulary)


def _shared(piece: Region, region: Region) -> float:
    """The share of a piece that lies in a region, of the same kind."""
    [name] = set(piece) & set(region)
    one, other = np.array(piece[name]), np.array(region[name])
    half = len(one) // 2
    sides = np.minimum(one[half:], other[half:]) - np.maximum(one[:half], other[:half])
    return float(np.prod(np.clip(sides, 0, None) / np.maximum(one[half:] - one[:half], 1e-9)))
