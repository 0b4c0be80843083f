"""Small talk and trivia in 28 languages: utterances and replies. Written by volunteers for a chat bot, often in jest.

The wheel of `chatterbot-corpus` has a YAML file a language and topic (https://github.com/gunthercox/chatterbot-corpus):
`conversations` is a list of lists of lines. In some topics the lines of a list are turns; in the others all lines but the
first are replies to the first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from plait.data.sources import Entry, Source, clean, left_out
from plait.data.sources.fetch import Package
from plait.errors import DataError

PACKAGE = Package(
    "pip", "chatterbot-corpus", "1.3.3", "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154"
)

SOURCE = Source(
    name="conversations",
    what="small talk and trivia in 28 languages",
    packages=(PACKAGE,),
    licence="BSD-3-Clause",
    attribution="ChatterBot Corpus by Gunther Cox and contributors",
    public="https://pypi.org/project/chatterbot-corpus/",
    size=2,
)

LANGUAGES = {
    "bengali": "bn", "chinese": "zh", "dutch": "nl", "english": "en", "french": "fr", "german": "de", "hebrew": "he",
    "hindi": "hi", "hinglish": "hi-Latn", "indonesian": "id", "italian": "it", "japanese": "ja", "korean": "ko",
    "marathi": "mr", "oriya": "or", "persian": "fa", "portuguese": "pt", "russian": "ru", "spanish": "es", "swedish": "sv",
    "tamil": "ta", "telugu": "te", "thai": "th", "traditionalchinese": "zh-Hant", "turkish": "tr", "ukrainian": "uk",
    "urdu": "ur", "yoruba": "yo",
}  # fmt: skip
# Names of files that differ from what others call the same topic.
TOPICS = {
    "compliment": "compliments", "coversations": "conversations", "dinero": "money", "emociones": "emotion", "emotions": "emotion",
    "greeting": "greetings", "history_brasil": "history", "ia": "ai", "linguistic_knowledge": "language",
    "origen": "botprofile", "perfilbot": "botprofile", "profile": "botprofile", "psicologia": "psychology",
    "sport": "sports", "tech_support": "computers",
}  # fmt: skip
TURNS = frozenset({"conversations", "games", "health", "sports", "suggestions"})  # topics whose lines take turns

CHARACTERS = 200
# What is left out, and why.
SHAPELESS = "not a list of two lines or more"
FOREIGN = "a file in another language than its folder's"
BOT = "says which bot is speaking"
DIGITS = "no words, or digits alone"
LONG = "longer than 200 characters"
LINK = "an address in the web"
CODE = "program code"
ECHO = "an answer that repeats the question"
AGAIN = "said before"

MISLAID = frozenset({"swedish/conversations"})
_LETTER = re.compile(r"[^\W\d_]")
_LINK = re.compile(r"https?:|\bwww\.|\w@\w")
_BOT = re.compile(
    r"chatterbot|\b(?:that's|is) my name\b|\bmio nome\b|\bmi nombre\b|\bmitt namn\b|\bnama ?ku\b|我的名字|моє ім'я",
    re.I,
)


def _key(question: str) -> str:
    """A question without case and punctuation. Vowel signs of Indic scripts, which are no letters, stay."""
    bare = "".join(sign for sign in question.casefold() if not unicodedata.category(sign).startswith("P"))
    return " ".join(bare.split())


def _files(folder: Path) -> Iterator[tuple[str, str, list[Any]]]:
    """Folder, name and conversations of every file. Raises DataError."""
    paths = sorted(folder.glob("*/*.yml"))
    if not paths:
        raise DataError(f"{folder} has no LANGUAGE/TOPIC.yml; expected the corpus: fetch {PACKAGE.name} again")
    for path in paths:
        try:
            conversations = list(yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"])
        except (ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            raise DataError(
                f"{path} is damaged ({error}); expected YAML with `conversations`: fetch {PACKAGE.name} again"
            ) from error
        yield path.parent.name, path.stem, conversations


def _exchanges(lines: list[str], topic: str) -> Iterator[tuple[str, str]]:
    utterances = [clean(line) for line in lines]
    asked = utterances if topic in TURNS else [utterances[0]] * len(utterances)
    return zip(asked, utterances[1:], strict=False)


def _reason(question: str, answer: str, topic: str) -> str:
    """The reason to leave an exchange out; empty for a good one."""
    both = f"{question} {answer}"
    if not (_LETTER.search(question) and _LETTER.search(answer)):
        return DIGITS
    if "```" in both:
        return CODE
    if max(len(question), len(answer)) > CHARACTERS:
        return LONG
    if _LINK.search(both):
        return LINK
    if topic == "botprofile" or _BOT.search(both):
        return BOT
    return ECHO if _key(question) == _key(answer) and topic != "greetings" else ""


def entries(folder: Path) -> Iterator[Entry]:
    """Questions with one answer each. Raises DataError for damaged files."""
    seen = set()
    for name, stem, conversations in _files(folder / PACKAGE.folder / "chatterbot_corpus" / "data"):
        if name not in LANGUAGES:
            raise DataError(f"{PACKAGE.name} has a folder {name}; expected one of {', '.join(LANGUAGES)}")
        if f"{name}/{stem}" in MISLAID:
            yield left_out(FOREIGN, f"{name}/{stem}")
            continue
        language, topic = LANGUAGES[name], TOPICS.get(stem.lower(), stem.lower())
        for lines in conversations:
            if not isinstance(lines, list) or len(lines) < 2 or not all(isinstance(line, str) for line in lines):
                yield left_out(SHAPELESS, f"{name}/{stem}: {str(lines)[:60]}")
                continue
            for question, answer in _exchanges(lines, topic):
                reason = _reason(question, answer, topic)
                if not reason and (language, question, answer) in seen:
                    reason = AGAIN
                if reason:
                    yield left_out(reason, f"{name}/{stem}: {question[:60]}")
                    continue
                seen.add((language, question, answer))
                facts = {"question": question, "answer": answer, "topic": topic, "language": language}
                yield Entry("exchange", _key(question) or question, facts=facts)
