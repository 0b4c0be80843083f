"""How people meet a text: as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from plait.contract import Part


def accepts(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def verb() -> str:
    """What asks for one in a chat: /text."""
    return "text"


def reads_files() -> Sequence[str]:
    """None: a text is typed."""
    return ()


def save(part: Part, folder: Path, stem: str) -> Path | None:
    """None: a text is printed."""
    return None


def html(part: Part, notes: Sequence[str] = ()) -> str:
    """The words, whichever way they are written."""
    return Markup('<span class="words" dir="auto">{}</span>').format(part.value)


def terminal(part: Part, columns: int, protocol: str | None) -> str:
    """The words."""
    return str(part.value)
