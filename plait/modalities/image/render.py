"""Presentation of a picture: in files, on pages, in a terminal."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from plait.contract import Part
from plait.modalities.image import transfer
from plait.modalities.image.boxes import boxes_in_text
from plait.runtime.pages import SIDE, picture_url
from plait.runtime.pictures import open_picture, to_canvas

MIN_SIDE, MIN_SIDE_WITH_BOXES = 64, 128  # pixels that smaller pictures on a page are enlarged to, about
MIN_LABEL_WIDTH = 160  # pixels: boxes in narrower pictures have no visible labels
MAX_COLUMNS = 64  # of a picture in half blocks


def accepts(value: Any) -> bool:
    """Whether the value is a PIL picture."""
    return isinstance(value, Image.Image)


def verb() -> str:
    """The chat command: /draw."""
    return "draw"


def reads_files() -> Sequence[str]:
    """Suffixes of `plait.runtime.pictures.FORMATS`."""
    return (".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif")


def save(part: Part, folder: Path, stem: str) -> Path:
    """Write a PNG; returns its path. Raises RowError."""
    path = folder / f"{stem}.png"
    path.write_bytes(transfer.encode(part, "png"))
    return path


def html(part: Part, notes: Sequence[str] = ()) -> str:
    """The picture on white, with the boxes in the texts `notes` drawn over it. Raises RowError."""
    picture = to_canvas(open_picture(part.value), 3)
    has_boxes = any(boxes_in_text(text, picture.size) for text in notes)
    longer, shortest = max(picture.size), MIN_SIDE_WITH_BOXES if has_boxes else MIN_SIDE
    scale = SIDE / longer if longer > SIDE else max(1, round(shortest / longer))
    size = [max(1, round(side * scale)) for side in picture.size]
    return Markup('<span class="frame"><img src="{}" width="{}" height="{}"{} alt="picture">{}</span>').format(
        picture_url(picture),
        *size,
        Markup(' class="small"') if scale > 1 else "",
        _overlay(notes, size) if has_boxes else "",
    )


def _overlay(texts: Iterable[str], size: Sequence[int]) -> Markup:
    """SVG of the boxes in `texts` over a picture of `size`; a label shared by several boxes stands at the first."""
    shapes, shown_labels = [], {""}
    for box in (box for text in texts for box in boxes_in_text(text, size)):
        (x1, y1, x2, y2), label = box["box"], box["label"]
        shape = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        shapes.append(Markup(shape).format(x1, y1, x2 - x1, y2 - y1, label))
        if label not in shown_labels and size[0] >= MIN_LABEL_WIDTH:
            corner = (x1 + 2, y1 - 3 if y1 > 12 else y1 + 11)
            shapes.append(Markup('<text x="{:.1f}" y="{:.1f}">{}</text>').format(*corner, label))
        shown_labels.add(label)
    return Markup('<svg viewBox="0 0 {} {}">{}</svg>').format(*size, Markup("").join(shapes))


def terminal(part: Part, columns: int, protocol: str | None) -> str:
    """The picture in the terminal's graphics protocol, or in half blocks. Raises RowError."""
    picture = open_picture(part.value)
    return in_protocol(picture, protocol) if protocol else half_blocks(picture, min(MAX_COLUMNS, columns))


def half_blocks(picture: Image.Image, columns: int = MAX_COLUMNS) -> str:
    """A picture as text, two pixels a character: the upper one is the colour of ▀, the lower one its background."""
    width, height = picture.size
    scale = min(1.0, columns / width)
    size = max(1, round(width * scale)), max(2, 2 * round(height * scale / 2))
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX))
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]}m\x1b[48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(upper, lower, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def in_protocol(picture: Image.Image, protocol: str) -> str:
    """A picture as escape sequences, enlarged if it is tiny: kitty's graphics protocol, or iTerm2's inline images for
    `iterm`."""
    factor = max(1, 160 // max(picture.size))
    large = picture.convert("RGB").resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    if protocol == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(buffer.getvalue())}:{data}\a"
    pieces = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    commands = []
    for number, piece in enumerate(pieces):
        control = ("a=T,f=100," if number == 0 else "") + f"m={int(number < len(pieces) - 1)}"
        commands.append(f"\x1b_G{control};{piece}\x1b\\")
    return "".join(commands)
