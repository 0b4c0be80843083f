"""Segments as a model drew them, each block with the noise that it was drawn from: files to learn the same from fewer steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from plait.contract import Block, Modality, Part, Segment
from plait.errors import RowError

SUFFIX = ".drawn.npz"


def is_drawn(part: Part) -> bool:
    """Whether a part is such a file."""
    return isinstance(part.value, str) and part.value.endswith(SUFFIX)


def write_drawn(segment: Segment, path: Path) -> None:
    """Write a segment, with the noise of blocks that know it. Raises OSError."""
    arrays: dict[str, Any] = {"headers": np.array(json.dumps([block.header for block in segment.blocks]))}
    for number, block in enumerate(segment.blocks):
        arrays[f"tokens_{number}"] = block.tokens.astype(np.float32)
        if block.noise is not None:
            arrays[f"noise_{number}"] = block.noise.astype(np.float16)
    np.savez(path, **arrays)


def read_drawn(modality: Modality, part: Part) -> Segment:
    """The segment in a file. Raises RowError for a missing or damaged one, or for one of another width."""
    try:
        with open(part.value, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            headers = json.loads(str(arrays["headers"]))
            blocks = tuple(
                Block(
                    tuple(header),
                    arrays[f"tokens_{n}"],
                    arrays[f"noise_{n}"].astype(np.float32) if f"noise_{n}" in arrays else None,
                )
                for n, header in enumerate(headers)
            )
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise RowError(
            f"{modality.name} part: cannot read {part.value}: {error}; expected a file of plait distill: make it anew"
        ) from error
    for block in blocks:
        expected = (modality.block_len(block.header), modality.token_width)
        if not block.tokens.shape == expected == getattr(block.noise, "shape", expected):
            raise RowError(
                f"{modality.name} part: {part.value} has a block of shape {block.tokens.shape}; expected {expected}: it was "
                "drawn by a model with other settings"
            )
    return Segment(modality.name, blocks)
