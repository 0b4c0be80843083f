"""Turns one sample into one row: clean tokens, noised copies, positions, blocks and targets (docs/notation.md).

A categorical token is a block of its own. A flow block has a clean copy iff something follows it in its row, and
noised copies iff the loss falls on it. Storage order carries no meaning: the mask reads only `row`, `block` and `copy`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plait import registry
from plait.contract import WORDS, Message, Modality, Part, Sample, Segment
from plait.data.asked import MOST_LETTERS
from plait.data.augment import Augmenter, Variation
from plait.data.chat_template import Fixed, Special
from plait.data.hidden import hide_in_features, hide_now_and_then
from plait.data.letters import spelled
from plait.data.media import with_bytes
from plait.data.row import (
    NOWHERE,
    Alignment,
    Element,
    FlowBlock,
    Ids,
    Origin,
    Row,
    RowBuilder,
    add_noise,
    lay_out_clean,
)
from plait.data.vocabulary import END, NULL, ROLES, Vocabulary, features_mark
from plait.errors import RowError

ADVANTAGE = "advantage"  # in a row's meta: how much better its answer is than others to the same
RECALLED = "recalled"  # in a row's meta: whether it was learned from before, and is to be answered as it was then
CTC, MATCH, FIND = "ctc", "match", "find"  # how features are aligned with words (plait.train.objectives.align)


class FlowConfig(BaseModel):
    """Settings of noised copies. Time t = 0 is noise, t = 1 is data. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    copies: int = Field(1, ge=1, description="noised copies of each learned block")
    time_mean: float = Field(-0.8, description="mean of the logit-normal times")
    time_std: float = Field(0.8, gt=0, description="standard deviation of the logit-normal times")
    uniform_prob: float = Field(0.1, ge=0, le=1, description="share of times drawn uniformly from [0, 0.9] instead")
    null_prob: float = Field(0.1, ge=0, lt=1, description="share of rows with a flow target whose context is <null>")
    context_noise_prob: float = Field(0.5, ge=0, le=1, description="share of rows with lightly noised written context")
    context_noise_min_time: float = Field(0.9, ge=0, le=1, description="smallest time of a lightly noised clean copy")
    end_prob: float = Field(0.1, ge=0, le=1, description="share of rows ending in a flow block that keep their <end>")
    mask_prob: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of rows of which some tokens that are given are hidden, so that explanations may",
    )
    mask_from: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps before any are: a model that learns from scratch learns to draw worse if it begins at once",
    )

    def times(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """[count] float32 times of noised copies: logit-normal (Esser et al., 2024) mixed with uniform."""
        normal = 1.0 / (1.0 + np.exp(-rng.normal(self.time_mean, self.time_std, count)))
        uniform = rng.uniform(0.0, 0.9, count)
        return np.where(rng.random(count) < self.uniform_prob, uniform, normal).astype(np.float32)


def _trimmed(part: Part, first: bool, last: bool) -> Any:
    """The words of a part, without white space where they begin or end a message; what is no text stays for `check`."""
    text = part.value
    if not isinstance(text, str):
        return text
    text = text.lstrip() if first else text
    return text.rstrip() if last else text


def _up_to_last_target(elements: list[Element]) -> list[Element]:
    """Elements up to the last with loss: those after it teach nothing. All of them where none has loss."""
    last = max((number for number, element in enumerate(elements) if element.learned), default=len(elements) - 1)
    return elements[: last + 1]


def _unlearn(elements: list[Element], before: int) -> None:
    """Take the loss from elements of the messages before a number."""
    for element in elements:
        element.learned = element.learned and element.origin.message >= before


class Encoder:
    """Encodes samples as rows. `encode_part` defaults to the modality's `read`; a caching one may replace it.

    `augmenter` augments the parts of a row without loss, or transforms question and answer together. `features` gives the
    features of a part that a reader reads, [n, width], varied where a generator is given. `alignment` maps a task to how
    features of its questions are aligned with its answers (plait.train.objectives.align). Under the `objective` dpo a preference
    becomes two rows, else one of what was chosen; under align, what is to be found needs no features. `codecs` names the
    modalities whose media are examples for the trained parts of their codecs (plait.train.objectives.codec).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        flow: FlowConfig | None = None,
        encode_part: Callable[[Part], Segment] | None = None,
        augmenter: Augmenter | None = None,
        features: Callable[[Part, np.random.Generator | None], np.ndarray] | None = None,
        alignment: Mapping[str, str] | None = None,
        codecs: Collection[str] = (),
        objective: str = "pretrain",
    ) -> None:
        self.vocabulary = vocabulary
        self.objective = objective
        self.codecs = frozenset(codecs)
        self.features = self.features_to_find_by = features
        self.alignment = dict(alignment or {})
        self.flow = flow or FlowConfig()
        self.encode_part = encode_part or self._read
        self.augmenter = augmenter or Augmenter({}, vocabulary.modalities)

    @cached_property
    def preamble(self) -> Row | None:
        """What a template writes before the first words of a conversation without a system message; None where there is no
        template, or where it writes nothing."""
        if self.vocabulary.template is None:
            return None
        one, other = (
            [number for element in self.prompt(_asking(text)) if isinstance(element, Ids) for number in element.ids]
            for text in ("0", "a")
        )
        common = [first for first, second in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]
        return lay_out_clean([Ids(common, False)]) if common else None

    def _shared(self, row: Row) -> int:
        """How many tokens a row has in common with others: those of the preamble or none."""
        length = len(self.preamble) if self.preamble is not None else 0
        begin = slice(length)
        is_alike = self.preamble is not None and all(
            np.array_equal(getattr(row, name)[begin], getattr(self.preamble, name))
            for name in ("ids", "block", "copy", "position", "target", "expert")
        )
        return length if is_alike else 0

    def _read(self, part: Part) -> Segment:
        return self.modality(part.type).read(part)

    def modality(self, name: str) -> Modality:
        """The modality `name`."""
        return self.vocabulary.modalities[name]

    def prompt(self, sample: Sample) -> list[Element]:
        """Clean elements of the sample up to where an answer begins, with no loss on any. Raises RowError."""
        elements = self._elements(sample, answering=True)
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
        last = len(question.messages)
        answered = replace(question, messages=(*question.messages, Message("assistant", (answer,))))
        elements = self._elements(answered)
        for element in elements:
            element.learned = element.learned and element.origin.message == last
        return _up_to_last_target(elements)

    def _elements(self, sample: Sample, variation: Variation | None = None, answering: bool = False) -> list[Element]:
        """Clean elements of a sample; with `answering`, up to where the next answer begins. `variation` changes what is
        without loss."""
        documents = any(message.role is None for message in sample.messages)
        if self.vocabulary.template is None or documents:
            elements = [
                element
                for number, message in enumerate(sample.messages)
                for element in self._marked(message, number, variation)
            ]
            return [*elements, Ids([self.vocabulary.ids[ROLES["assistant"]]], False)] if answering else elements
        return self._templated(sample, variation, answering)

    def _segment(self, segment: Segment, learned: bool, message: int = -1, part: int = -1) -> Iterator[Element]:
        modality = self.modality(segment.modality)
        expert = self.vocabulary.expert(segment.modality, learned)
        headers: list[Sequence[str]] = []
        for number, block in enumerate(segment.blocks):
            origin = Origin(message, part, number)
            if modality.head == "categorical":
                offset = self.vocabulary.offsets[modality.name]
                if len(block.tokens):  # an empty text adds no element: the one before it may still be the last
                    yield Ids((block.tokens + offset).tolist(), learned, expert, origin)
            else:
                yield Ids(self.vocabulary.encode(block.header), learned, expert, origin)
                coordinates = modality.coordinates(block.header, headers)
                headers.append(block.header)
                yield FlowBlock(
                    modality.name, block.tokens, coordinates, learned, expert=expert, origin=origin, noise=block.noise
                )

    def _part(
        self, part: Part, whole: Message, message: int, number: int, variation: Variation | None
    ) -> Iterator[Element]:
        """Elements of a part of a `whole` message: of one that is given, what its reader reads, its own blocks unless those are left
        out, and what its finder reads."""
        role = whole.role
        learned = role in (None, "assistant")
        reader = None if learned else self.vocabulary.readers.get(part.type)
        if reader is not None and self.features is not None:
            opener = self.modality(part.type).grammar()[:1]  # words have none
            expert, origin = self.vocabulary.expert(part.type, written=False), Origin(message, number, -1)
            features = self.features(part, variation.rng if variation else None)
            yield Ids(self.vocabulary.encode((*opener, features_mark(reader.name))), False, expert, origin)
            for_words = np.zeros((reader.words, reader.width), features.dtype)  # empty places
            features = np.concatenate((features, for_words)) if reader.words else features
            places = np.arange(len(features), dtype=np.float32)[:, None]  # 0 begins a medium
            yield FlowBlock(reader.name, features, places, False, expert=expert, origin=origin)
        if reader is None or self.features is None or getattr(self.modality(part.type), "raw", True):
            segment = self.encode_part(part)
            if variation is not None and not learned:
                segment = variation.augment(segment)
            yield from self._segment(segment, learned, message, number)
        if not learned and part.type in self.vocabulary.finders:
            yield from self._asked(part, whole, Origin(message, number, -1))

    def _asked(self, part: Part, whole: Message, origin: Origin) -> Iterator[Element]:
        """What the finder reads of a part and of the words that stand with it; its answer's words take the places of what it
        read."""
        layout, modality = self.vocabulary.finders[part.type], self.modality(part.type)
        finds = registry.finds(modality)
        assert finds is not None
        words = " ".join(str(other.value) for other in whole.parts if other.type == WORDS)
        ids = self.modality(WORDS).read(Part(WORDS, words)).blocks[0].tokens.tolist() if words.strip() else []
        features = self.features_to_find_by(part, None) if layout.features and self.features_to_find_by else None
        tokens = layout.join(finds.see(modality, with_bytes(part)), ids, features)
        opener, expert = modality.grammar()[0], self.vocabulary.expert(part.type, written=False)
        yield Ids(self.vocabulary.encode((opener, features_mark(layout.name))), False, expert, origin)
        places = np.arange(layout.places, dtype=np.float32)[:, None]
        yield FlowBlock(layout.name, tokens, places, False, expert=expert, origin=origin)

    def _marked(self, message: Message, number: int, variation: Variation | None) -> Iterator[Element]:
        """Elements of message `number` between the core's own marks."""
        mark = Origin(message=number)
        yield Ids([self.vocabulary.ids[ROLES[message.role]]], False, origin=mark)
        for part_number, part in enumerate(message.parts):
            yield from self._part(part, message, number, part_number, variation)
        if message.role == "assistant":
            yield Ids([self.vocabulary.ids[END]], True, origin=mark)

    def _templated(self, sample: Sample, variation: Variation | None, answering: bool) -> list[Element]:
        """Elements of a conversation as the chat template lays it out.

        What stands between special tokens and media is one run of text, whose tokens may join words and template, so a run
        is tokenised whole; a token belongs to whoever wrote its first character.
        """
        template = self.vocabulary.template
        assert template is not None
        roles = [str(message.role) for message in sample.messages]
        elements: list[Element] = []
        run: list[tuple[str, bool, Origin]] = []  # text, whether it is learned, where it comes from
        message, answered = -1, False

        def close() -> None:
            elements.extend(self._run(run))
            run.clear()

        for piece in template.pieces(roles, answering):
            if isinstance(piece, Special):
                close()
                origin = Origin(message=message) if answered else NOWHERE
                elements.append(Ids([self.vocabulary.special(piece.name)], answered, origin=origin))
                answered = False
            elif isinstance(piece, Fixed):
                run.append((piece.text, False, NOWHERE))
                answered = False
            else:
                message, answered = piece.message, roles[piece.message] == "assistant"
                parts = sample.messages[message].parts
                for number, part in enumerate(parts):
                    if part.type == WORDS:
                        text = _trimmed(part, number == 0, number == len(parts) - 1) if piece.trimmed else part.value
                        run.append((text, answered, Origin(message, number)))
                    else:
                        close()
                        whole = sample.messages[message]
                        elements.extend(self._part(part, whole, message, number, variation))
        close()
        return elements

    def _run(self, texts: Sequence[tuple[str, bool, Origin]]) -> Iterator[Element]:
        """Ids of adjacent texts, tokenised as one."""
        if not texts:
            return
        for text, _, _ in texts:
            self.modality(WORDS).check(Part(WORDS, text))
        ids, starts = self.modality(WORDS).tokenise("".join(text for text, _, _ in texts))  # type: ignore[attr-defined]
        owner = np.searchsorted(np.cumsum([len(text) for text, _, _ in texts]), starts, side="right")
        offset = self.vocabulary.offsets[WORDS]
        for number, (_, learned, origin) in enumerate(texts):
            if len(own := ids[owner == number]):
                yield Ids((own + offset).tolist(), learned, origin=origin)

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
        modality = self.modality(segment.modality)
        blocks = tuple(replace(block, header=registry.bare(modality, block.header)) for block in segment.blocks)
        elements = list(self._segment(replace(segment, blocks=blocks), True, number, part_number))
        for element in elements:
            if isinstance(element, Ids):
                element.learned = False  # the null stream never predicts ids
        return [Ids([self.vocabulary.ids[NULL]], False), *elements]

    def elements(self, sample: Sample, rng: np.random.Generator) -> list[Element]:
        """Elements of a training sample's row, in order: augmented, or a null row, as `rng` decides. Raises RowError."""
        return self._drawn(sample, rng)[0]

    def _drawn(self, sample: Sample, rng: np.random.Generator) -> tuple[list[Element], Sample]:
        """As `elements`, and the sample that they are of, which a transformation may have changed with its answer."""
        null = self._null_row(sample, rng)
        return self._answered(sample, rng) if null is None else (null, sample)

    def _answered(self, sample: Sample, rng: np.random.Generator) -> tuple[list[Element], Sample]:
        """Elements of a training sample's row with its question, and the sample as it was transformed. Raises RowError."""
        variation = None
        if self.augmenter.selects(sample.task, rng):
            if sample.task in self.augmenter.transforms:
                sample = self.augmenter.transforms[sample.task](sample, rng)
            else:
                variation = Variation(self.augmenter, sample.task, rng)
        elements = _up_to_last_target(self._elements(sample, variation))
        last = elements[-1]
        ends_in_mark = isinstance(last, Ids) and last.ids == [self.vocabulary.end]
        if (
            ends_in_mark
            and len(elements) > 1
            and isinstance(elements[-2], FlowBlock)
            and rng.random() >= self.flow.end_prob
        ):
            elements.pop()  # a final block then needs no clean copy
        return elements, sample

    def row(self, sample: Sample, rng: np.random.Generator, hides: bool = True) -> Row:
        """The row of one training sample, of which something may be hidden if it `hides`; all randomness comes from `rng`. Raises RowError."""
        if sample.rejected and self.objective == "dpo":
            return self._preference(sample, rng)
        if self.objective == "align" and self.alignment.get(sample.task) == FIND and self.features is not None:
            return self._without_features.row(sample, rng, hides)
        if self.objective == "grpo" and ADVANTAGE in sample.meta:
            return self._own_answer(sample, rng)
        elements, sample = self._drawn(sample, rng)
        row = self.lay_out(elements, rng)
        hide_now_and_then(row, sample, self.flow.mask_prob if hides else 0.0, rng)
        row.alignment = self.alignment_of(sample)
        row.recalled = self.objective == "recall" and bool(sample.meta.get(RECALLED))
        row.shared = self._shared(row)
        if row.alignment is not None and row.alignment.how == CTC:
            for reader in self.vocabulary.readers.values():
                if reader.letters and (heard := row.clean.get(reader.name)) is not None:
                    hidden = hide_in_features(heard.inputs, reader.letters, rng)
                    row.clean[reader.name] = replace(heard, inputs=hidden)
        for part in (part for message in sample.messages for part in message.parts if part.type in self.codecs):
            weights = registry.weights(part.type)
            assert weights is not None
            row.examples.append((part.type, *weights.example(self.modality(part.type), with_bytes(part), rng)))
        return row

    @cached_property
    def _without_features(self) -> Encoder:
        """The same, but for features: reading a picture that was composed anew takes longer than looking for things in it."""
        encoder = copy.copy(self)
        encoder.features = None
        return encoder

    def _own_answer(self, sample: Sample, rng: np.random.Generator) -> Row:
        """The row of a model's own answer, with its advantage, and the loss on that answer alone. Raises RowError."""
        advantage = sample.meta[ADVANTAGE]
        if isinstance(advantage, bool) or not isinstance(advantage, int | float) or not math.isfinite(advantage):
            raise RowError(f"{sample.where}: got meta.{ADVANTAGE} {advantage!r}; expected a finite number")
        elements, sample = self._answered(sample, rng)
        _unlearn(elements, before=len(sample.messages) - 1)
        row = self.lay_out(elements, rng)
        row.advantage, row.shared = float(advantage), self._shared(row)
        return row

    def _preference(self, sample: Sample, rng: np.random.Generator) -> Row:
        """The row of what was chosen, with that of what was rejected as `rejected`: the same noise and the same variation of what
        is given, and the loss on nothing but the two answers. Raises RowError."""
        asked = sample.messages[: len(sample.messages) - len(sample.rejected)]
        seed = int(rng.integers(2**63))
        rows = []
        for answered in (sample.messages, (*asked, *sample.rejected)):
            alternative = replace(sample, messages=answered, rejected=())
            elements, _ = self._answered(alternative, np.random.default_rng(seed))
            _unlearn(elements, before=len(asked))
            row = self.lay_out(elements, np.random.default_rng(seed + 1))
            row.shared = self._shared(row)
            rows.append(row)
        chosen, rejected = rows
        return replace(chosen, rejected=rejected)

    def alignment_of(self, sample: Sample) -> Alignment | None:
        """How the features of a sample's questions are aligned, and with what: with the letters of its first answer in words
        (CTC, FIND), or with its ids (MATCH). None where its task is not aligned, or where there are several answers."""
        answers = [message for message in sample.messages if message.role == "assistant"]
        if (how := self.alignment.get(sample.task)) and len(answers) == 1:
            for part in answers[0].parts:
                if part.type == WORDS:
                    if how == FIND:
                        answer = np.frombuffer(str(part.value).strip().encode(), np.uint8)
                        if len(answer) >= MOST_LETTERS:
                            return None  # half an answer would be a wrong one
                    else:
                        answer = spelled(str(part.value)) if how == CTC else self.encode_part(part).blocks[0].tokens
                    return Alignment(how, sample.task, answer)
        return None

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
                    noised = add_noise(element.tokens, float(time), rng, element.noise)
                    builder.add_block(element, copy, float(time), noised)
            builder.close_block(len(element))
        return builder.row()


def _asking(text: str) -> Sample:
    return Sample((Message("user", (Part(WORDS, text),)),))
