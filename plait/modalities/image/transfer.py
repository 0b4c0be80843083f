"""Pictures as bytes (plait.modalities.Transfers)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np

from plait.contract import Part
from plait.errors import ConfigError
from plait.runtime.pictures import open_picture, to_canvas

NAME = "image"
FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def formats() -> Mapping[str, str]:
    """PNG, JPEG, WebP."""
    return FORMATS


def encode(part: Part, format: str) -> bytes:
    """The picture; JPEG gets white where it is transparent. Raises ConfigError, RowError."""
    if format not in FORMATS:
        raise ConfigError(f"got format {format!r} for a picture; expected one of {', '.join(FORMATS)}")
    picture = open_picture(part.value)
    buffer = io.BytesIO()
    (to_canvas(picture, 3) if format == "jpeg" else picture).save(buffer, format.upper())
    return buffer.getvalue()


def joined(format: str) -> Callable[[Part | None], bytes]:
    """Each picture by itself: there are no seams."""
    return lambda piece: b"" if piece is None else encode(piece, format)


def decode(data: bytes) -> Part:
    """The pixels [height, width, 3] of a picture of one of `plait.runtime.pictures.FORMATS`, turned as its EXIF says, on white
    where it is transparent. Raises RowError."""
    return Part(NAME, np.asarray(to_canvas(open_picture(data), 3)))
