"""Presentation of a text: unchanged."""

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
    """The chat command: /text."""
    return "text"


def reads_files() -> Sequence[str]:
    """None: a text is typed."""
    return ()


def save(part: Part, folder: Path, stem: str) -> Path | None:
    """None: a text is printed."""
    return None


def html(part: Part, notes: Sequence[str] = ()) -> str:
    """The text in HTML, in its own writing direction."""
    return Markup('<span class="words" dir="auto">{}</span>').format(part.value)


def terminal(part: Part, columns: int, protocol: str | None) -> str:
    """The text."""
    return str(part.value)
