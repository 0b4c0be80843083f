"""One sample to one row: the clean sequence, its noised copies, positions, blocks, targets (docs/notation.md).

A categorical token is a block of its own. A flow block has a clean copy iff something follows it in its row, and
noised copies iff it is learned. Storage order carries no meaning: the mask reads `row`, `block` and `copy` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plait.contract import Modality, Part, Sample, Segment
from plait.data.augment import Augmenter
from plait.data.vocabulary import END, NULL, ROLES, SHARED_EXPERT, Vocabulary
from plait.errors import RowError

NO_TARGET = -1


class FlowConfig(BaseModel):
    """How noised copies are made. t = 0 is noise, t = 1 is data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    copies: int = Field(1, ge=1, description="noised copies of each learned block")
    time_mean: float = Field(-0.8, description="mean of the logit-normal times")
    time_std: float = Field(0.8, gt=0, description="standard deviation of the logit-normal times")
    uniform_prob: float = Field(0.1, ge=0, le=1, description="share of times drawn uniformly from [0, 0.9] instead")
    null_prob: float = Field(
        0.1, ge=0, lt=1, description="share of rows with a flow target whose context becomes <null>"
    )
    context_noise_prob: float = Field(
        0.5, ge=0, le=1, description="share of rows whose written clean copies are lightly noised"
    )
    context_noise_min_time: float = Field(0.9, ge=0, le=1, description="smallest time of a lightly noised clean copy")
    end_prob: float = Field(0.1, ge=0, le=1, description="share of rows ending in a flow block that still say <end>")

    def times(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """[count] float32 times of noised copies."""
        normal = 1.0 / (1.0 + np.exp(-rng.normal(self.time_mean, self.time_std, count)))
        uniform = rng.uniform(0.0, 0.9, count)
        return np.where(rng.random(count) < self.uniform_prob, uniform, normal).astype(np.float32)


@dataclass(frozen=True)
class Origin:
    """Where an element comes from: the number of its message, of the part in it and of the block in that; -1 for what the
    core puts there, such as a role's mark."""

    message: int = -1
    part: int = -1
    block: int = -1


NOWHERE = Origin()


@dataclass
class Ids:
    """A run of categorical ids; `learned` says whether they are targets."""

    ids: list[int]
    learned: bool
    expert: int = SHARED_EXPERT
    origin: Origin = NOWHERE

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class FlowBlock:
    """A block of continuous tokens; `learned` says whether it gets noised copies."""

    modality: str
    tokens: np.ndarray
    coordinates: np.ndarray
    learned: bool
    time: float = 1.0  # 1: data
    expert: int = SHARED_EXPERT
    origin: Origin = NOWHERE

    def __len__(self) -> int:
        return len(self.tokens)


Element = Ids | FlowBlock


@dataclass(frozen=True)
class Span:
    """`count` tokens of a row from `first` on that stem from one element; `copy` 0 is the clean one."""

    first: int
    count: int
    copy: int
    origin: Origin


@dataclass
class FlowArrays:
    """Continuous tokens of one modality in a row (or a batch): n tokens of width W with C coordinates."""

    index: np.ndarray  # [n] place in the row
    inputs: np.ndarray  # [n, W] what the trunk sees: clean or noised
    clean: np.ndarray  # [n, W] the data
    coordinates: np.ndarray  # [n, C]
    time: np.ndarray  # [n]


@dataclass
class Row:
    """Arrays of one length, a number a token; `ids` and `target` are -1 where there is none. Clean and noised continuous
    tokens lie apart: only the noised ones carry flow loss."""

    ids: np.ndarray
    block: np.ndarray
    copy: np.ndarray
    position: np.ndarray
    target: np.ndarray
    expert: np.ndarray
    clean: dict[str, FlowArrays] = field(default_factory=dict)
    noised: dict[str, FlowArrays] = field(default_factory=dict)
    clean_tokens: int = 0  # tokens of the row counted once: no copies, no padding
    spans: list[Span] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    """Turns samples into rows. `encode_part` may be replaced by a caching one.

    `augmenter` varies the parts of a row that are only looked at, or transforms question and answer together.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        flow: FlowConfig | None = None,
        encode_part: Callable[[Part], Segment] | None = None,
        augmenter: Augmenter | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.flow = flow or FlowConfig()
        self.encode_part = encode_part or self._read
        self.augmenter = augmenter or Augmenter({}, vocabulary.modalities)

    def _read(self, part: Part) -> Segment:
        return self.modality(part.type).read(part)

    def modality(self, name: str) -> Modality:
        return self.vocabulary.modalities[name]

    def prompt(self, sample: Sample) -> list[Element]:
        """Clean elements of the whole sample with nothing learned, ready to be continued by an assistant."""
        elements = self._messages(sample)
        for element in elements:
            element.learned = False
        return elements

    def scored(self, question: Sample, answer: Part) -> list[Element]:
        """A question with nothing learned and a categorical answer, which is; nothing in it is left to chance.

        Raises RowError for an answer that has no likelihood.
        """
        if self.modality(answer.type).head != "categorical":
            raise RowError(
                f"got an answer of type {answer.type!r} to score; expected one in words: others have no likelihood"
            )
        closing = list(self._message("assistant", (answer,), len(question.messages)))
        return [*self.prompt(question), *closing]

    def _messages(self, sample: Sample, augment: Callable[[Segment], Segment] | None = None) -> list[Element]:
        return [
            element
            for number, message in enumerate(sample.messages)
            for element in self._message(message.role, message.parts, number, augment)
        ]

    def _segment(self, segment: Segment, learned: bool, message: int = -1, part: int = -1) -> Iterator[Element]:
        modality = self.modality(segment.modality)
        expert = self.vocabulary.expert(segment.modality, learned)
        for number, block in enumerate(segment.blocks):
            origin = Origin(message, part, number)
            if modality.head == "categorical":
                offset = self.vocabulary.offsets[modality.name]
                if len(block.tokens):  # an empty text is nothing at all: what stands before it may still be last
                    yield Ids((block.tokens + offset).tolist(), learned, expert, origin)
            else:
                yield Ids(self.vocabulary.encode(block.header), learned, expert, origin)
                coordinates = modality.coordinates(block.header)
                yield FlowBlock(modality.name, block.tokens, coordinates, learned, expert=expert, origin=origin)

    def _message(
        self,
        role: str | None,
        parts: tuple[Part, ...],
        number: int,
        augment: Callable[[Segment], Segment] | None = None,
    ) -> Iterator[Element]:
        """Elements of message `number`; `augment` changes what is only looked at."""
        learned = role in (None, "assistant")
        mark = Origin(message=number)
        yield Ids([self.vocabulary.ids[ROLES[role]]], False, origin=mark)
        for place, part in enumerate(parts):
            segment = self.encode_part(part)
            if augment is not None and not learned:
                segment = augment(segment)
            yield from self._segment(segment, learned, number, place)
        if role == "assistant":
            yield Ids([self.vocabulary.ids[END]], True, origin=mark)

    def _null_row(self, sample: Sample, rng: np.random.Generator) -> list[Element] | None:
        """`<null>` and one learned flow segment, for guidance; None for a row that has none or was not drawn."""
        segments = [
            (segment, number, place)
            for number, message in enumerate(sample.messages)
            if message.role in (None, "assistant")
            for place, segment in enumerate(map(self.encode_part, message.parts))
            if self.modality(segment.modality).head == "flow"
        ]
        if not segments or rng.random() >= self.flow.null_prob:
            return None
        segment, number, place = segments[rng.integers(len(segments))]
        elements = list(self._segment(segment, True, number, place))
        for element in elements:
            if isinstance(element, Ids):
                element.learned = False  # the guidance stream is never asked for ids
        return [Ids([self.vocabulary.ids[NULL]], False), *elements]

    def elements(self, sample: Sample, rng: np.random.Generator) -> list[Element]:
        """What the row of a training sample is made of, in order."""
        null = self._null_row(sample, rng)
        if null is not None:
            return null
        augment = None
        if self.augmenter.drawn(sample.task, rng):
            if sample.task in self.augmenter.transforms:
                sample = self.augmenter.transforms[sample.task](sample, rng)
            else:
                augment = partial(self.augmenter.augment, sample.task, rng=rng)
        elements = self._messages(sample, augment)
        last = elements[-1]
        says_end = isinstance(last, Ids) and last.ids == [self.vocabulary.ids[END]]
        if (
            says_end
            and len(elements) > 1
            and isinstance(elements[-2], FlowBlock)
            and rng.random() >= self.flow.end_prob
        ):
            elements.pop()  # a final block then needs no clean copy
        return elements

    def row(self, sample: Sample, rng: np.random.Generator) -> Row:
        """Encode one training sample; all randomness comes from `rng`."""
        return self.lay_out(self.elements(sample, rng), rng)

    def lay_out(self, elements: list[Element], rng: np.random.Generator) -> Row:
        """Give every token its block, copy, position and target, and make the noised copies."""
        builder = RowBuilder()
        noisy_context = rng.random() < self.flow.context_noise_prob
        for number, element in enumerate(elements):
            if isinstance(element, Ids):
                builder.add_ids(element)
                continue
            last = number == len(elements) - 1
            if not (last and element.learned):
                noised_context = noisy_context and element.learned
                time = rng.uniform(self.flow.context_noise_min_time, 1.0) if noised_context else 1.0
                builder.add_block(element, 0, time, noised(element.tokens, time, rng))
            if element.learned:
                for copy, time in enumerate(self.flow.times(rng, self.flow.copies), start=1):
                    builder.add_block(element, copy, float(time), noised(element.tokens, float(time), rng))
            builder.close_block(len(element))
        return builder.row()


def lay_out_clean(elements: list[Element]) -> Row:
    """The row of elements as they stand, without noised copies: nothing is drawn."""
    builder = RowBuilder()
    for element in elements:
        builder.add_clean(element)
    return builder.row()


def noised(clean: np.ndarray, time: float, rng: np.random.Generator) -> np.ndarray:
    """z = t x + (1 - t) noise; at t = 1 the data itself."""
    if time == 1.0:
        return clean
    return time * clean + (1.0 - time) * rng.standard_normal(clean.shape, dtype=np.float32)


class RowBuilder:
    """Growing lists of a row, or of a stream's next tokens, whose blocks and positions then go on from earlier ones.

    Lists, because a row is made of a dozen runs of a few tokens, and arrays of that size cost more than they save.
    """

    def __init__(self, first_block: int = 0, first_position: int = 0) -> None:
        self.ids: list[int] = []
        self.block: list[int] = []
        self.copy: list[int] = []
        self.position: list[int] = []
        self.target: list[int] = []
        self.expert: list[int] = []
        self.clean: dict[str, list[FlowArrays]] = {}
        self.noised: dict[str, list[FlowArrays]] = {}
        self.spans: list[Span] = []
        self.clean_length = first_position  # tokens counted once
        self.next_block = first_block
        self.predictor_index: int | None = None  # place of the last clean token, which predicts what comes next

    def _add_span(self, element: Element, copy: int) -> None:
        count, first = len(element), len(self.ids)
        self.copy += [copy] * count
        self.position += range(self.clean_length, self.clean_length + count)
        self.expert += [element.expert] * count
        self.spans.append(Span(first, count, copy, element.origin))

    def add_ids(self, element: Ids) -> None:
        """A run of ids, a block each; the token before predicts the first of them."""
        ids, count = element.ids, len(element.ids)
        if not count:
            return
        if element.learned and self.predictor_index is not None:
            self.target[self.predictor_index] = ids[0]
        self._add_span(element, 0)
        self.ids += ids
        self.block += range(self.next_block, self.next_block + count)
        self.target += [*ids[1:], NO_TARGET] if element.learned else [NO_TARGET] * count
        self.predictor_index = len(self.ids) - 1
        self.next_block += count
        self.clean_length += count

    def add_clean(self, element: Element) -> None:
        """An element of a stream: ids, or the tokens of one block as they stand."""
        if isinstance(element, Ids):
            self.add_ids(element)
        else:
            self.add_block(element, 0, element.time, element.tokens)
            self.close_block(len(element))

    def add_block(self, element: FlowBlock, copy: int, time: float, inputs: np.ndarray) -> None:
        """One copy of a block; `inputs` are its tokens at `time`."""
        count, first = len(element), len(self.ids)
        self._add_span(element, copy)
        self.ids += [-1] * count
        self.block += [self.next_block] * count
        self.target += [NO_TARGET] * count
        arrays = FlowArrays(
            np.arange(first, first + count),
            inputs,
            element.tokens,
            element.coordinates,
            np.full(count, time, np.float32),
        )
        (self.noised if copy else self.clean).setdefault(element.modality, []).append(arrays)
        if copy == 0:  # only a clean copy may be asked for what comes next
            self.predictor_index = len(self.ids) - 1

    def close_block(self, count: int) -> None:
        """All copies of a block of `count` tokens are there."""
        self.next_block += 1
        self.clean_length += count

    def row(self) -> Row:
        """The arrays."""
        return Row(
            np.array(self.ids, np.int64),
            np.array(self.block, np.int64),
            np.array(self.copy, np.int64),
            np.array(self.position, np.int64),
            np.array(self.target, np.int64),
            np.array(self.expert, np.int64),
            {name: join(arrays) for name, arrays in self.clean.items()},
            {name: join(arrays) for name, arrays in self.noised.items()},
            self.clean_length,
            self.spans,
        )


def join(arrays: list[FlowArrays]) -> FlowArrays:
    """Concatenate along tokens."""
    if len(arrays) == 1:
        return arrays[0]
    names = ("index", "inputs", "clean", "coordinates", "time")
    return FlowArrays(*(np.concatenate([getattr(one, name) for one in arrays]) for name in names))
