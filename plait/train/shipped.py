"""Checkpoints that come with the package, each in a folder of its name, with lines that show what it can do."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "shipped"
CONFIG = "config.json"
CONVERSATION = "conversation.txt"  # for plait chat --script


def checkpoints() -> dict[str, Path]:
    """Checkpoints that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{CONFIG}"))}


def conversations() -> dict[str, Path]:
    """The conversation of each of them that has one, by name."""
    scripts = {name: folder / CONVERSATION for name, folder in checkpoints().items()}
    return {name: script for name, script in scripts.items() if script.is_file()}
