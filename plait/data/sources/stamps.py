"""Tux Paint's stamps: drawings and photographs with captions in 78 languages, spoken captions, and sounds of things.

Beside a picture `NAME.png` or `NAME.svg` lie `NAME.txt`, whose first line is the English caption and others
`LOCALE.utf8=CAPTION`; `NAME_desc_LOCALE.ogg`, a spoken caption; and `NAME.ogg`, the sound of the thing (Tux Paint's
documentation, https://tuxpaint.org/docs/).

One person, or nearly so, spoke each language: language and speaker are confounded. Loudness varies by 18 dB.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from plait.data.sources import Entry, Source, clean, left_out
from plait.data.sources.fetch import Package
from plait.data.sources.recordings import hurried, seconds_of, words_of
from plait.errors import DataError, MissingError

PACKAGE = Package(
    "apt", "tuxpaint-stamps-default", "2022.06.04-1", "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
)
SOURCE = Source(
    name="stamps",
    what="drawings and photographs with captions in 78 languages, recorded captions, and sounds of things",
    packages=(PACKAGE,),
    licence="GPL-2.0-or-later",
    attribution="Tux Paint stamps, by Bill Kendrick and the contributors of Tux Paint, https://tuxpaint.org/",
    public="https://packages.debian.org/bookworm/tuxpaint-stamps-default",
    size=230,
    share_alike=True,
)

SIDE = 128  # pixels of the longer side of a drawing that comes as SVG alone
# read as written: the lengths of captions and recordings correlate by 0.95 and more
TRUSTED = ("bg", "es", "fr", "ro", "ru")
# stamps whose sound is somebody who speaks
VOICED = ("seasonal/hanukkah/", "space/apollo_lander", "symbols/alphabets/", "symbols/math/")

# reasons to leave out
NO_CAPTION = "a picture without a caption (a mirrored copy)"
NO_PICTURE = "a caption or recording without a picture"
NO_TEXT = "a recording without a caption in its language"
NOT_TRUSTED = "a recording in a language whose recordings may not say their captions"
HURRIED = "a recording too short for its caption"
WORDS = "a spoken letter, number or sentence in place of a sound"

# folders that say how a thing is shown, not what it is
MANNERS = ("cartoon", "coins", "filled", "lowercase", "outlined", "plastic", "toys", "uppercase")
CATEGORIES = {  # of folders whose name is none
    "00_symbols": "money",
    "aquatic": "sea mammals",
    "arttools": "art tools",
    "asl": "sign language",
    "auto": "cars",
    "body_parts": "body parts",
    "brass": "brass instruments",
    "camel": "camels",
    "canadian": "money",
    "christmas": "Christmas",
    "construction": "construction vehicles",
    "cycle": "cycles",
    "dinosaur": "dinosaurs",
    "easter": "Easter",
    "emergency": "emergency vehicles",
    "english": "letters",
    "euro": "money",
    "farming": "farm vehicles",
    "flight": "aircraft",
    "german": "letters",
    "halloween": "Halloween",
    "hanukkah": "Hanukkah",
    "japanese": "money",
    "locomotive": "trains",
    "masstransit": "public transport",
    "math": "numbers",
    "naturalforces": "forces of nature",
    "newyears": "new year",
    "percussion": "percussion instruments",
    "race": "race cars",
    "roadsigns": "road signs",
    "ship": "ships",
    "spanish": "letters",
    "string": "string instruments",
    "us": "money",
    "wind": "wind instruments",
}


def _category(folders: list[str]) -> str:
    """The innermost folder that names a kind of thing, in words."""
    name = next(folder for folder in reversed(folders) if folder not in MANNERS)
    return CATEGORIES.get(name, name)


def _language(locale: str) -> str:
    """The BCP 47 code of a locale."""
    return locale.replace("_", "-").replace("@latin", "-Latn").replace("@", "-")


def _captions(path: Path) -> dict[str, str]:
    """Captions by language; empty without an English one. Raises DataError."""
    try:
        english, *others = path.read_text(encoding="utf-8").splitlines() or [""]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}); delete its package and fetch it again") from error
    pairs = [
        ("en", english),
        *((_language(locale), text) for locale, _, text in (o.partition(".utf8=") for o in others)),
    ]
    captions = {language: clean(text) for language, text in pairs if clean(text)}
    return captions if "en" in captions else {}


def _drawn(path: Path) -> Image.Image:
    """An SVG rendered on transparent ground. Raises MissingError, DataError."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise MissingError("some stamps are SVG; to draw them: python -m pip install 'plait[drawings]'") from error
    try:  # without `dpi`, sizes in points and centimetres come to nothing
        data = svg_to_bytes(svg_path=str(path), width=SIDE, height=SIDE, dpi=96, skip_system_fonts=True)
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except ValueError as error:
        raise DataError(
            f"{path} is no SVG that can be drawn ({error}); delete its package and fetch it again"
        ) from error
    return picture


