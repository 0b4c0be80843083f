"""Drawings in the public domain with titles, as SVG (Open Clip Art Library).

The package with the same drawings as PNG is not used: many of those have a hundred million pixels. Facts come from the
SVG's metadata (Dublin Core and Creative Commons). Left out, with counts: folders of buttons, symbols and screens, titles
that name a series or a person, copies, and drawings whose licence is blank or not the public domain.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from plait.data.sources import Entry, Source, left_out
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
_TITLE = re.compile(r"<dc:title>\s*([^<]*?)\s*</dc:title>")
_MAKER = re.compile(r"<dc:creator>.*?<dc:title>\s*([^<]+?)\s*</dc:title>", re.DOTALL)
_LICENCE = re.compile(r"<cc:license[^>]*rdf:resource=\"([^\"]*)\"")
_SUBJECT = re.compile(r"<rdf:li>\s*([^<]+?)\s*</rdf:li>")


_SERIES = re.compile(
    r"\b(clip ?arts?|collection|sibmission|blueman|etiquette icons|creation day|contour chipmunk)\b|@", re.I
)
_COLOURLESS = re.compile(r"[ (]*\b(b (and|&) w|bw)\b\)?$", re.I)
ITALIAN = "rollandin"  # the maker of an eighth of the drawings, whose metadata say `en`


def title_of(written: str) -> str:
    """A title without its maker, a file's suffix and the number within a series."""
    title = html.unescape(html.unescape(written)).replace("_", " ")  # some were escaped twice
    title = re.sub(r"^clipart by .+? - |\.svg$", "", " ".join(title.split()), flags=re.I)
    title = re.sub(r"(?<=[a-z])[ #]*\d+(?=$| \(| bw$)", "", title).strip(" -.,#")
    return _COLOURLESS.sub(" (black and white)", title)


def key_of(title: str) -> str:
    """A key that a drawing shares with its series and its version without colours."""
    return " ".join(re.findall(r"[^\W\d_]+", re.sub(r"\([^)]*\)?", "", title).casefold())) or title.casefold()


def _reason(folder: str, title: str, maker: str, licence: str) -> str:
    """The reason to leave a drawing out; empty for a good one."""
    if folder not in FOLDERS:
        return f"folder {folder}"
    if PUBLIC not in licence.casefold().replace("/", "").replace("_", ""):
        return "licence is blank or not the public domain"
    if not 3 <= len(title) <= 60 or not title.isascii():
        return "title too short, too long or not ASCII"
    if _SERIES.search(title) or set(title.casefold().split()) <= set(maker.casefold().split()):
        return "a title that names a series or a person"
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
    return opened if opened.getbbox() else None  # nothing was drawn


def entries(folder: Path) -> Iterator[Entry]:
    """An entry a drawing. Raises DataError where the packages are not as expected."""
    drawings = folder / SOURCE.packages[0].folder / "usr/share/openclipart/svg"
    drawn = sorted(drawings.rglob("*.svg"))
    if not drawn:
        raise DataError(f"{drawings} holds no drawings; expected the files of openclipart-svg: fetch it anew")
    seen: Counter[tuple[str, str]] = Counter()
    pictures: set[bytes] = set()
    for path in drawn:
        svg = path.read_text(encoding="utf-8", errors="replace")
        head = svg[:HEAD]
        written, maker, licence = (
            match[1] if (match := pattern.search(head)) else "" for pattern in (_TITLE, _MAKER, _LICENCE)
        )
        title, group = title_of(written), path.relative_to(drawings).parts[0]
        key = key_of(title)
        reason = _reason(group, title, maker, licence)
        if not reason and seen[group, key] >= SERIES:
            reason = "one more of a series"
        picture = None if reason else rendered(svg)
        if picture is not None:
            digest = hashlib.sha256(picture.convert("RGBA").tobytes()).digest()
            reason = "a copy of another drawing" if digest in pictures else ""
            pictures.add(digest)
        if picture is None or reason:
            yield left_out(reason or "an SVG that cannot be drawn", str(path.relative_to(drawings)))
            continue
        seen[group, key] += 1
        subjects = [word for word in _SUBJECT.findall(head) if word.isascii()]
        facts_of = {"style": "openclipart", "category": group, "keywords": {"en": subjects}}
        language = "it" if ITALIAN in maker.casefold() else "en"
        yield Entry("drawing", key, {"picture": picture}, {language: title}, facts_of)
