"""Media as bytes, and parts that are read once: encoded segments are kept in memory by what they were read from."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from plait.contract import Modality, Part, Segment
from plait.errors import RowError

KEPT_BYTES = 2**31  # of encoded segments
A_BLOCK = 500  # bytes that a block takes beside its tokens


@dataclass(frozen=True)
class Blob:
    """A medium as the bytes of a file, with the suffix of its format (`.jpg`)."""

    data: bytes
    suffix: str


@dataclass(frozen=True)
class Member:
    """A medium inside a larger file, such as a shard: `size` bytes at `offset`."""

    path: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}/{self.name}"

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def encoded(value: Any) -> Blob:
    """A medium as the bytes of a file: files and blobs as they are, pictures as PNG, (samples, rate) as FLAC."""
    if isinstance(value, Path | str):
        return Blob(Path(value).read_bytes(), Path(value).suffix.lower())
    if isinstance(value, Blob):
        return value
    buffer = io.BytesIO()
    if isinstance(value, tuple):
        samples, rate = value
        soundfile.write(buffer, samples, rate, format="FLAC")
        return Blob(buffer.getvalue(), ".flac")
    picture = value if isinstance(value, Image.Image) else Image.fromarray(np.asarray(value))
    picture.save(buffer, "PNG")
    return Blob(buffer.getvalue(), ".png")


def opened(part: Part) -> Part:
    """A part with its bytes, if it is a member of a larger file, which modalities know nothing of."""
    return replace(part, value=part.value.read()) if isinstance(part.value, Member) else part


def read(modality: Modality, part: Part) -> Segment:
    """`modality.read`, of members of larger files too. Raises RowError."""
    with _named(part):
        return modality.read(opened(part))


def check(modality: Modality, part: Part) -> None:
    """`modality.check`, of members of larger files too. Raises RowError."""
    with _named(part):
        modality.check(opened(part))


@contextmanager
def _named(part: Part) -> Iterator[None]:
    """Errors about a member of a larger file say which."""
    try:
        yield
    except RowError as error:
        if not isinstance(part.value, Member):
            raise
        raise RowError(f"{part.value}: {error}") from error


class CachedReader:
    """`read`, remembering the segments of text strings and media files, up to `capacity` bytes, oldest forgotten."""

    def __init__(self, modalities: Mapping[str, Modality], capacity: int = KEPT_BYTES) -> None:
        self.modalities, self.capacity = modalities, capacity
        self.kept: OrderedDict[tuple[str, str | Member], Segment] = OrderedDict()
        self.held = 0  # bytes

    def __call__(self, part: Part) -> Segment:
        if not isinstance(part.value, str | Member):
            return read(self.modalities[part.type], part)
        key = (part.type, part.value)
        segment = self.kept.get(key)
        if segment is None:
            segment = self.kept[key] = read(self.modalities[part.type], part)
            self.held += size_of(segment)
            while self.held > self.capacity and len(self.kept) > 1:
                self.held -= size_of(self.kept.popitem(last=False)[1])
        return segment

    def forget(self) -> None:
        """All that was read."""
        self.kept.clear()
        self.held = 0


def size_of(segment: Segment) -> int:
    """Bytes that a segment takes."""
    return sum(block.tokens.nbytes + A_BLOCK for block in segment.blocks)
