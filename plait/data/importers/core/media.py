"""Which files are media, and media in the other shapes that lists hold: bytes, data addresses."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import cache
from pathlib import PurePath
from typing import Any

from plait import registry
from plait.data.importers.core.records import PROMPTS
from plait.data.importers.core.report import EntryError
from plait.data.media import Blob

KINDS = tuple(dict.fromkeys(kind for kind, _ in PROMPTS))
FOREIGN = (".heic", ".heif", ".svg", ".psd", ".eps", ".jp2", ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".m4a",
           ".aac", ".wma", ".aiff", ".amr")  # fmt: skip
STARTS = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3",
          b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}  # fmt: skip


@cache
def endings() -> Mapping[str, str]:
    """Modality by the ending of files that it reads."""
    return {ending: kind for kind in KINDS for ending in registry.suffixes(kind)}


def kind_of(path: PurePath) -> str | None:
    """Modality of a media file, by its ending."""
    return endings().get(path.suffix.lower())


def is_medium(name: str) -> bool:
    """Whether a name ends like that of a medium, be it one that is read or not."""
    ending = PurePath(name).suffix.lower()
    return len(name) < 4096 and "\n" not in name and (ending in endings() or ending in FOREIGN)


def blob_of(data: bytes, name: str, kind: str) -> Blob:
    """Bytes with the ending that belongs to them, else that of the name."""
    ending = next((ending for start, ending in STARTS.items() if data.startswith(start)), "")
    if data.startswith(b"RIFF"):
        ending = ".webp" if data[8:12] == b"WEBP" else ".wav"
    return Blob(data, ending or PurePath(name).suffix.lower() or registry.suffixes(kind)[0])


def blob_of_address(address: str, kind: str) -> Blob:
    """The medium in a `data:` address. Raises EntryError."""
    head, _, body = address.partition(",")
    try:
        return blob_of(base64.b64decode(body, validate=True), "", kind)
    except (binascii.Error, ValueError) as error:
        raise EntryError("a data address that is not base64", "data:image/png;base64,...", head[:60]) from error


def embedded(value: Any, kind: str) -> Blob | None:
    """The medium that a value holds whole, as bytes or as a struct of bytes and path; None where it is a name. Raises
    EntryError."""
    if isinstance(value, Mapping):
        data, name = value.get("bytes"), str(value.get("path") or "")
        return blob_of(data, name, kind) if data else None
    if isinstance(value, bytes):
        return blob_of(value, "", kind)
    return blob_of_address(value, kind) if isinstance(value, str) and value.startswith("data:") else None
