"""Five further styles of emoji under permissive licences, two of them black and white: Iconify's sets, matched by name.

Their drawings are named by words, not by code points, so each is matched with the English name that CLDR gives a code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from plait.data.sources import Entry, Source, emoji, left_out
from plait.data.sources.emoji import Family
from plait.data.sources.fetch import Package

FAMILIES = (
    Family("fxemoji", "Apache-2.0", Package("npm", "@iconify-json/fxemoji", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef")),
    Family("emojione", "CC-BY-4.0", Package("npm", "@iconify-json/emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e")),
    Family("emojione-monotone", "CC-BY-4.0", Package("npm", "@iconify-json/emojione-monotone", "1.2.1", "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e")),
    Family("fluent-emoji-high-contrast", "MIT", Package("npm", "@iconify-json/fluent-emoji-high-contrast", "1.2.6", "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0")),
    Family("streamline-emojis", "CC-BY-4.0", Package("npm", "@iconify-json/streamline-emojis", "1.2.4", "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc")),
)  # fmt: skip
INK = "#222222"  # of drawings that leave their colour to the page

SOURCE = Source(
    name="icons",
    what="emoji drawn in five further styles",
    packages=(*(family.package for family in FAMILIES), *emoji.NAMES.values(), emoji.GROUPS),
    licence="by drawing: FxEmoji Apache-2.0, EmojiOne CC BY 4.0, Fluent Emoji MIT, Streamline Emojis CC BY 4.0; names Unicode-3.0",
    attribution=(
        "FxEmoji by Mozilla; EmojiOne (2.x) by EmojiOne, CC BY 4.0; Fluent Emoji by Microsoft; Streamline Emojis by "
        "Streamline, CC BY 4.0; names from Unicode CLDR; groups from Emojibase"
    ),
    public="https://www.npmjs.com/package/@iconify-json/fxemoji and the npm packages listed beside it",
    size=60,
)


def letters(name: str) -> str:
    """A name's letters and digits alone, in lower case: `aerialtramway`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def entries(folder: Path) -> Iterator[Entry]:
    """Drawings with a name that CLDR knows, on transparent ground. Raises as `emoji.entries` does."""
    render = emoji._renderer()
    named, groups = emoji._names_by_code(folder), emoji._groups(folder)
    by_letters: dict[str, str] = {}
    for code in sorted(named, key=len, reverse=True):  # the shortest code of a name counts
        if "en" in named[code].names and emoji.tone_of(code) == 0:
            by_letters[letters(named[code].names["en"])] = code
    for family in FAMILIES:
        icons = emoji.read_icons(folder, family)
        for name in sorted(icons["icons"]):
            code = by_letters.get(letters(name)) or by_letters.get(letters(name.removesuffix("-face")), "")
            if not code:
                yield left_out(emoji.NO_CODE, f"{family.style} {name}")
                continue
            base = emoji.base_of(code)
            category, subcategory = groups.get(code) or groups.get(base, ("", ""))
            facts = {
                "style": family.style,
                "licence": family.licence,
                "code": code,
                "base": base,
                "tone": 0,
                "gender": emoji.gender_of(code),
                "category": category,
                "subcategory": subcategory,
                "keywords": named[code].keywords,
            }
            drawing = emoji._picture(
                emoji.svg_of(icons, name).replace("currentColor", INK), f"{family.style} {name}", render
            )
            yield Entry("drawing", base, {"picture": drawing}, named[code].names, facts)
