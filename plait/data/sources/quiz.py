"""Questions and answers of BSD's game `quiz`: capitals, elements, presidents, quotations, collective nouns, Morse code...

Lines of `index` and of the data files are columns between colons; a backslash continues a line at its end, and quotes a sign
elsewhere. A column is a pattern: `a|b` are alternatives, `{a}` is optional, `[a|b]` is a group (man page quiz(6), "Index and
Data File Syntax"). Accents of a teletype, `'` backspace `e`, become letters. Much of it dates from 1993.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from plait.data.sources import Entry, Source, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

# of amd64: the game's program makes the package one of each architecture
PACKAGE = Package("apt", "bsdgames", "2.17-29+b1", "cc92de974a1f66623a05ac0aed6dc790f682e5aac5205f0210294744d1532d10")

SOURCE = Source(
    name="quiz",
    what="the questions and answers of BSD's quiz",
    packages=(PACKAGE,),
    licence="BSD-3-Clause",
    attribution="BSD games; The Regents of the University of California, Jim R. Oldroyd and Keith Gabryelski",
    public="https://packages.debian.org/stable/bsdgames",
    size=3,
)

PLAIN = frozenset({"answer", "trek"})  # titles of columns that ask nothing: the question is whole without them
# What is left out, and why.
BLANK = "a question or an answer that is empty"
AGAIN = "asked and answered before"

_COLON = re.compile(r"(?<!\\):")
_TELETYPE = {"'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303", '"': "\u0308", ",": "\u0327"}
_ACCENT = re.compile("([{0}])\b(.)|(.)\b([{0}])".format(re.escape("".join(_TELETYPE))))


def _accented(text: str) -> str:
    return _ACCENT.sub(lambda match: (match[2] or match[3]) + _TELETYPE[match[1] or match[4]], text)


def _read(pattern: str, at: int) -> tuple[list[str], int]:
    """The alternatives of a pattern from `at` up to a closing bracket, and the position behind it.

    Each is as long as possible: optional pieces are kept (but for remarks in round brackets), groups give their first option.
    """
    options = [""]
    while at < len(pattern):
        sign, at = pattern[at], at + 1
        if sign in "{[":
            inner, at = _read(pattern, at)
            if not (sign == "{" and inner[0].lstrip().startswith("(")):
                options[-1] += inner[0]
        elif sign in "}]":
            break
        elif sign == "|":
            options.append("")
        else:
            if sign == "\\" and at < len(pattern):
                sign, at = pattern[at], at + 1
            options[-1] += sign
    return options, at


def alternatives(pattern: str) -> list[str]:
    """Answers that a column accepts, the best first, each as long as possible: `{the }cat|dog` gives "the cat" and "dog"."""
    written, _ = _read(_accented(pattern), 0)
    cleaned = [" ".join(unicodedata.normalize("NFC", option).split()) for option in written]
    return list(dict.fromkeys(option for option in cleaned if option))


def _rows(path: Path) -> Iterator[list[str]]:
    """The columns of a file's lines as written. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); expected a file of quiz: fetch {PACKAGE.name} again"
        ) from error
    for line in text.replace("\\\n", "").splitlines():
        if line.strip():
            yield _COLON.split(line)


def entries(folder: Path) -> Iterator[Entry]:
    """First columns as questions; every other column is an answer to `TITLE: FIRST COLUMN`. Raises DataError for damaged files."""
    quiz = folder / PACKAGE.folder / "usr" / "share" / "games" / "bsdgames" / "quiz"
    seen = set()
    for listed, *columns in _rows(quiz / "index"):
        topic = Path(listed).name
        titles = [next(iter(alternatives(column)), "") for column in columns]
        for first, *others in _rows(quiz / topic):
            asked = next(iter(alternatives(first)), "")
            for title, column in zip(titles[1:], others, strict=False):
                answers = alternatives(column)
                question = asked if title in PLAIN else f"{title[:1].upper()}{title[1:]}: {asked}"
                reason = BLANK if not (asked and answers) else AGAIN if (question, answers[0]) in seen else ""
                if reason:
                    yield left_out(reason, f"{topic}: {first}")
                    continue
                seen.add((question, answers[0]))
                facts = {
                    "question": question,
                    "answer": answers[0],
                    "answers": answers,
                    "topic": topic,
                    "language": "en",
                }
                yield Entry("exchange", asked.casefold(), facts=facts)
