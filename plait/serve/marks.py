"""What leaves a server is marked as made by a model (plait.modalities.Marks)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from plait import registry
from plait.contract import Part
from plait.infer.events import Answer, BlockDone, Event, Finished, Preview


def marked(part: Part) -> Part:
    """The part with its modality's mark, if it has one."""
    module = registry.marks(part.type)
    return part if module is None else module.mark(part)


def marked_answer(answer: Answer) -> Answer:
    """The answer with its parts marked."""
    return replace(answer, message=replace(answer.message, parts=tuple(map(marked, answer.message.parts))))


class Marker:
    """Marks the events of one answer as they come."""

    def __init__(self) -> None:
        self.markers: dict[int, Callable[[Part | None], Part | None]] = {}  # by the number of the part

    def events(self, event: Event) -> list[Event]:
        """The event marked; before the last one come pieces that were held back, if there are any."""
        if isinstance(event, Preview):
            return [replace(event, preview=marked(event.preview))]
        if isinstance(event, BlockDone):
            module = registry.marks(event.piece.type)
            if module is None:
                return [event]
            piece = self.markers.setdefault(event.part, module.marker())(event.piece)
            return [] if piece is None else [replace(event, piece=piece)]
        if isinstance(event, Finished):
            rests = [(number, marker(None)) for number, marker in self.markers.items()]
            held: list[Event] = [BlockDone(number, rest) for number, rest in rests if rest is not None]
            return [*held, Finished(marked_answer(event.answer))]
        return [event]
