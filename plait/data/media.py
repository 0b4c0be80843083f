"""Media as bytes, and a cache of encoded segments."""

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
from plait.data.drawn import is_drawn, read_drawn
from plait.errors import RowError

CACHE_BYTES = 2**31  # of encoded segments
BLOCK_OVERHEAD = 500  # bytes that a block takes beside its tokens


@dataclass(frozen=True)
class Blob:
    """The bytes of a media file, and the suffix of its format (`.jpg`)."""

    data: bytes
    suffix: str


@dataclass(frozen=True)
class Member:
    """A media file inside a larger file, such as a shard: `size` bytes at `offset`."""

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


def to_blob(value: Any) -> Blob:
    """A medium as the bytes of a file: paths and blobs unchanged, (samples, rate) as FLAC, PIL images and arrays as PNG.
    Raises OSError for a path that cannot be read."""
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


def with_bytes(part: Part) -> Part:
    """The part, with the bytes of a `Member` as its value: modalities do not know members."""
    return replace(part, value=part.value.read()) if isinstance(part.value, Member) else part


def read(modality: Modality, part: Part) -> Segment:
    """`modality.read`, which also takes a `Member` and what a model drew (`drawn`). Raises RowError."""
    with _naming_member(part):
        if is_drawn(part):
            return read_drawn(modality, part)
        return modality.read(with_bytes(part))


def check(modality: Modality, part: Part) -> None:
    """`modality.check`, which also takes a `Member` and what a model drew. Raises RowError."""
    with _naming_member(part):
        if is_drawn(part):
            read_drawn(modality, part)
        else:
            modality.check(with_bytes(part))


@contextmanager
def _naming_member(part: Part) -> Iterator[None]:
    """Puts the name of a `Member` in front of its errors."""
    try:
        yield
    except RowError as error:
        if not isinstance(part.value, Member):
            raise
        raise RowError(f"{part.value}: {error}") from error


class CachedReader:
    """`read` with a cache of the segments of strings (texts, paths) and members, up to `capacity` bytes; drops the oldest
    first."""

    def __init__(self, modalities: Mapping[str, Modality], capacity: int = CACHE_BYTES) -> None:
        self.modalities, self.capacity = modalities, capacity
        self.segments: OrderedDict[tuple[str, str | Member], Segment] = OrderedDict()
        self.num_bytes = 0  # of the segments

    def __call__(self, part: Part) -> Segment:
        if not isinstance(part.value, str | Member):
            return read(self.modalities[part.type], part)
        key = (part.type, part.value)
        segment = self.segments.get(key)
        if segment is None:
            segment = self.segments[key] = read(self.modalities[part.type], part)
            self.num_bytes += size_of(segment)
            while self.num_bytes > self.capacity and len(self.segments) > 1:
                self.num_bytes -= size_of(self.segments.popitem(last=False)[1])
        return segment

    def clear(self) -> None:
        """Empty the cache."""
        self.segments.clear()
        self.num_bytes = 0


def size_of(segment: Segment) -> int:
    """Bytes of memory that a segment takes."""
    return sum(block.tokens.nbytes + BLOCK_OVERHEAD for block in segment.blocks)
