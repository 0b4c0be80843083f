"""Marks such as `<image>`: where in a text a medium belongs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from plait.contract import Part
from plait.data.importers.core.media import KINDS
from plait.data.importers.core.report import EntryError

MARK = re.compile(r"\s*<\|?(image|audio|speech|sound|video)([_ -]?\d+)?\|?>\s*", re.IGNORECASE)
KIND_OF_MARK = {"image": "image", "audio": "audio", "speech": "audio", "sound": "audio", "video": "video"}


@dataclass(frozen=True)
class Slot:
    """A place in a message where a medium of a kind belongs."""

    kind: str


Piece = Part | Slot


def marked(text: str) -> Iterator[Piece]:
    """A text with slots where marks stand. Raises EntryError for marks with numbers, whose order could be any."""
    start = 0
    for match in MARK.finditer(text):
        if match[2]:
            raise EntryError(
                "a mark of a medium has a number", "marks without, in the order of the media", match[0].strip()
            )
        if match.start() > start:
            yield Part("text", text[start : match.start()])
        yield Slot(KIND_OF_MARK[match[1].lower()])
        start = match.end()
    if start < len(text) or not text:
        yield Part("text", text[start:])


def fill(messages: Sequence[Sequence[Piece]], media: Sequence[Part], asking: int = 0) -> list[list[Part]]:
    """The parts of messages: media in their slots, in their order, or at the beginning of the message `asking` where there
    are no slots. Raises EntryError where there are more of one than of the other."""
    slots = [piece.kind for pieces in messages for piece in pieces if isinstance(piece, Slot)]
    if slots and sorted(slots) != sorted(part.type for part in media):
        raise EntryError(
            "its marks are not its media", "a mark such as <image> for each", f"{len(slots)} marks, {len(media)} media"
        )
    queues = {kind: iter([part for part in media if part.type == kind]) for kind in KINDS}
    filled = [
        [next(queues[piece.kind]) if isinstance(piece, Slot) else piece for piece in pieces] for pieces in messages
    ]
    if media and not slots:
        filled[asking][:0] = media
    return filled
