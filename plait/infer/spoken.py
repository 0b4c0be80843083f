"""Words that are said: a text in pieces, each of which a model can say in one breath (docs/adr/0036-letters-before-sound.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from plait import registry
from plait.contract import WORDS, Message, Part
from plait.infer.numerals import in_words
from plait.infer.request import Request
from plait.model.multimodal import MultimodalTransformer
from plait.runtime.words import plain_words

SAY = "Say this for me: {text}"  # as the task `say` asks
LONGEST = 80  # characters of a piece, where it can be cut: some six seconds
SOON = 16  # characters of the first piece at least: "Dr." is no sentence
ENDS = re.compile(r"[.!?…]+[\"')\]”’]*\s+|[。！？]+|\n+")  # of sentences
COMMAS = re.compile(r"[,;:)–—]\s+|[，；：、]")
BLANKS = re.compile(r"\s+")


def says_letters(model: MultimodalTransformer, kind: str) -> bool:
    """Whether a model can be told what to say in the modality `kind`."""
    modality = model.vocabulary.modalities.get(kind)
    return modality is not None and registry.tells(modality) and f"flows.{kind}" not in model.unlearned


def saying(model: MultimodalTransformer, request: Request, kind: str, text: str) -> Request:
    """The request to say a text in the modality `kind`, of which a model `says_letters`, with the wishes of another one but for
    what bounds its words."""
    options: Mapping[str, Any] = {**request.options, kind: {**request.options.get(kind, {}), "say": text}}
    question = Message("user", (Part(WORDS, SAY.format(text=text)),))
    return replace(
        request, messages=(question,), to=kind, options=options, stop=(), choices=(), grammar="", logprobs=None, repeats=0,
        max_tokens=registry.longest(model.vocabulary.modalities[kind]),
    )  # fmt: skip


class Pieces:
    """Cuts a text that comes bit by bit into pieces to say: sentences, short ones together and long ones at commas or between
    words; their numerals are words. The first piece may be short, so that it is said soon."""

    def __init__(self) -> None:
        self.text = ""
        self.whole = ""  # sentences that are not said yet
        self.is_first = True

    def add(self, text: str) -> Iterator[str]:
        """The pieces that are whole with more of the text."""
        self.text += text
        while match := ENDS.search(self.text):
            sentence, self.text = self.text[: match.end()], self.text[match.end() :]
            yield from self._joined(in_words(sentence).strip())

    def rest(self) -> Iterator[str]:
        """The pieces of what is left."""
        text, self.text = self.text, ""
        yield from self._joined(in_words(text).strip())
        text, self.whole = self.whole, ""
        yield from _short(text)

    def _joined(self, sentence: str) -> Iterator[str]:
        if len(self.whole) + len(sentence) >= LONGEST:
            yield from _short(self.whole)
            self.whole, self.is_first = "", False
        self.whole = f"{self.whole} {sentence}".strip()
        if len(self.whole) > LONGEST or (self.is_first and len(self.whole) >= SOON):
            yield from _short(self.whole)
            self.whole, self.is_first = "", False


def pieces_of(text: str) -> list[str]:
    """The pieces of a whole text."""
    pieces = Pieces()
    return [*pieces.add(text), *pieces.rest()]


def _short(text: str) -> Iterator[str]:
    """A sentence in pieces of at most LONGEST characters, without those that say nothing."""
    text = text.strip()
    while len(text) > LONGEST:
        cuts = [
            [match.end() for match in ends.finditer(text) if LONGEST // 4 <= match.end() <= LONGEST]
            for ends in (COMMAS, BLANKS)
        ]
        cut = next((places[-1] for places in cuts if places), LONGEST)
        if plain_words(text[:cut]):
            yield text[:cut].strip()
        text = text[cut:].strip()
    if plain_words(text):
        yield text
