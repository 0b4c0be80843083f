"""Emoji as six families of drawings, with the names that Unicode's CLDR gives them in over a hundred languages.

Five families are Iconify's (https://iconify.design/docs/types/iconify-json.html): `icons.json` has SVG bodies by name,
`chars.json` names by code points. The sixth is a folder of WebP files named by code points. Groups are Emojibase's.

Each family has a licence of its own, in `facts["licence"]`. OpenMoji's (CC BY-SA 4.0) also covers what is derived from it:
weights trained on it may be shipped only under that licence.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from plait.data.sources import Entry, Source, clean, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError, MissingError

SIDE = 128  # pixels of a drawing, wide and high
KEYWORDS_IN = ("en", "es", "fr", "de", "it", "pt", "ru", "zh", "ja", "ko", "ar", "hi", "pl", "uk", "tr")
NO_CODE, NO_NAME = "a drawing without a code point", "a code point without a name in CLDR"  # what is left out, and why


@dataclass(frozen=True)
class Family:
    """Drawings of one style under one licence (SPDX)."""

    style: str
    licence: str
    package: Package


FAMILIES = (
    Family("fluent-flat", "MIT", Package("npm", "@iconify-json/fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175")),
    Family("fluent-color", "MIT", Package("npm", "@iconify-json/fluent-emoji", "1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b")),
    Family("noto", "Apache-2.0", Package("npm", "@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad")),
    Family("twemoji", "CC-BY-4.0", Package("npm", "@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7")),
    Family("openmoji", "CC-BY-SA-4.0", Package("npm", "@iconify-json/openmoji", "1.2.29", "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5")),
    Family("fluent-3d", "MIT", Package("npm", "@lobehub/fluent-emoji-3d", "1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58")),
)  # fmt: skip
FLAT, SOLID = FAMILIES[0], FAMILIES[-1]
NAMES = {  # where the packages keep the names of code points, and of sequences of them
    "annotations": Package("npm", "cldr-annotations-full", "48.2.0", "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1"),
    "annotationsDerived": Package("npm", "cldr-annotations-derived-full", "48.2.0", "4be946ff5815f806ec78b50363d577a769f2fbfb90c6380a44e161a92436996e"),
}  # fmt: skip
GROUPS = Package("npm", "emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")

SOURCE = Source(
    name="emoji",
    what="emoji drawn in six styles, with names in over a hundred languages",
    packages=(*(family.package for family in FAMILIES), *NAMES.values(), GROUPS),
    licence=(
        "by drawing: Fluent Emoji MIT, Noto Emoji Apache-2.0, Twemoji CC BY 4.0, OpenMoji CC BY-SA 4.0; "
        "names Unicode-3.0, groups MIT"
    ),
    attribution=(
        "Fluent Emoji by Microsoft; Noto Emoji by Google; Twemoji by Twitter and contributors, CC BY 4.0; emoji designed by "
        "OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0; names from Unicode CLDR; groups from Emojibase"
    ),
    public="https://www.npmjs.com/package/@iconify-json/fluent-emoji-flat and the npm packages listed beside it",
    size=400,
    share_alike=True,  # OpenMoji
)

TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")  # 1 to 5, from light to dark
# gendered code points: what stands for the same without gender, and the gender
GENDERED = {
    "1f468": ("1f9d1", "male"),
    "1f469": ("1f9d1", "female"),
    "1f466": ("1f9d2", "male"),  # boy, girl
    "1f467": ("1f9d2", "female"),
    "1f474": ("1f9d3", "male"),  # old man, old woman
    "1f475": ("1f9d3", "female"),
    "1f934": ("1fac5", "male"),  # prince, princess
    "1f478": ("1fac5", "female"),
    "1fac3": ("1fac4", "male"),  # pregnant
    "1f930": ("1fac4", "female"),
    "1f385": ("1f9d1-200d-1f384", "male"),  # Santa, Mrs. Claus
    "1f936": ("1f9d1-200d-1f384", "female"),
    "1f57a": ("1f483", "male"),  # dancing; nobody dances without gender
    "1f483": ("1f483", "female"),
    "1f46c": ("1f46b", "male"),  # two who hold hands
    "1f46d": ("1f46b", "female"),
    "2642": ("2642", "male"),
    "2640": ("2640", "female"),
}
# sequences that say the same as one code point, once skin tone and gender are gone
SAME = {
    "1f9d1-200d-1f91d-200d-1f9d1": "1f46b",
    "1f9d1-200d-2764-200d-1f9d1": "1f491",
    "1f9d1-200d-2764-200d-1f48b-200d-1f9d1": "1f48f",
    "1f9d1-200d-1f430-200d-1f9d1": "1f46f",
    "1f9d1-200d-1faef-200d-1f9d1": "1f93c",
    "1faf1-200d-1faf2": "1f91d",
}
_ADDED = re.compile(r"-200d-(2640|2642|27a1)\b")  # joined signs: of a gender, or turned to the right


@dataclass
class CodeNames:
    """CLDR's names of a code by language, and its keywords in some languages."""

    names: dict[str, str] = field(default_factory=dict)
    keywords: dict[str, list[str]] = field(default_factory=dict)


def code_of(written: str) -> str:
    """Code points in lower-case hexadecimal, joined by `-`, without leading zeros and FE0F (which asks for the coloured form)."""
    return "-".join(point.lstrip("0") for point in written.lower().split("-") if point != "fe0f")


def base_of(code: str) -> str:
    """A code without skin tone, gender and direction; all drawings of one thing share it."""
    points = _ADDED.sub("", code).split("-")
    plain = [GENDERED.get(point, (point, ""))[0] for point in points if point not in TONES]
    base = "-".join(plain) or code
    return SAME.get(base, base)


