"""One request as a coroutine: it yields what has to be computed and is sent the result.

    Feed(elements, legal)     -> an id among `legal`, drawn from the logits of the last token; nothing where legal is None
    Draw(noise, coordinates)  -> the clean tokens of a block, integrated from noise

The engine runs the steps of many requests in one batch; a request sees only its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plait import registry
from plait.contract import WORDS, Block, Modality, Part, Sample, Segment
from plait.data.row import Element, FlowBlock, Ids, Origin, Span
from plait.data.sequence import Encoder
from plait.data.vocabulary import GRAMMAR, NULL, Vocabulary
from plait.errors import ConfigError
from plait.infer.choices import Choices
from plait.infer.events import BlockBegun, BlockDone, Event, Reason, TextDelta, TokenChoice, Usage
from plait.infer.grammar import Grammar
from plait.infer.request import SAYING, Request

UNFINISHED = "\ufffd"  # what a decoder makes of the first bytes of a character
LOOP = 16  # tokens that an answer which goes round has repeated at least


@dataclass
class Feed:
    """Elements to append to the request's streams: first the conditional one, then, if given, the null one. An id is then
    chosen among `legal`, if there are any; where these stand in an order (`ordered`), the middle of what is likely rather than the
    likeliest."""

    elements: list[Element]
    null: list[Element] = field(default_factory=list)
    restart_null: bool = False  # the null stream begins anew with these elements
    legal: np.ndarray | None = None
    ordered: bool = False


@dataclass
class Draw:
    """A block to draw: `noise` [n, W], asked of both streams if `guided`, at `coordinates`, at `bare` ones of the stream that guidance
    leads away from. Its tokens are never kept."""

    modality: str
    noise: np.ndarray
    coordinates: np.ndarray
    bare: np.ndarray
    expert: int
    guided: bool
    part: int


Step = Feed | Draw
Steps = Generator[Step, Any, None]


def count_tokens(elements: list[Element], vocabulary: Vocabulary) -> Counter[str]:
    """Tokens by modality; marks and headers under `grammar`."""
    counts: Counter[str] = Counter()
    for element in elements:
        if isinstance(element, FlowBlock):
            counts[element.modality] += len(element)
            continue
        for index in element.ids:
            counts[vocabulary.owner(index)] += 1
    return counts


class Decoder:
    """The state of one request while it is answered. What is known of the answer so far is in its attributes at any time.

    `emit` hears of whole characters and blocks; without it nothing is told, and nothing decoded twice. More than `longest` tokens
    of what is asked are refused, since more than the model, or its base, has ever seen it could only guess.
    """

    def __init__(
        self,
        request: Request,
        encoder: Encoder,
        emit: Callable[[Event], Any] | None = None,
        longest: int | None = None,
    ) -> None:
        self.request, self.encoder, self.emit, self.longest = request, encoder, emit, longest
        self.vocabulary = encoder.vocabulary
        self.rng = np.random.default_rng([request.seed, 3])
        self.guided = False  # the segment that is written
        self.drawn = 0  # tokens that max_tokens bounds
        self.reused = 0  # tokens of what is asked that were computed for an earlier request
        self.segments: list[Segment] = []
        self.layout: list[Span] = []
        self.reason: Reason = "length"
        self._asked: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._unfed: list[Element] = []
        self._unfed_null: list[Element] = []
        self._restart_null = False
        self._length = 0  # tokens of the answer
        self.chance: tuple[float, list[tuple[int, float]]] = (
            0.0,
            [],
        )  # of the id chosen last; an id without rivals is certain
        self.choices: list[TokenChoice] = []
        self._words = Words(self)
        if request.to is not None and request.to not in self.vocabulary.modalities:
            raise ConfigError(
                f"request: to={request.to!r}; expected one of {', '.join(self.vocabulary.modalities)} or auto"
            )

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(dict(self._asked), dict(self._answered), self.reused)

    def prompt(self) -> list[Element]:
        """What is asked, up to the mark of the answer."""
        return self.encoder.prompt(Sample(self.request.messages))

    def run(self) -> Steps:
        """Answer; the segments, their layout, the reason and the usage are in the attributes."""
        vocabulary = self.vocabulary
        self._unfed = self.prompt()
        self._asked = count_tokens(self._unfed, vocabulary)
        if self.longest is not None and (length := self._asked.total()) > self.longest:
            raise ConfigError(
                f"got {length} tokens to answer; expected at most {self.longest}, the longest that the model or its base "
                "learned from: shorten the question, or the conversation before it"
            )
        legal, bounds = vocabulary.legal(self.request.to), self._bounds()
        while self.drawn < self.request.max_tokens:
            legal = bounds.legal() if bounds else legal
            self.chance = (0.0, [])
            index = int(legal[0]) if len(legal) == 1 else (yield self._feed(legal))
            if index == vocabulary.end:
                self.reason = "stop"
                break
            if index in vocabulary.openers:
                self._words.close()
                if self._wants_words(vocabulary.openers[index]):
                    self.to_say, self.reason = vocabulary.openers[index], "stop"
                    break
                yield from self._segment(vocabulary.openers[index])
                if self.request.to is not None:
                    self.reason = "stop" if self._ended else "length"
                    break
                continue
            name = vocabulary.owner(index)
            self._answer(Ids([index], False), self._words.begin(name), name)
            self.drawn += 1
            if bounds:
                bounds.take(index)
            if self._words.add(index):
                self.reason = "stop"
                break
        self._words.close()

    def _wants_words(self, name: str) -> bool:
        """Whether the model, which chooses what to answer in, began a modality that can be told what to say, and was not."""
        is_told = SAYING in self.request.options.get(name, {})
        return self.request.to is None and registry.tells(self.vocabulary.modalities[name]) and not is_told

    def _bounds(self) -> Choices | Grammar | None:
        """The list or the grammar that the answer is within, if there is one."""
        vocabulary, request = self.vocabulary, self.request
        modality, offset, end = vocabulary.modalities[WORDS], vocabulary.offsets[WORDS], vocabulary.end
        if request.grammar:
            return Grammar(modality, request.grammar, offset, end)
        if not request.choices:
            return None
        after = "\n" if vocabulary.template else ""  # templates end a role's name with a line
        return Choices(modality, tuple(request.choices), offset, end, after)

    to_say = ""  # the modality that the answer would go on in
    header: tuple[str, ...] = ()  # of the block that is being drawn
    _ended = False  # whether the last segment was ended by its own header

    def _feed(self, legal: np.ndarray | None, ordered: bool = False) -> Feed:
        """All that was not fed yet."""
        feed = Feed(self._unfed, self._unfed_null, self._restart_null, legal, ordered)
        self._unfed, self._unfed_null, self._restart_null = [], [], False
        return feed

    def _answer(self, element: Element, part: int, counted_as: str, block: int = 0) -> None:
        """A clean element of the answer, to be fed with the next step."""
        element.origin = Origin(len(self.request.messages), part, block)
        self._unfed.append(element)
        self.layout.append(Span(self._length, len(element), 0, element.origin))
        self._length += len(element)
        self._answered[counted_as] += len(element)

    def _segment(self, name: str) -> Steps:
        """One flow segment, from its open id to its last block."""
        modality, part = self.vocabulary.modalities[name], len(self.segments)
        blocks: list[Block] = []
        pieces = None
        if self.emit is not None and (streams := registry.streams(name)) is not None:
            pieces = streams.begin(modality)
        self.guided = self.request.guidance_of(name) != 1.0
        self._unfed_null = [Ids([self.vocabulary.ids[NULL]], False)] if self.guided else []
        self._restart_null = self.guided
        self._ended = False
        while not self._ended:
            before = [earlier.header for earlier in blocks]
            header = yield from self._header(modality, part, before)
            coordinates = modality.coordinates(header, before)
            tokens, noise = yield from self._block(modality, header, coordinates, part)
            blocks.append(Block(header, tokens, noise))
            if len(blocks) == 1:
                self.segments.append(Segment(name, ()))
            self.segments[part] = Segment(name, tuple(blocks))
            self._ended = modality.ends(header)
            last = self._ended or self.drawn >= self.request.max_tokens
            if self.emit is not None:
                piece = pieces.add(blocks[-1], last) if pieces else modality.write(Segment(name, (blocks[-1],)))
                self.emit(BlockDone(part, piece))
            if last and self.request.to is not None:
                return
            expert = self.vocabulary.expert(name, written=True)
            done = FlowBlock(name, tokens, coordinates, False, expert=expert)
            self._answer(done, part, name, len(blocks) - 1)
            if self.guided:
                bare = modality.coordinates(registry.bare(modality, header))
                self._unfed_null.append(FlowBlock(name, tokens, bare, False, expert=expert))
            if last:
                return

    def _header(
        self, modality: Modality, part: int, before: Sequence[Sequence[str]]
    ) -> Generator[Step, Any, tuple[str, ...]]:
        """The names of the header after those `before`: chosen where there is a choice, the others follow by themselves."""
        block = len(before)
        options = {**self.request.options.get(modality.name, {}), "blocks": block, "headers": before}
        header: list[str] = []
        if block == 0:
            header.append(modality.grammar()[0])
            self._name(modality, header[-1], part, block)
        while names := modality.expects(tuple(header), options):
            if len(names) == 1:
                header.append(names[0])
            else:
                is_ordered = registry.ordered(modality, names)
                index = yield self._feed(np.array(self.vocabulary.encode(names)), is_ordered)
                header.append(self.vocabulary.names[index])
            self._name(modality, header[-1], part, block)
        return tuple(header)

    def _name(self, modality: Modality, name: str, part: int, block: int) -> None:
        expert = self.vocabulary.expert(modality.name, written=True)
        mark = Ids([self.vocabulary.ids[name]], False, expert)
        self._answer(mark, part, GRAMMAR, block)
        if self.guided and registry.bare(modality, (name,)):
            self._unfed_null.append(mark)

    def _block(
        self, modality: Modality, header: tuple[str, ...], coordinates: np.ndarray, part: int
    ) -> Generator[Step, Any, tuple[np.ndarray, np.ndarray]]:
        """The tokens of one block, and the noise that they are drawn from."""
        self.header = header
        if self.emit is not None:
            self.emit(BlockBegun(part, modality.name, header))
        count = modality.block_len(header)
        self.drawn += count
        yield self._feed(None)
        noise = self.rng.standard_normal((count, modality.token_width), dtype=np.float32)
        expert = self.vocabulary.expert(modality.name, written=True)
        bare = modality.coordinates(registry.bare(modality, header))
        drawn = yield Draw(modality.name, noise, coordinates, bare, expert, self.guided, part)
        return modality.canonical(drawn), noise


class Words:
    """The words at the end of an answer: ids of one categorical modality after the other, and where a stop string ends
    them."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.ids: list[int] = []
        self.modality = ""
        self.told = ""  # what was emitted
        self.untold: list[TokenChoice] = []

    def begin(self, modality: str) -> int:
        """The number of the part that the next id of a modality belongs to: a new one if another modality was last."""
        if modality != self.modality:
            self.close()
            self.modality = modality
            self.decoder.segments.append(Segment(modality, ()))
        return len(self.decoder.segments) - 1

    def add(self, index: int) -> bool:
        """Take the next id of the part that was begun; whether a stop string, or going round, ends the answer."""
        decoder = self.decoder
        self.ids.append(index - decoder.vocabulary.offsets[self.modality])
        if decoder.request.logprobs is not None:
            self._choice(index)
        if not decoder.request.grammar and goes_round(self.ids, decoder.request.repeats):
            return True
        stops = decoder.request.stop
        if not stops and decoder.emit is None:
            return False
        text = self._text()
        cuts = [at for stop in stops if (at := text.find(stop)) >= 0]
        if cuts:
            self._cut(text[: min(cuts)])
            return True
        held = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        self._tell(text[: len(text) - held].rstrip(UNFINISHED))
        return False

    def _choice(self, index: int) -> None:
        """Note how likely the id was, and what else."""
        logprob, others = self.decoder.chance
        top = tuple((self._written(other), chance) for other, chance in others)
        choice = TokenChoice(self._written(index), logprob, top)
        self.decoder.choices.append(choice)
        self.untold.append(choice)

    def _written(self, index: int) -> str:
        """What one id writes; the name of a mark."""
        vocabulary = self.decoder.vocabulary
        if vocabulary.owner(index) != self.modality:
            return vocabulary.names[index]
        return str(self._part(np.array([index - vocabulary.offsets[self.modality]], np.int64)).value)

    def _text(self) -> str:
        return str(self._part(np.array(self.ids, np.int64)).value)

    def _part(self, ids: np.ndarray) -> Part:
        return self.decoder.encoder.modality(self.modality).write(Segment(self.modality, (Block((), ids),)))

    def _cut(self, text: str) -> None:
        """The words end with `text`, which need not end where an id ends."""
        whole = len(self._text())
        while self.decoder.choices and whole - len(self.decoder.choices[-1].text) >= len(text):
            whole -= len(self.decoder.choices.pop().text)
        self.untold = [choice for choice in self.untold if any(choice is kept for kept in self.decoder.choices)]
        self._tell(text)
        segment = self.decoder.encoder.modality(self.modality).read(Part(self.modality, text))
        self.ids = segment.blocks[0].tokens.tolist()

    def _tell(self, text: str) -> None:
        if self.decoder.emit is not None and len(text) > len(self.told):
            self.decoder.emit(TextDelta(len(self.decoder.segments) - 1, text[len(self.told) :], tuple(self.untold)))
            self.told, self.untold = text, []

    def close(self) -> None:
        """What was gathered becomes a segment."""
        if not self.modality:
            return
        ids = np.array(self.ids, np.int64)
        if self.decoder.emit is not None:
            self._tell(self._text())
            if self.untold:  # what they write was told already, or is no whole character
                self.decoder.emit(TextDelta(len(self.decoder.segments) - 1, "", tuple(self.untold)))
                self.untold = []
        if len(ids):
            self.decoder.segments[-1] = Segment(self.modality, (Block((), ids),))
        else:
            self.decoder.segments.pop()
        self.ids, self.modality, self.told = [], "", ""


def goes_round(ids: Sequence[int], repeats: int) -> bool:
    """Whether the last ids are the same ones `repeats` times in a row, or more often where they are few: at least LOOP ids in
    all. Greedy answers of small models do so until their limit."""
    for unit in range(1, len(ids) // repeats + 1) if repeats else ():
        length = unit * max(repeats, -(-LOOP // unit))
        if length <= len(ids) and ids[-length:-unit] == ids[unit - length :]:
            return True
    return False


def to_parts(segments: list[Segment], modalities: Mapping[str, Modality]) -> tuple[Part, ...]:
    """Segments back to parts."""
    return tuple(modalities[segment.modality].write(segment) for segment in segments)
