"""Settings that suit clips nobody here has heard before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plait.contract import Part


def suggest(modality: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """80 ms a token, blocks of 640 ms (docs/experiments/audio-blocks.md)."""
    return {"frames": 8, "block": 8}
