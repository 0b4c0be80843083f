"""KLettres: names of letters, syllables and short words, spoken in over twenty languages.

`LANGUAGE/sounds.xml` lists `<sound name="A" file="LANGUAGE/alpha/a.ogg"/>` under `<alphabet>` and `<syllables>`
(https://apps.kde.org/klettres/). Some clips begin and end with seconds of silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from plait.data.sources import Entry, Source, clean, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

PACKAGE = Package(
    "apt", "klettres-data", "4:22.12.3-1", "1186d257a19e84230856baea0b0b1ded8be9195080fcdb2588970b5cd937f5a8"
)
SOURCE = Source(
    name="letters",
    what="letters and syllables read aloud in over twenty languages",
    packages=(PACKAGE,),
    licence="GPL-2.0-or-later",
    attribution="KLettres, by Anne-Marie Mahfouf and the contributors of KDE, https://apps.kde.org/klettres/",
    public="https://packages.debian.org/bookworm/klettres-data",
    size=53,
    share_alike=True,
)

KINDS = {"alphabet": "letter", "syllables": "syllable"}

# reasons to leave out
NO_FILE = "a letter or syllable without a recording"
NO_NAME = "a recording that no list names"
TWICE = "a recording that was listed before"


def parsed(path: Path) -> ElementTree.Element:
    """The root of an XML file. Raises DataError."""
    try:
        return ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{path} is no XML ({error}); delete its package and fetch it again") from error


def entries(folder: Path) -> Iterator[Entry]:
    """Letters in capitals and syllables in small letters, language by language. Raises DataError for damaged data."""
    root = folder / PACKAGE.folder / "usr" / "share" / "klettres"
    lists = sorted(root.glob("*/sounds.xml"))
    if not lists:
        raise DataError(f"{root} holds no LANGUAGE/sounds.xml; delete {PACKAGE.folder} and fetch it again")
    seen = set()
    for path in lists:
        language = path.parent.name.replace("_", "-")
        for group in parsed(path).iter():
            for sound in group.findall("sound") if group.tag in KINDS else ():
                file = sound.get("file", "")
                clip, name = root / file, clean(sound.get("name", ""))
                text = name if group.tag == "alphabet" else name.lower()
                if not clip.is_file() or file in seen:
                    yield left_out(TWICE if file in seen else NO_FILE, f"{file} {text}")
                    continue
                seen.add(file)
                facts = {"language": language, "category": KINDS[group.tag]}
                yield Entry("speech", f"{language}/{text.lower()}", {"speech": clip}, {language: text}, facts)
    for clip in sorted(root.rglob("*.ogg")):
        if (file := clip.relative_to(root).as_posix()) not in seen:
            yield left_out(NO_NAME, file)
