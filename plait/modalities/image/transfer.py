"""Pictures as bytes (plait.modalities.Transfers)."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape, unescape

import numpy as np
from PIL import Image, PngImagePlugin

from plait.contract import Part
from plait.errors import ConfigError
from plait.modalities import PROVENANCE
from plait.runtime.pictures import open_picture, to_canvas

NAME = "image"
MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"  # IPTC's word for what a model made
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmp:CreatorTool="{tool}" Iptc4xmpExt:DigitalSourceType="' + MADE + '"/></rdf:RDF></x:xmpmeta>'
)
PNG_KEY = "XML:com.adobe.xmp"
TOOL = re.compile(r"CreatorTool(?:=([\"'])(.{1,200}?)\1|>([^<]{1,200})<)")
QUOTES = {"&quot;": '"', "&apos;": "'"}
SAVING: dict[str, dict[str, Any]] = {"jpeg": {"quality": 90}, "webp": {"lossless": True}}  # drawings are small
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
    (to_canvas(picture, 3) if format == "jpeg" else picture).save(
        buffer, format.upper(), **SAVING.get(format, {}), **_notes(part, format)
    )
    return buffer.getvalue()


def _notes(part: Part, format: str) -> dict[str, Any]:
    """What Pillow writes of a part's provenance: an XMP packet."""
    if PROVENANCE not in part.options:
        return {}
    xmp = XMP.format(tool=escape(str(part.options[PROVENANCE]), {'"': "&quot;"}))
    if format != "png":
        return {"xmp": xmp.encode()}
    info = PngImagePlugin.PngInfo()
    info.add_itxt(PNG_KEY, xmp)
    return {"pnginfo": info}


def _provenance(picture: Image.Image) -> dict[str, str]:
    """The option PROVENANCE where the file says that a model made it."""
    xmp = picture.info.get("xmp") or picture.info.get(PNG_KEY) or ""
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp)
    if MADE not in text:
        return {}
    tool = TOOL.search(text)
    return {PROVENANCE: unescape(tool.group(2) or tool.group(3), QUOTES) if tool else "a model"}


def joined(format: str) -> Callable[[Part | None], bytes]:
    """Each picture by itself: there are no seams."""
    return lambda piece: b"" if piece is None else encode(piece, format)


def decode(data: bytes) -> Part:
    """The pixels [height, width, 3] of a picture of one of `plait.runtime.pictures.FORMATS`, turned as its EXIF says, on white
    where it is transparent. Raises RowError."""
    picture = open_picture(data)
    return Part(NAME, np.asarray(to_canvas(picture, 3)), _provenance(picture))
