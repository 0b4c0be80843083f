"""Settings that suit texts nobody here has read before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plait.contract import Part


def suggest(modality: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """A vocabulary that grows with the text: merges are worth an embedding only where they are seen often."""
    size = sum(len(text) for text in {part.value for part in parts})
    return {"vocab_size": 256 + min(3840, max(64, size // 16))}
