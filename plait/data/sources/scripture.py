"""Verses of the Bible in English and Spanish: the World English Bible and the Reina-Valera of 1909.

Both are modules of the SWORD project, compressed by book (https://wiki.crosswire.org/File_Formats), with OSIS markup in every
verse. The Spanish has the spelling of 1909 (`á`, `fué`), and opens a chapter in capitals (`EN el principio`).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from plait.data.sources import Entry, Source, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError, MissingError

ENGLISH = Package(
    "apt", "sword-text-web", "426.0-1", "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1"
)
SPANISH = Package(
    "apt", "sword-text-sparv", "2.60-1", "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf"
)

SOURCE = Source(
    name="scripture",
    what="short verses of the Bible in English and Spanish",
    packages=(ENGLISH, SPANISH),
    licence="public domain",
    attribution="World English Bible and Reina-Valera 1909, as eBible.org and the CrossWire Bible Society publish them",
    public="https://packages.debian.org/stable/sword-text-web, https://packages.debian.org/stable/sword-text-sparv",
    size=8,
)

TEST = frozenset({"Ruth", "Jonah", "James"})
WORDS = 20
TWICE = 2.0
# What is left out, and why.
LONG = "longer than 20 words"
LONE = "a verse that only one of the two has"
SHIFTED = "a chapter whose verses the two number differently"
UNEVEN = "one side over twice as long as the other"

# The Spanish verses follow another numbering here than the English, and were put into the English one as they came.
RENUMBERED = frozenset(
    {
        ("Numbers", 13), ("Numbers", 30), ("I Samuel", 24), ("I Kings", 22), ("I Chronicles", 21), ("II Chronicles", 33),
        ("Job", 39), ("Job", 40), ("Hosea", 12), ("Jonah", 2), ("II Corinthians", 13),
    }
)  # fmt: skip

# Titles of psalms are part of the verse (the Spanish has them as plain words); headings, speakers and notes are not.
_ASIDE = re.compile(r"<(note|speaker)\b.*?</\1>|<title\b(?![^>]*canonical)[^>]*>.*?</title>", re.DOTALL)
_INLINE = re.compile(r"</?(?:w|q|seg|transChange|name|reference|hi)\b[^>]*>")  # may stand beside a comma
_TAG = re.compile(r"<[^>]*>")
_BEFORE_MARK = re.compile(r"\s+(?=[,.;:!?’”])")


def _plain(verse: str) -> str:
    """A verse without markup. pysword's own cleaning joins the words on both sides of a note."""
    text = _TAG.sub(" ", _INLINE.sub("", _ASIDE.sub(" ", verse)))
    text = unicodedata.normalize("NFC", html.unescape(text))
    return _BEFORE_MARK.sub("", " ".join(text.split()))


def _bible(folder: Path, package: Package) -> Any:
    """The only module of a package. Raises DataError, and MissingError without pysword."""
    try:
        from pysword.modules import SwordModules  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingError("to read SWORD modules: python -m pip install 'plait[texts]'") from error
    library = folder / package.folder / "usr" / "share" / "sword"
    try:
        shelf = SwordModules(str(library))
        (name,) = shelf.parse_modules()
        bible = shelf.get_bible_from_module(name)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{library} holds no SWORD module ({error}); expected one: fetch {package.name} again"
        ) from error
    # pysword unpacks the whole book anew for each of its verses
    bible._decompressed_text = lru_cache(maxsize=1)(bible._decompressed_text)
    return bible


def _books(folder: Path, package: Package) -> dict[str, list[list[str]]]:
    """Verses by book, chapter and number, empty for a missing one. Raises DataError and MissingError."""
    bible = _bible(folder, package)
    return {
        book.name: [
            [_plain(verse) for verse in bible.get_iter(book.name, number + 1, clean=False)]
            for number in range(book.num_chapters)
        ]
        for books in bible.get_structure().get_books().values()
        for book in books
    }


def _reason(chapter: tuple[str, int], english: str, spanish: str) -> str:
    """The reason to leave a verse out; empty for a good one."""
    if not (english and spanish):
        return LONE
    if max(len(english.split()), len(spanish.split())) > WORDS:
        return LONG
    if chapter in RENUMBERED:
        return SHIFTED
    return UNEVEN if max(len(english), len(spanish)) > TWICE * min(len(english), len(spanish)) else ""


def entries(folder: Path) -> Iterator[Entry]:
    """Verses of the books that both Bibles have, in the Spanish order. Raises DataError, MissingError without pysword."""
    english, spanish = _books(folder, ENGLISH), _books(folder, SPANISH)
    for book, chapters in spanish.items():
        for package, words in ((ENGLISH, english.get(book, [])), (SPANISH, chapters)):
            if not any(map(any, words)):  # pysword says nothing of damaged files
                raise DataError(
                    f"{package.name} has no verse of {book}; expected the whole Bible: fetch the package again"
                )
        for number, (ours, theirs) in enumerate(zip(english[book], chapters, strict=False), 1):
            for verse, (in_english, in_spanish) in enumerate(zip(ours, theirs, strict=False), 1):
                if not (in_english or in_spanish):
                    continue
                where = f"{number}:{verse}"
                if reason := _reason((book, number), in_english, in_spanish):
                    yield left_out(reason, f"{book} {where}")
                    continue
                texts, facts = {"en": in_english, "es": in_spanish}, {"book": book, "verse": where}
                yield Entry("pair", book, texts=texts, facts=facts, split="test" if book in TEST else "")
