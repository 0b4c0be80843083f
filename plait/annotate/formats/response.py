"""What people answered in another program: who, about what, what. Matched with the items of a project by what is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from plait.annotate.kinds import Json
from plait.contract import Part


@dataclass(frozen=True)
class Response:
    """One answer: the parts that were shown (media by their names there), the person, the answer (None: passed over), an id that stays the
    same however often the file is read, and the seconds it took, where that is known."""

    shown: Sequence[Part]
    person: str
    value: Json
    id: str
    seconds: float | None = None


def id_of(program: str, *facts: object) -> str:
    """An id for a response, the same however often a file is read, another one for another answer."""
    return f"{program}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:24]}"


def only(labels: Sequence[Json]) -> Json:
    """The label, None where there is none; several as they are, which the question refuses: it has one answer."""
    return (labels[0] if labels else None) if len(labels) < 2 else list(labels)
