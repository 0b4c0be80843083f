"""Words that are said: a text in pieces, each of which a model can say in one breath (docs/adr/0036-letters-before-sound.md).

A voice says what it is told. So an answer that is to be said is written first, unless its question says what to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plait import registry
from plait.contract import WORDS, Message, Part
from plait.infer.engine import Engine
from plait.infer.events import Answer, Reason, Usage
from plait.infer.numerals import TITLES, in_words
from plait.infer.request import SAYING, Request
from plait.model.multimodal import MultimodalTransformer
from plait.runtime.words import plain_words

SAY = "Say this for me: {text}"  # as the task `say` asks
LONGEST = 80  # characters of a piece, where it can be cut: some six seconds
SOON = 16  # characters of the first piece at least: "Dr." is no sentence
NO_ENDS = "".join(rf"(?<!\b(?i:{re.escape(word)}))" for word in (*TITLES, "e.g", "i.e", "vs"))  # before a point
ENDS = re.compile(NO_ENDS + r"(?<![.!?…])[.!?…]+[\"')\]”’]*\s+|[。！？]+|\n+")  # of sentences
COMMAS = re.compile(r"[,;:)–—]\s+|[，；：、]")
BLANKS = re.compile(r"\s+")
LONGEST_TOLD = 4096  # characters; more is a text to talk about
_HOW = r"(?:this|that|it|the following|these words|the words?|the sentence|aloud|out loud|out|loudly|for me|to me|after me|please)"
TOLD = re.compile(  # what a question wants said as it is: after a colon, or in quotation marks
    rf"\W*(?:please,? |(?:can|could|will|would) you (?:please )?)*(?:say|read|speak|pronounce|repeat|let me hear)(?:,? {_HOW})*\s*"
    rf"(?::?\s*[\"“](?P<quoted>[^\"“”]+)[\"”](?:,? {_HOW})*\W*|:\s+(?P<after>\S.*))",
    re.IGNORECASE | re.DOTALL,
)


def says_letters(model: MultimodalTransformer, kind: str) -> bool:
    """Whether a model can be told what to say in the modality `kind`."""
    modality = model.vocabulary.modalities.get(kind)
    return modality is not None and registry.tells(modality) and f"flows.{kind}" not in model.unlearned


def saying(model: MultimodalTransformer, request: Request, kind: str, text: str) -> Request:
    """The request to say a text in the modality `kind`, of which a model `says_letters`, with the wishes of another one but for
    what bounds its words."""
    options: Mapping[str, Any] = {**request.options, kind: {**request.options.get(kind, {}), SAYING: text}}
    question = Message("user", (Part(WORDS, SAY.format(text=text)),))
    return replace(
        request, messages=(question,), to=kind, options=options, stop=(), choices=(), grammar="", logprobs=None, repeats=0,
        max_tokens=registry.longest(model.vocabulary.modalities[kind]),
    )  # fmt: skip


def told(request: Request, kind: str) -> str:
    """What the modality `kind` is to say in the answer to a request, where that is known before it is written: the caller's wish, or what
    the question says of itself; else nothing."""
    if text := request.options.get(kind, {}).get(SAYING):
        return str(text)
    parts = request.messages[-1].parts
    question = str(parts[0].value).strip() if len(parts) == 1 and parts[0].type == WORDS else ""
    match = TOLD.fullmatch(question) if len(question) <= LONGEST_TOLD else None
    text = (match["quoted"] or match["after"]).strip() if match else ""
    return text if plain_words(text) else ""


def words_of(answer: Answer) -> str:
    """The words of an answer."""
    return " ".join(str(part.value) for part in answer.message.parts if part.type == WORDS)


def as_read(model: MultimodalTransformer, messages: Sequence[Message]) -> tuple[Message, ...]:
    """A conversation without the sound of earlier answers whose words stand beside it."""
    return tuple(
        replace(message, parts=tuple(part for part in message.parts if not says_letters(model, part.type)))
        if message.role == "assistant" and any(part.type == WORDS for part in message.parts)
        else message
        for message in messages
    )


@dataclass
class Saying:
    """A request on its way to an answer that may be said: what the model `begun` where it chooses, the modality `kind` that it is said in,
    the `text` that is said, and the answer that was `written` for that."""

    request: Request
    kind: str | None
    begun: Answer | None = None
    text: str = ""
    written: Answer | None = None

    def begin(self, answer: Answer) -> None:
        """Take what the model chose to answer."""
        self.begun, self.kind, self.text = answer, answer.to_say or None, words_of(answer)

    def finished(self, engine: Engine, said: Sequence[Answer]) -> Answer:
        """The answer with what was said."""
        assert self.kind is not None
        before, known = (self.begun.message.parts, words_of(self.begun)) if self.begun else ((), "")
        sound, words = sound_of(said, self.kind), () if self.text == known else (Part(WORDS, self.text),)
        parts = (*sound, *words) if self.request.to is not None else (*before, *words, *sound)
        written = [answer for answer in (self.begun, self.written) if answer is not None]
        usage = None if written else Usage(dict(engine.asked_tokens(self.request)))
        return merged([*written, *said], parts, usage)


def answered(engine: Engine, request: Request, longest: int | None = None) -> Answer:
    """The answer to one request, as `all_answered` gives it."""
    return all_answered(engine, [request], longest)[0]


def all_answered(engine: Engine, requests: Sequence[Request], longest: int | None = None) -> list[Answer]:
    """The answers to many requests; `longest` as for `Engine.generate`.

    One that is to be said, because the caller or the question wishes it or the model begins to, is written first, unless it is known
    what to say; all are written together, and then said together. Its parts are the sound and its words; where the model
    chooses, what it wrote or drew before, the words and the sound.
    """
    model = engine.model
    read = [replace(request, messages=as_read(model, request.messages)) for request in requests]
    sayings = [Saying(request, wished(model, request)) for request in read]

    def generated(chosen: Sequence[Saying], to: Callable[[Saying], Request]) -> Iterator[tuple[Saying, Answer]]:
        answers = engine.generate([to(each) for each in chosen], longest=longest) if chosen else ()
        return zip(chosen, answers, strict=True)

    first = [each for each in sayings if each.kind is None or not says_letters(model, each.kind)]
    for each, answer in generated(first, lambda each: each.request):
        each.begin(answer)
    aloud = [each for each in sayings if each.kind is not None and says_letters(model, each.kind)]
    for each in aloud:
        each.text = told(each.request, str(each.kind)) or each.text
    for each, answer in generated(
        [each for each in aloud if not each.text], lambda each: replace(each.request, to=WORDS)
    ):
        each.written, each.text = answer, words_of(answer)
    pieces = [
        (each, saying(model, each.request, str(each.kind), piece)) for each in aloud for piece in pieces_of(each.text)
    ]
    said: dict[int, list[Answer]] = {}
    spoken = engine.generate([request for _, request in pieces]) if pieces else ()
    for (each, _), answer in zip(pieces, spoken, strict=True):
        said.setdefault(id(each), []).append(answer)
    ends = {id(each): each.finished(engine, said.get(id(each), [])) for each in aloud}
    return [ends.get(id(each)) or each.begun or Answer(Message("assistant", ()), []) for each in sayings]


def wished(model: MultimodalTransformer, request: Request) -> str | None:
    """The modality that the answer to a request is wished in; None where the model chooses."""
    if request.to is not None:
        return request.to
    voices = (kind for kind in model.vocabulary.modalities if says_letters(model, kind))
    return next((kind for kind in voices if told(request, kind)), None)


def sound_of(said: Sequence[Answer], kind: str) -> tuple[Part, ...]:
    """What several answers say one after the other in the modality `kind`, as one part; none where nothing is said."""
    parts = [part for answer in said for part in answer.message.parts if part.type == kind]
    streams = registry.streams(kind)
    return (streams.join(parts),) if streams and parts else tuple(parts)


def merged(
    answers: Sequence[Answer], parts: Sequence[Part], usage: Usage | None = None, is_cut: bool = False
) -> Answer:
    """Several answers as one with these parts; it fails with the first that failed. What was asked is told by the `usage`, or by that of
    the first answer. `is_cut`: more was to follow."""
    first = answers[0] if answers else Answer(Message("assistant", ()), [])
    reasons: list[Reason] = [answer.reason for answer in answers] + (["length"] if is_cut else [])
    tokens = sum((Counter(answer.usage.answered) for answer in answers), Counter[str]())
    return replace(
        first,
        message=Message("assistant", tuple(parts)),
        segments=[segment for answer in answers for segment in answer.segments],
        reason=next((reason for reason in ("error", "cancelled", "length") if reason in reasons), "stop"),
        usage=replace(usage or first.usage, answered=dict(tokens)),
        error=next((answer.error for answer in answers if answer.error is not None), None),
        logprobs=tuple(token for answer in answers for token in answer.logprobs),
        to_say="",
    )


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
            [match.end() for match in ends.finditer(text, 0, LONGEST + 1) if LONGEST // 4 <= match.end() <= LONGEST]
            for ends in (COMMAS, BLANKS)
        ]
        cut = next((places[-1] for places in cuts if places), LONGEST)
        if plain_words(text[:cut]):
            yield text[:cut].strip()
        text = text[cut:].strip()
    if plain_words(text):
        yield text
