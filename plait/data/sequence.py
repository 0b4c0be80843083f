"""Turns one sample into one row: clean tokens, noised copies, positions, blocks and targets (docs/notation.md).

A categorical token is a block of its own. A flow block has a clean copy iff something follows it in its row, and
noised copies iff the loss falls on it. Storage order carries no meaning: the mask reads only `row`, `block` and `copy`.
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
    """Settings of noised copies. Time t = 0 is noise, t = 1 is data. Unknown keys are errors."""

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
    end_prob: float = Field(0.1, ge=0, le=1, description="share of rows ending in a flow block that keep their <end>")

    def times(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """[count] float32 times of noised copies: logit-normal (Esser et al., 2024) mixed with uniform."""
        normal = 1.0 / (1.0 + np.exp(-rng.normal(self.time_mean, self.time_std, count)))
        uniform = rng.uniform(0.0, 0.9, count)
        return np.where(rng.random(count) < self.uniform_prob, uniform, normal).astype(np.float32)


@dataclass(frozen=True)
class Origin:
    """Source of an element: index of its message, of the part in the message and of the block in the part; -1 for what the
    core inserts, such as a role's mark."""

    message: int = -1
    part: int = -1
    block: int = -1


NOWHERE = Origin()


@dataclass
class Ids:
    """A run of categorical ids; they are targets if `learned`."""

    ids: list[int]
    learned: bool
    expert: int = SHARED_EXPERT
    origin: Origin = NOWHERE

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class FlowBlock:
    """A block of continuous tokens [n, W] at `coordinates` [n, C]; it gets noised copies if `learned`."""

    modality: str
    tokens: np.ndarray
    coordinates: np.ndarray
    learned: bool
    time: float = 1.0  # of `tokens`; 1 is data
    expert: int = SHARED_EXPERT
    origin: Origin = NOWHERE

    def __len__(self) -> int:
        return len(self.tokens)


Element = Ids | FlowBlock


@dataclass(frozen=True)
class Span:
    """The `count` tokens of a row, from index `first`, of one copy of an element; `copy` 0 is the clean one."""

    first: int
    count: int
    copy: int
    origin: Origin


@dataclass
class FlowArrays:
    """Continuous tokens of one modality in a row (or a batch): n tokens of width W with C coordinates."""

    index: np.ndarray  # [n] into the row
    inputs: np.ndarray  # [n, W] at `time`: what the trunk reads
    clean: np.ndarray  # [n, W] the data
    coordinates: np.ndarray  # [n, C]
    time: np.ndarray  # [n]


