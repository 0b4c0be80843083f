"""Settings of the modality, derived from texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plait.contract import Part


def suggest(modality: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """A vocabulary that grows with the number of characters: only frequent merges are worth an embedding."""
    size = sum(len(text) for text in {part.value for part in parts})
    return {"vocab_size": 256 + min(3840, max(64, size // 16))}