def _stamp(picture: Path, name: str, texts: dict[str, str], recordings: list[tuple[str, Path]]) -> Iterator[Entry]:
    """A drawing, then its recordings: (language, file) pairs, where an empty language is the sound of the thing."""
    medium = picture if picture.suffix == ".png" else _drawn(picture)
    folders = name.split("/")[:-1]
    shared = {"category": _category(folders), "top": folders[0], "picture": name + picture.suffix}
    key = words_of(texts["en"])
    yield Entry("drawing", key, {"picture": medium}, texts, {"style": "stamp", **shared})
    for language, path in recordings:
        what = f"{Path(name).parent}/{path.name}"
        if not language and name.startswith(VOICED):
            yield left_out(WORDS, what)
        elif not language:
            yield Entry("sound", key, {"sound": path, "picture": medium}, {"en": texts["en"]}, shared)
        elif language not in TRUSTED:
            yield left_out(NOT_TRUSTED, what)
        elif language not in texts:
            yield left_out(NO_TEXT, what)
        elif hurried(texts[language], seconds_of(path)):
            yield left_out(HURRIED, what)
        else:
            facts = {"speaker": f"stamps-{language}", "language": language, **shared}
            yield Entry("speech", key, {"speech": path}, {language: texts[language]}, facts)


def entries(folder: Path) -> Iterator[Entry]:
    """Drawings with captions, spoken captions, and sounds, stamp by stamp; `facts["picture"]` names the stamp's picture.

    Raises DataError for damaged data, MissingError without resvg.
    """
    root = folder / PACKAGE.folder / "usr" / "share" / "tuxpaint" / "stamps"
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    pictures = {path.with_suffix(""): path for suffix in (".svg", ".png") for path in files if path.suffix == suffix}
    if not pictures:
        raise DataError(
            f"{root} holds no pictures; expected the stamps of {PACKAGE.name}: delete it and fetch it again"
        )
    texts = {path.with_suffix(""): path for path in files if path.suffix == ".txt"}
    recordings: dict[Path, list[tuple[str, Path]]] = {}
    for file in files:
        if file.suffix in (".ogg", ".wav"):
            name, described, locale = file.name.split(".")[0].partition("_desc")
            language = (_language(locale.lstrip("_")) or "en") if described else ""
            recordings.setdefault(file.with_name(name), []).append((language, file))
    for stem in sorted({*pictures, *texts, *recordings}):
        name, picture, heard = stem.relative_to(root).as_posix(), pictures.get(stem), recordings.get(stem, [])
        captions = _captions(texts[stem]) if stem in texts else {}
        if picture and captions:
            yield from _stamp(picture, name, captions, heard)
            continue
        reason = NO_CAPTION if picture else WORDS if name.startswith(VOICED) else NO_PICTURE
        for path in (picture, texts.get(stem), *(recording for _, recording in heard)):
            if path:
                yield left_out(reason, path.relative_to(root).as_posix())
