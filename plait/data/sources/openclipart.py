"""Drawings that people gave to the public domain (Open Clip Art Library), with titles, as SVG.

The package of the same drawings as PNG is passed over: many of those have a hundred million pixels. The facts stand in the SVG's metadata (Dublin Core and Creative Commons). Folders of buttons, symbols and screens, titles that only
number a series, and drawings whose licence is blank or not the public domain are left out, with counts.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from plait.data.sources import Entry, Source
from plait.data.sources.fetch import Package
from plait.errors import DataError, MissingError

SOURCE = Source(
    name="openclipart",
    what="drawings in the public domain with titles (Open Clip Art Library)",
    packages=(
        Package(
            "apt",
            "openclipart-svg",
            "1:0.18+dfsg-19",
            "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
        ),
    ),
    licence="public domain",
    attribution="the artists of the Open Clip Art Library",
    public="https://packages.debian.org/bookworm/openclipart-svg",
    size=500,
)
FOLDERS = {
    "animals", "buildings", "containers", "education", "electronics", "food", "geography", "office", "people", "plants",
    "recreation", "science", "tools", "transportation",
}  # fmt: skip
PUBLIC = "publicdomain"
SERIES = 4  # drawings with one title (without its digits) in one folder are a series, of which the first stays
SIDE = 192  # pixels that a drawing is rendered wide
HEAD = 20_000  # characters of an SVG in which its metadata stand
_TITLE = re.compile(r"<dc:title>\s*([^<]+?)\s*</dc:title>")
_LICENCE = re.compile(r"<cc:license[^>]*rdf:resource=\"([^\"]*)\"")
_SUBJECT = re.compile(r"<rdf:li>\s*([^<]+?)\s*</rdf:li>")


def plain_title(title: str) -> str:
    """A title without digits, underscores and doubled blanks."""
    return " ".join(re.sub(r"[\d_]+", " ", title).split()).strip(" -.,#")


def _reason(folder: str, title: str, licence: str) -> str:
    """Why a drawing is left out; empty where it is not."""
    if folder not in FOLDERS:
        return f"folder {folder}"
    if PUBLIC not in licence.casefold().replace("/", "").replace("_", ""):
        return "licence is blank or not the public domain"
    if not 3 <= len(title) <= 60 or not title.isascii():
        return "title too short, too long or not English"
    return ""


def rendered(svg: str) -> Image.Image | None:
    """The drawing on transparent ground, SIDE pixels wide or high; None where it cannot be drawn. Raises MissingError."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise MissingError("these drawings are SVG; to render them: python -m pip install 'plait[drawings]'") from error
    try:
        opened = Image.open(io.BytesIO(svg_to_bytes(svg_string=svg, width=SIDE, dpi=96, skip_system_fonts=True)))
        opened.load()
    except (ValueError, OSError, RuntimeError):
        return None
    return opened


def entries(folder: Path) -> Iterator[Entry]:
    """A drawing each. Raises DataError where the packages are not as expected."""
    place = folder / SOURCE.packages[0].folder / "usr/share/openclipart/svg"
    drawn = sorted(place.rglob("*.svg"))
    if not drawn:
        raise DataError(f"{place} holds no drawings; expected the files of openclipart-svg: fetch it anew")
    seen: Counter[tuple[str, str]] = Counter()
    for path in drawn:
        svg = path.read_text(encoding="utf-8", errors="replace")
        text = svg[:HEAD]
        told, licence = _TITLE.search(text), _LICENCE.search(text)
        title = plain_title(told[1]) if told else ""
        group = path.relative_to(place).parts[0]
        reason = _reason(group, title, licence[1] if licence else "")
        seen[group, title.casefold()] += not reason
        if not reason and seen[group, title.casefold()] > SERIES:
            reason = "one more of a series"
        picture = None if reason else rendered(svg)
        if picture is None:
            yield Entry(
                "left out", reason or "an SVG that cannot be drawn", facts={"what": str(path.relative_to(place))}
            )
            continue
        subjects = [word for word in _SUBJECT.findall(text) if word.isascii()]
        facts_of = {"style": "openclipart", "category": group, "keywords": {"en": subjects}}
        yield Entry("drawing", title.casefold(), {"picture": picture}, {"en": title}, facts_of)
