"""Words and their definitions: the synsets of WordNet 3.0, without the examples in their glosses.

A line of `data.noun`, `data.verb`, `data.adj` or `data.adv` is a synset: offset, file, type, hexadecimal count of lemmas,
lemmas and sense ids in turn, pointers, ` | `, gloss (https://wordnet.princeton.edu/documentation/wndb5wn).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from plait.data.sources import Entry, Source, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

PACKAGE = Package("apt", "wordnet-base", "1:3.0-37", "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752")

SOURCE = Source(
    name="glosses",
    what="English words and their meanings",
    packages=(PACKAGE,),
    licence="WordNet 3.0",
    attribution="WordNet 3.0, copyright 2006 by Princeton University",
    public="https://packages.debian.org/stable/wordnet-base",
    size=28,
)

PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
# What is left out, and why.
BARE = "examples without a gloss"
RUDE = "a word that its gloss calls offensive"

_UP_TO_EXAMPLES = re.compile(r'(?:[^"(]|\([^)]*\)?)*')  # quotation marks in brackets belong to the gloss
_LEADING_TO_THEM = re.compile(r"(?:[;:,\s]|\b(?:as in|e\.g\.))+$")
_BRACKETS = re.compile(r"\([^)]*\)")
_POSITION = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand
_RUDE = re.compile(
    r"\bethnic slur\b|\b(?:considered|regarded as) offensive\b|"
    r"\b(?:offensive|disparaging|derogatory|obscene|vulgar)\)?(?: \w+){0,2} (?:terms?|names?|slang|words)\b"
)


def _gloss(written: str) -> str:
    """A gloss up to its examples, which a semicolon, a colon, a comma or nothing precedes."""
    match = _UP_TO_EXAMPLES.match(written)
    text = _LEADING_TO_THEM.sub("", match[0] if match else "")
    return " ".join(unicodedata.normalize("NFC", text.replace("`", "'")).split())


def _synset(line: str) -> tuple[list[str], str]:
    """Lemmas and gloss of a line. Raises ValueError for a line that is no synset."""
    head, bar, gloss = line.partition(" | ")
    fields = head.split()
    if not bar or len(fields) < 6:
        raise ValueError("no gloss")
    written = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    return [_POSITION.sub("", lemma).replace("_", " ") for lemma in written], _gloss(gloss)


def entries(folder: Path) -> Iterator[Entry]:
    """An entry a synset. Raises DataError for damaged files."""
    for name, part in PARTS.items():
        path = folder / PACKAGE.folder / "usr" / "share" / "wordnet" / f"data.{name}"
        if not path.is_file():
            raise DataError(f"{path} is not there; expected WordNet's database: fetch {PACKAGE.name} again")
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.startswith("  "):  # the licence
                    continue
                try:
                    lemmas, gloss = _synset(line)
                except ValueError as error:
                    raise DataError(f"{path}:{number} is no synset ({error}); fetch {PACKAGE.name} again") from error
                word = lemmas[0]
                reason = RUDE if _RUDE.search(gloss) else "" if _BRACKETS.sub("", gloss).strip() else BARE
                if reason:
                    yield left_out(reason, word)
                    continue
                facts = {"word": word, "lemmas": lemmas, "part_of_speech": part}
                yield Entry("gloss", word.casefold(), texts={"en": gloss}, facts=facts)
