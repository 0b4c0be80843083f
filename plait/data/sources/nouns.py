"""KTuberling: names of things, such as parts of a face and toppings of a pizza, spoken in over twenty languages.

`LANGUAGE.soundtheme` lists `<sound name="egypt_bridge" file="de/egypt_bridge.ogg"/>` (https://apps.kde.org/ktuberling/). The
name is English in every language, with the game's name before it; the spoken words are not written anywhere. So `texts`
has the English name of the thing, whatever `facts["language"]` is spoken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from plait.data.sources import Entry, Source, left_out
from plait.data.sources.fetch import Package
from plait.data.sources.letters import TWICE, parsed
from plait.errors import DataError

PACKAGE = Package(
    "apt", "ktuberling-data", "4:22.12.3-1", "fba44c875bfa31ea488dadd9263e87a4dcaea0bd47d28817f6c0dc6d2af970ed"
)
SOURCE = Source(
    name="nouns",
    what="names of things spoken in over twenty languages, with their English meaning",
    packages=(PACKAGE,),
    licence="GPL-2.0-or-later",
    attribution="KTuberling, by Éric Bischoff and the contributors of KDE, https://apps.kde.org/ktuberling/",
    public="https://packages.debian.org/bookworm/ktuberling-data",
    size=66,
    share_alike=True,
)

GAME = re.compile(r"^(butterflies|egypt|moon|pizzeria|robot_workshop|tv|xmas)_|^tux-")
MEANT = {  # where the rest of the name is not what the thing is called
    "bow": "bow tie",
    "egypt_palmtree": "palm tree",
    "egypt_sphynx": "sphinx",
    "moon_fallingstar": "falling star",
    "moon_moonwalker": "moon rover",
    "pizzeria_brocolli": "broccoli",
    "spectacles": "glasses",
    "tux-dowe": "dove",
    "tux-fly": "flying dove",
    "tv_breakdown_lorry": "tow truck",
    "tv_fireengine": "fire engine",
    "tv_lorry_tractor": "tractor unit",
    "tv_tipper": "tipper truck",
    "tv_volley_net": "volleyball net",
    "xmas_ball": "Christmas ball",
    "xmas_tree": "Christmas tree",
}
# what characters of a game are called or do, and one of several kinds of a thing, which the name only counts
UNNAMED = re.compile(
    r".*-tux|xmas_tux|tuberling|tux-(angry|huh|idea|laugh|letter-love|love|shoot|sick|stare|wanted|what|wow|zzz)|.*\d"
)

# reasons to leave out, besides TWICE
NO_FILE = "a name without a recording"
NO_NAME = "a recording that no list names"
NO_THING = "a character, an exclamation or a numbered kind: the name does not say what is spoken"


def _noun(name: str) -> str:
    """The English name of a thing."""
    return MEANT.get(name) or GAME.sub("", name).replace("_", " ")


def entries(folder: Path) -> Iterator[Entry]:
    """Recordings language by language, without copies (the Serbian ones occur four times). Raises DataError for damaged data."""
    root = folder / PACKAGE.folder / "usr" / "share" / "ktuberling" / "sounds"
    lists = sorted(root.glob("*.soundtheme"))
    if not lists:
        raise DataError(f"{root} holds no LANGUAGE.soundtheme; delete {PACKAGE.folder} and fetch it again")
    listed, seen = set(), set()
    for path in lists:
        language = path.stem.partition("@")[0]
        for sound in parsed(path).iter("sound"):
            name, file = sound.get("name", ""), sound.get("file", "")
            if not (root / file).is_file():
                yield left_out(NO_FILE, f"{path.stem} {name}")
                continue
            listed.add(file)
            content = sha256((root / file).read_bytes()).digest()
            if content in seen or UNNAMED.fullmatch(name):
                yield left_out(TWICE if content in seen else NO_THING, f"{path.stem} {name}")
                continue
            seen.add(content)
            noun = _noun(name)
            yield Entry("speech", noun.lower(), {"speech": root / file}, {"en": noun}, {"language": language})
    for path in sorted(root.glob("*/*")):
        if (file := path.relative_to(root).as_posix()) not in listed:
            yield left_out(NO_NAME, file)
