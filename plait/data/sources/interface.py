"""Short phrases of user interfaces in English and up to 97 other locales: Django's translations.

The wheel has a GNU gettext file an application and locale, `locale/LOCALE/LC_MESSAGES/django.po`
(https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plait.data.sources import Entry, Source, clean, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

PACKAGE = Package("pip", "Django", "5.2.19", "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00")

SOURCE = Source(
    name="interface",
    what="phrases of user interfaces in nearly a hundred languages",
    packages=(PACKAGE,),
    licence="BSD-3-Clause",
    attribution="Django Software Foundation and Django's translators",
    public="https://pypi.org/project/Django/",
    size=41,
)

# What is left out, and why.
UNTRANSLATED = "not translated"
PLURAL = "has plural forms"
FUZZY = "a translation marked as uncertain"
FORMAT = "a format without words"
MARKUP = "holds markup"
LACKING = "a translation with other placeholders than the English"
OTHER = "a further translation of the same phrase"

_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FIELD = re.compile(r"(msgctxt|msgid_plural|msgid|msgstr(?:\[\d+\])?)\s+(?=\")")
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z%]|\{\w*\}")
_LETTER = re.compile(r"[^\W\d_]")
_MARKUP = re.compile(r"</?[a-z][^>]*>|&[a-z]+;")
ORDINALS = frozenset({"th", "st", "nd", "rd"})


@dataclass
class Phrase:
    """An English phrase, the application where it occurs first, and its translations by language."""

    application: str
    texts: dict[str, str] = field(default_factory=dict)


def _unquoted(line: str) -> str:
    match = _STRING.search(line)
    if not match:
        raise ValueError(f"{line.strip()[:60]!r} is no string in quotation marks")
    return _ESCAPED.sub(lambda sign: _ESCAPES.get(sign[1], sign[1]), match[1])


def messages(text: str) -> Iterator[dict[str, str]]:
    """The messages of a .po file, by keyword; `flags` is what follows `#,`. Skips obsolete ones (`#~`).

    Raises ValueError.
    """
    message: dict[str, str] = {}
    keyword = ""
    for line in [*text.split("\n"), ""]:
        if line.startswith("#,"):
            message["flags"] = message.get("flags", "") + line[2:]
        elif match := _FIELD.match(line):
            keyword = match[1]
            message[keyword] = _unquoted(line)
        elif line.startswith('"'):
            message[keyword] += _unquoted(line)
        elif not line.strip():
            if "msgid" in message:
                yield message
            message = {}
        elif not line.startswith("#"):
            raise ValueError(f"{line[:60]!r} is no line of a message")


def _reason(message: dict[str, str]) -> str:
    """The reason to leave a message out; empty for a good one."""
    english, translated = message["msgid"], message.get("msgstr", "")
    bare = _PLACEHOLDER.sub("", english).strip()
    if "msgid_plural" in message:
        return PLURAL
    if not translated.strip():
        return UNTRANSLATED
    if "fuzzy" in message.get("flags", ""):
        return FUZZY
    if len(_LETTER.findall(bare)) < 2 or bare in ORDINALS:
        return FORMAT
    if _MARKUP.search(english) or _MARKUP.search(translated):
        return MARKUP
    same = Counter(_PLACEHOLDER.findall(english)) == Counter(_PLACEHOLDER.findall(translated))
    return "" if same else LACKING


def entries(folder: Path) -> Iterator[Entry]:
    """An entry an English phrase and context (May: the month, or short for it). Reads all files first.

    Raises DataError for damaged files.
    """
    django = folder / PACKAGE.folder / "django"
    paths = sorted(django.glob("**/locale/*/LC_MESSAGES/*.po"))
    if not paths:
        raise DataError(
            f"{django} has no locale/LOCALE/LC_MESSAGES/*.po; expected Django's: fetch {PACKAGE.name} again"
        )
    phrases: dict[tuple[str, str], Phrase] = {}
    for path in paths:
        locale = path.parts[-3]
        application = path.parts[-5]
        try:
            translations = [message for message in messages(path.read_text(encoding="utf-8")) if message["msgid"]]
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} is damaged ({error}); expected a .po file: fetch {PACKAGE.name} again") from error
        for message in translations if locale != "en" else ():  # without translations
            english, translated = clean(message["msgid"]), clean(message.get("msgstr", ""))
            reason = _reason(message)
            if not reason:
                phrase = phrases.setdefault((english, message.get("msgctxt", "")), Phrase(application, {"en": english}))
                if phrase.texts.setdefault(locale.replace("_", "-"), translated) != translated:
                    reason = OTHER
            if reason:
                yield left_out(reason, f"{locale}: {english[:60]}")
    for (english, context), phrase in sorted(phrases.items()):
        facts = {"topic": phrase.application, "context": context}
        yield Entry("pair", english.casefold(), texts=dict(sorted(phrase.texts.items())), facts=facts)