def tone_of(code: str) -> int | None:
    """The skin tone: 0 for none, 1 (light) to 5 (dark), None for several."""
    tones = {TONES.index(point) + 1 for point in code.split("-")[1:] if point in TONES}
    return None if len(tones) > 1 else tones.pop() if tones else 0


def gender_of(code: str) -> str:
    """`male`, `female`, or empty for no gender or both."""
    genders = {GENDERED[point][1] for point in code.split("-") if point in GENDERED}
    return genders.pop() if len(genders) == 1 and code not in ("2640", "2642") else ""


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); expected JSON: delete its package and fetch again"
        ) from error


def _names_by_code(folder: Path) -> dict[str, CodeNames]:
    """Names (as spoken) and keywords by code. Locales that only refer to another one have none."""
    names_by_code: dict[str, CodeNames] = {}
    for kind, package in NAMES.items():
        paths = sorted((folder / package.folder / "package" / kind).glob("*/annotations.json"))
        if not paths:
            raise DataError(
                f"{folder / package.folder} has no package/{kind}/LANGUAGE/annotations.json; fetch it again"
            )
        for path in paths:
            language = path.parent.name
            for character, notes in _read(path)[kind].get("annotations", {}).items():
                code_names = names_by_code.setdefault(
                    code_of("-".join(f"{ord(point):x}" for point in character)), CodeNames()
                )
                if name := clean(notes.get("tts", [""])[0]):
                    code_names.names[language] = name
                if language in KEYWORDS_IN:
                    code_names.keywords[language] = [clean(word) for word in notes.get("default", [])]
    return names_by_code


def _groups(folder: Path) -> dict[str, tuple[str, str]]:
    """(group, subgroup) by code."""
    package = folder / GROUPS.folder / "package"
    names = _read(package / "meta" / "groups.json")
    groups = {}
    for emoji in _read(package / "en" / "data.json"):
        if "group" in emoji:  # letters of flags have none
            group = (names["groups"][str(emoji["group"])], names["subgroups"][str(emoji["subgroup"])])
            groups.update({code_of(variant["hexcode"]): group for variant in (emoji, *emoji.get("skins", ()))})
    return groups


def _renderer() -> Callable[[str], bytes]:
    """A function from SVG to PNG that loads no fonts, since no drawing has text. Raises MissingError."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise MissingError("these drawings are SVG; to render them: python -m pip install 'plait[drawings]'") from error
    return lambda svg: svg_to_bytes(svg_string=svg, skip_system_fonts=True)


def read_icons(folder: Path, family: Family) -> dict[str, Any]:
    """The icons.json of one of Iconify's families. Raises DataError."""
    icons: dict[str, Any] = _read(folder / family.package.folder / "package" / "icons.json")
    return icons


def svg_of(icons: Mapping[str, Any], name: str) -> str:
    """One drawing of an icons.json, SIDE x SIDE."""
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIDE}" height="{SIDE}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def _iconify(folder: Path, family: Family) -> Iterator[tuple[str, str, str]]:
    """(code, name, SVG) of one of Iconify's families, drawings without a code first."""
    package = folder / family.package.folder / "package"
    icons = read_icons(folder, family)
    # the coloured set lists no characters, but names its drawings as the flat one does
    characters = _read(package / "chars.json") or _read(folder / FLAT.package.folder / "package" / "chars.json")
    codes = sorted((code_of(written), name) for written, name in characters.items() if name in icons["icons"])
    nameless = sorted(icons["icons"].keys() - {name for _, name in codes})
    for code, name in (*(("", name) for name in nameless), *codes):
        yield code, name, svg_of(icons, name)


def _solid(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(code, name, file) of the family of WebP files."""
    assets = folder / SOLID.package.folder / "package" / "assets"
    files = sorted(assets.glob("*.webp"))
    if not files:
        raise DataError(f"{assets} has no .webp files; expected the pictures of {SOLID.package.name}: fetch it again")
    for path in files:
        yield code_of(path.stem), path.name, path


def _picture(drawing: str | Path, name: str, render: Callable[[str], bytes]) -> Path | Image.Image:
    """An SVG rendered; a file unchanged."""
    if isinstance(drawing, Path):
        return drawing
    try:
        picture = Image.open(io.BytesIO(render(drawing)))
        picture.load()
    except ValueError as error:
        raise DataError(f"{name} is no SVG that can be drawn ({error}); fetch its package again") from error
    return picture


def entries(folder: Path) -> Iterator[Entry]:
    """Drawings of SIDE x SIDE pixels on transparent ground, family by family, rendered one at a time.

    `texts` are their names in all languages that have one. Raises DataError for damaged packages, MissingError without resvg.
    """
    render = _renderer()
    names_by_code, groups = _names_by_code(folder), _groups(folder)
    for family in FAMILIES:
        drawings = _solid(folder) if family is SOLID else _iconify(folder, family)
        for code, name, drawing in drawings:
            what = f"{family.style} {name}"
            if code not in names_by_code or not names_by_code[code].names:
                yield left_out(NO_NAME if code else NO_CODE, what)
                continue
            base = base_of(code)
            category, subcategory = groups.get(code) or groups.get(base, ("", ""))
            facts = {
                "style": family.style,
                "licence": family.licence,
                "code": code,
                "base": base,
                "tone": tone_of(code),
                "gender": gender_of(code),
                "category": category,
                "subcategory": subcategory,
                "keywords": names_by_code[code].keywords,
            }
            yield Entry("drawing", base, {"picture": _picture(drawing, what, render)}, names_by_code[code].names, facts)
