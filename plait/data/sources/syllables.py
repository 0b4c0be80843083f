"""Mandarin syllables of two speakers, from gcin's voice data.

`ogg/SYLLABLE/SPEAKER.ogg`, the syllable in Zhuyin with a digit for its tone: none for the first, 2 to 4, 1 for the neutral
tone (https://packages.debian.org/bookworm/gcin-voice). Each speaker has a licence of its own, in `facts["licence"]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plait.data.sources import Entry, Source
from plait.data.sources.fetch import Package
from plait.errors import DataError

PACKAGE = Package(
    "apt", "gcin-voice", "0~20170223-3", "6a0353f0294d06f7bd901bada3d5d9eec63b66c2ec029f92da3124d93d45de70"
)
LICENCES = {"3": "GPL-3.0-only OR LGPL-3.0-only", "5": "CC-BY-3.0"}  # by speaker
SOURCE = Source(
    name="syllables",
    what="Mandarin syllables in Zhuyin, spoken by two",
    packages=(PACKAGE,),
    licence="by speaker: 3 GPL-3.0 or LGPL-3.0, 5 CC BY 3.0",
    attribution="gcin-voice: speaker 3 by Edward Der-Hua Liu; speaker 5 by ChionMeilin, with the voice of Chu Lo, CC BY 3.0",
    public="https://packages.debian.org/bookworm/gcin-voice",
    size=24,
    share_alike=True,
)

TONES = {"2": "ˊ", "3": "ˇ", "4": "ˋ"}  # written after the syllable


def zhuyin(name: str) -> str:
    """The spelling of a syllable from its folder's name; the dot of the neutral tone is written first."""
    tone = name[-1:]
    if tone == "1":
        return f"˙{name[:-1]}"
    return name[:-1] + TONES[tone] if tone in TONES else name


def entries(folder: Path) -> Iterator[Entry]:
    """Every syllable of every speaker. Raises DataError where there are none."""
    root = folder / PACKAGE.folder / "usr" / "share" / "gcin-voice" / "ogg"
    recordings = sorted(root.glob("*/*.ogg"))
    if not recordings:
        raise DataError(f"{root} holds no SYLLABLE/SPEAKER.ogg; delete {PACKAGE.folder} and fetch it again")
    for path in recordings:
        syllable, speaker = zhuyin(path.parent.name), path.stem
        facts = {"speaker": f"syllables-{speaker}", "language": "zh", "licence": LICENCES.get(speaker, SOURCE.licence)}
        yield Entry("speech", syllable, {"speech": path}, {"zh-Bopo": syllable}, facts)