@dataclass
class Row:
    """Int64 arrays [L], one number per token; `ids` and `target` are -1 where there is none. `clean` and `noised` hold the
    continuous tokens by modality; only the noised ones carry flow loss."""

    ids: np.ndarray
    block: np.ndarray
    copy: np.ndarray
    position: np.ndarray
    target: np.ndarray
    expert: np.ndarray
    clean: dict[str, FlowArrays] = field(default_factory=dict)
    noised: dict[str, FlowArrays] = field(default_factory=dict)
    clean_tokens: int = 0  # tokens counted once: no copies, no padding
    spans: list[Span] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    """Encodes samples as rows. `encode_part` defaults to the modality's `read`; a caching one may replace it.

    `augmenter` augments the parts of a row without loss, or transforms question and answer together.
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
        """The modality `name`."""
        return self.vocabulary.modalities[name]

    def prompt(self, sample: Sample) -> list[Element]:
        """Clean elements of the sample with no loss on any, for an assistant to continue. Raises RowError."""
        elements = self._messages(sample)
        for element in elements:
            element.learned = False
        return elements

    def scored(self, question: Sample, answer: Part) -> list[Element]:
        """Clean elements of a question without loss and of a categorical answer with loss; deterministic.

        Raises RowError for an answer that has no likelihood.
        """
        if self.modality(answer.type).head != "categorical":
            raise RowError(
                f"got an answer of type {answer.type!r} to score; expected one in words: others have no likelihood"
            )
        answer_elements = list(self._message("assistant", (answer,), len(question.messages)))
        return [*self.prompt(question), *answer_elements]

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
                if len(block.tokens):  # an empty text adds no element: the one before it may still be the last
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
        """Elements of message `number`; `augment` changes the segments without loss."""
        learned = role in (None, "assistant")
        mark = Origin(message=number)
        yield Ids([self.vocabulary.ids[ROLES[role]]], False, origin=mark)
        for part_number, part in enumerate(parts):
            segment = self.encode_part(part)
            if augment is not None and not learned:
                segment = augment(segment)
            yield from self._segment(segment, learned, number, part_number)
        if role == "assistant":
            yield Ids([self.vocabulary.ids[END]], True, origin=mark)

    def _null_row(self, sample: Sample, rng: np.random.Generator) -> list[Element] | None:
        """`<null>` and one flow segment with loss, for classifier-free guidance (Ho and Salimans, 2022); None for a row that
        has no such segment or is not drawn."""
        segments = [
            (segment, number, part_number)
            for number, message in enumerate(sample.messages)
            if message.role in (None, "assistant")
            for part_number, segment in enumerate(map(self.encode_part, message.parts))
            if self.modality(segment.modality).head == "flow"
        ]
        if not segments or rng.random() >= self.flow.null_prob:
            return None
        segment, number, part_number = segments[rng.integers(len(segments))]
        elements = list(self._segment(segment, True, number, part_number))
        for element in elements:
            if isinstance(element, Ids):
                element.learned = False  # the null stream never predicts ids
        return [Ids([self.vocabulary.ids[NULL]], False), *elements]

    def elements(self, sample: Sample, rng: np.random.Generator) -> list[Element]:
        """Elements of a training sample's row, in order: augmented, or a null row, as `rng` decides. Raises RowError."""
        null = self._null_row(sample, rng)
        if null is not None:
            return null
        augment = None
        if self.augmenter.selects(sample.task, rng):
            if sample.task in self.augmenter.transforms:
                sample = self.augmenter.transforms[sample.task](sample, rng)
            else:
                augment = partial(self.augmenter.augment, sample.task, rng=rng)
        elements = self._messages(sample, augment)
        last = elements[-1]
        ends_in_mark = isinstance(last, Ids) and last.ids == [self.vocabulary.ids[END]]
        if (
            ends_in_mark
            and len(elements) > 1
            and isinstance(elements[-2], FlowBlock)
            and rng.random() >= self.flow.end_prob
        ):
            elements.pop()  # a final block then needs no clean copy
        return elements

    def row(self, sample: Sample, rng: np.random.Generator) -> Row:
        """The row of one training sample; all randomness comes from `rng`. Raises RowError."""
        return self.lay_out(self.elements(sample, rng), rng)

    def lay_out(self, elements: list[Element], rng: np.random.Generator) -> Row:
        """The row of `elements` with their noised copies: a block, copy, position and target for every token."""
        builder = RowBuilder()
        noisy_context = rng.random() < self.flow.context_noise_prob
        for number, element in enumerate(elements):
            if isinstance(element, Ids):
                builder.add_ids(element)
                continue
            last = number == len(elements) - 1
            if not (last and element.learned):
                is_noisy = noisy_context and element.learned
                time = rng.uniform(self.flow.context_noise_min_time, 1.0) if is_noisy else 1.0
                builder.add_block(element, 0, time, add_noise(element.tokens, time, rng))
            if element.learned:
                for copy, time in enumerate(self.flow.times(rng, self.flow.copies), start=1):
                    builder.add_block(element, copy, float(time), add_noise(element.tokens, float(time), rng))
            builder.close_block(len(element))
        return builder.row()


def lay_out_clean(elements: list[Element]) -> Row:
    """The row of `elements` without noised copies; deterministic."""
    builder = RowBuilder()
    for element in elements:
        builder.add_clean(element)
    return builder.row()


def add_noise(clean: np.ndarray, time: float, rng: np.random.Generator) -> np.ndarray:
    """z = t x + (1 - t) noise, of the shape of `clean`; at t = 1 draws nothing and returns x itself."""
    if time == 1.0:
        return clean
    return time * clean + (1.0 - time) * rng.standard_normal(clean.shape, dtype=np.float32)


class RowBuilder:
    """Builds a row, or the next tokens of a stream, whose blocks and positions continue earlier ones.

    Holds lists, because a row consists of a dozen runs of a few tokens, and small arrays cost more than they save.
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
        self.predictor_index: int | None = None  # of the last clean token, which predicts the next id

    def _add_span(self, element: Element, copy: int) -> None:
        count, first = len(element), len(self.ids)
        self.copy += [copy] * count
        self.position += range(self.clean_length, self.clean_length + count)
        self.expert += [element.expert] * count
        self.spans.append(Span(first, count, copy, element.origin))

    def add_ids(self, element: Ids) -> None:
        """Append a run of ids, each a block; the clean token before them predicts the first."""
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
        """Append an element: ids, or one block in its clean copy alone."""
        if isinstance(element, Ids):
            self.add_ids(element)
        else:
            self.add_block(element, 0, element.time, element.tokens)
            self.close_block(len(element))

    def add_block(self, element: FlowBlock, copy: int, time: float, inputs: np.ndarray) -> None:
        """Append one copy of a block; `inputs` [n, W] are its tokens at `time`."""
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
        if copy == 0:  # noised copies carry flow loss only
            self.predictor_index = len(self.ids) - 1

    def close_block(self, count: int) -> None:
        """Finish a block of `count` tokens, after its last copy."""
        self.next_block += 1
        self.clean_length += count

    def row(self) -> Row:
        """The row built so far."""
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
    """Concatenate at least one `FlowArrays` along tokens."""
    if len(arrays) == 1:
        return arrays[0]
    names = ("index", "inputs", "clean", "coordinates", "time")
    return FlowArrays(*(np.concatenate([getattr(part, name) for part in arrays]) for name in names))
