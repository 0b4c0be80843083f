"""Settings of the modality for a user's clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plait.contract import Part


def suggest(modality: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """Tokens and blocks of the lengths that docs/experiments/audio-blocks.md finds best, whatever the clips."""
    return {"frames": 8, "block": 8}
