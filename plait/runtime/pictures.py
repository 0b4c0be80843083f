"""Opens untrusted pictures: only the listed formats, and checks the header before decoding pixels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from plait.errors import RowError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # without a list Pillow passes EPS to Ghostscript
MAX_SIDE = 100_000  # pixels; Pillow cannot scale a side of millions
MAX_PIXELS = 64_000_000
ORIENTATION = 0x0112  # EXIF's tag


def open_picture(value: Any) -> Image.Image:
    """A decoded picture from a path, bytes, an array [height, width] or [height, width, 3] of uint8, or a picture, which is
    returned unchanged. Raises RowError.

    Checks the size in the header before decoding, so that a small file cannot ask for gigabytes.
    """
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray):
        try:
            return Image.fromarray(value)
        except (TypeError, ValueError) as error:
            raise RowError(
                f"image part: got an array of {value.dtype} and shape {value.shape}; expected [height, width] or "
                "[height, width, 3] of uint8"
            ) from error
    with _errors_of(value if isinstance(value, str | Path) else "bytes"):
        data = Path(value).read_bytes() if isinstance(value, str | Path) else bytes(value)
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        check_size(picture)
        picture.load()
        return picture


def read_header(path: str | Path) -> tuple[int, int, int]:
    """Width and height of a picture file as it is stored, and its EXIF orientation (1 to 8). Raises RowError."""
    with _errors_of(path), Image.open(path, formats=FORMATS) as picture:
        check_size(picture)
        orientation = picture.getexif().get(ORIENTATION, 1)
        return *picture.size, orientation if orientation in range(1, 9) else 1


@contextmanager
def _errors_of(name: str | Path) -> Iterator[None]:
    """What Pillow may raise of a stranger's file, as RowErrors that name it."""
    try:
        yield
    except RowError:
        raise
    except FileNotFoundError as error:
        raise RowError(f"image part: {name} is not there; expected the path of a picture") from error
    except UnidentifiedImageError as error:
        raise RowError(f"image part: {name} is no picture; expected one of {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise RowError(
            f"image part: cannot decode {name}: {error}; expected a whole picture: one of {', '.join(FORMATS)}"
        ) from error


def check_size(picture: Image.Image) -> None:
    """Raise RowError for a side of 0 or over MAX_SIDE, or for more than MAX_PIXELS."""
    width, height = picture.size
    if not (min(width, height) >= 1 and max(width, height) <= MAX_SIDE):
        raise RowError(f"image part: got {width}x{height} pixels; expected sides of 1 to {MAX_SIDE}: scale it down")
    if width * height > MAX_PIXELS:
        raise RowError(
            f"image part: got {width}x{height} pixels; expected at most {MAX_PIXELS // 10**6} million: scale it down"
        )


def pixels_digest(value: Any) -> str:
    """A digest of all pixels as they are stored, the same for a picture that was saved anew without loss. Raises RowError."""
    picture = open_picture(value)
    facts = f"{picture.mode} {picture.size} {picture.getpalette()}"
    return hashlib.sha256(facts.encode() + picture.tobytes()).hexdigest()


def to_canvas(picture: Image.Image, channels: int) -> Image.Image:
    """An 8-bit picture of `channels` 1 (grey) or 3 (RGB): applies the EXIF orientation, scales 16 bits to 8, composites alpha
    on white. Raises RowError."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        array = np.asarray(picture, np.float32)
        if not np.isfinite(array).all():
            raise RowError("image part: got pixels that are not finite numbers; expected numbers: save it as 8 bits")
        scale = 255.0 / 65535.0 if picture.mode.startswith("I") and array.max(initial=0) > 255 else 1.0
        if picture.mode == "F" and array.max(initial=0) <= 1.0:  # floats from 0 to 1
            scale = 255.0
        picture = Image.fromarray((array * scale).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    try:
        return picture.convert("L" if channels == 1 else "RGB")
    except ValueError as error:
        raise RowError(
            f"image part: got mode {picture.mode}; expected one that converts to RGB: save it as RGB"
        ) from error
