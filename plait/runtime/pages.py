"""Parts of self-contained HTML pages: media as data URLs, plots as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from plait.errors import ConfigError
from plait.runtime.files import atomic_write

SIDE = 256  # pixels: larger pictures are scaled down to this longer side
LOSSLESS_SIDE = 128  # pixels of the longer side up to which compression is lossless
WIDTH, ROW, NAMES, VALUES = 460, 20, 170, 70  # pixels: width of a plot, height of a bar, widths of its name and value
HEIGHT = 130  # pixels of a histogram without its labels
Bins = Sequence[tuple[float, float, int]]  # (low edge, high edge, count)


def write_file(path: Path, text: str) -> None:
    """Write a page, and its folder if it is missing. Raises ConfigError where that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}; expected a place that can: choose another"
        ) from error


def grouped(number: float) -> str:
    """A number with thousands separators, two decimals at most: 12345.0 as 12,345, 0.123 as 0.12."""
    return f"{int(number) if number == int(number) else round(number, 2):,}"


def data_url(kind: str, data: bytes) -> str:
    """Data URL of bytes of the media type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture_url(picture: Image.Image) -> str:
    """Data URL of a picture, scaled down to SIDE pixels if it is larger; WebP, lossless up to LOSSLESS_SIDE."""
    picture = picture.copy()
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=max(picture.size) <= LOSSLESS_SIDE, quality=88)
    return data_url("image/webp", buffer.getvalue())


def bars(counts: Mapping[str, float]) -> Markup:
    """Bar chart as SVG: a bar with its name and count for each entry."""
    largest = max(counts.values(), default=0) or 1
    lines = [
        Markup(
            '<g><title>{}: {}</title><text class="name" x="{}" y="{}">{}</text>'
            '<rect x="{}" y="{}" width="{:.1f}" height="{}"/><text x="{:.1f}" y="{}">{}</text></g>'
        ).format(
            name, grouped(count), NAMES - 6, ROW * number + 14, name if len(name) <= 26 else f"{name[:25]}…",
            NAMES, ROW * number + 3, (length := (WIDTH - NAMES - VALUES) * count / largest), ROW - 6,
            NAMES + length + 5, ROW * number + 14, grouped(count),
        )
        for number, (name, count) in enumerate(counts.items())
    ]  # fmt: skip
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img">{}</svg>').format(
        WIDTH, ROW * len(counts), Markup("").join(lines)
    )


def histogram(bins: Bins) -> Markup:
    """Histogram as SVG: columns of equal width, with their edges below and their shares in per cent above."""
    total, largest = sum(count for *_, count in bins) or 1, max((count for *_, count in bins), default=0) or 1
    width = (WIDTH - 40) / max(1, len(bins))
    columns = []
    for number, (low, high, count) in enumerate(bins):
        left, height = 10 + width * number, (HEIGHT - 20) * count / largest
        share = 100 * count / total
        columns.append(
            Markup(
                '<g><title>{:g} to {:g}: {}</title><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                '<text class="share" x="{:.1f}" y="{:.1f}">{}</text><text class="edge" x="{:.1f}" y="{}">{:g}</text></g>'
            ).format(
                low, high, grouped(count), left + 1, HEIGHT - height, width - 2, height,
                left + width / 2, HEIGHT - height - 4, f"{share:.0f}" if share >= 1 else "", left, HEIGHT + 14, low,
            )
        )  # fmt: skip
    if bins:
        columns.append(
            Markup('<text class="edge" x="{}" y="{}">{:g}</text>').format(WIDTH - 30, HEIGHT + 14, bins[-1][1])
        )
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img">{}</svg>').format(
        WIDTH + 10, HEIGHT + 20, Markup("").join(columns)
    )
