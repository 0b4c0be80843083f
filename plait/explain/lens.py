"""What a model would answer if it ended after each of its layers: the logit lens (nostalgebraist, 2020), for every kind of head.

One pass, with taps on all layers; each layer's output goes through the final norm and the head that its position is for. A head over
ids gives a distribution; a flow head predicts clean tokens, under the noise at which the answer is scored (plait.explain.scorer).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plait.contract import Block, HeadKind, Message, Segment
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError
from plait.explain.explanation import TOKEN, Subject, message_entry, place_in_words, targets_of
from plait.explain.layers import after_layers
from plait.explain.scorer import COPIES, Scorer, Target, flow_of
from plait.modalities import Region

FORMAT = 1
BEST = 5  # ids of a layer that are named
COLUMNS = 7  # layers that a table in a terminal has room for


@dataclass(frozen=True)
class Choice:
    """An id that a layer would choose."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True)
class IdReading:
    """A token of words by the number of layers: the probability and the rank, 0 the first, of the `id` that came, and the likeliest ids."""

    id: int
    probability: tuple[float, ...]
    rank: tuple[int, ...]
    best: tuple[tuple[Choice, ...], ...]

    @property
    def settled(self) -> int | None:
        """The fewest layers from which on the id that came is the likeliest; None where it never is at the end."""
        late = [number for number, rank in enumerate(self.rank) if rank > 0]
        first = late[-1] + 1 if late else 0
        return first if first < len(self.rank) else None


@dataclass(frozen=True)
class FlowReading:
    """Predictions of clean tokens by the number of layers: root mean square distances to what the last layer predicts, and to the data.
    Of one token under all noise, or of all tokens at one time."""

    to_last: tuple[float, ...]
    to_data: tuple[float, ...]


@dataclass(frozen=True)
class TokenLens:
    """One token of the answer: its words or its place in the part, and what the layers make of it."""

    label: str
    region: Region
    reading: IdReading | FlowReading


@dataclass(frozen=True)
class AtTime:
    """All tokens of a flow answer at one time, 0 noise and 1 data; the mean of blocks, each of which has its own."""

    time: float
    reading: FlowReading


@dataclass(frozen=True)
class Lens:
    """What layers make of one part of an answer. `layers`: how many there are; readings have a number more, for none of them.

    `predicted` [layers + 1, copies, tokens, W] of a flow answer: its clean tokens as predicted from noised `copies`, the noisiest first;
    `segment`: the answer itself."""

    head: HeadKind
    messages: tuple[Message, ...]
    answer: Message
    part: int
    layers: int
    tokens: tuple[TokenLens, ...]
    times: tuple[AtTime, ...] = ()
    predicted: np.ndarray | None = field(default=None, compare=False)
    segment: Segment | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; media as their kind alone."""
        return {
            "format": FORMAT,
            "head": self.head,
            "messages": [message_entry(message) for message in (*self.messages, self.answer)],
            "part": self.part,
            "layers": self.layers,
            "tokens": [asdict(token) for token in self.tokens],
            "times": [asdict(one) for one in self.times],
        }

    def to_json(self) -> str:
        """As text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=1)

    def table(self) -> str:
        """Each token by some of the layers, as text."""
        shown = sorted({round(number) for number in np.linspace(0, self.layers, COLUMNS)})
        kind = self.answer.parts[self.part].type
        rows = [("after layer", *map(str, shown), "")]
        for number, token in enumerate(self.tokens):
            name = repr(token.label) if token.label else place_in_words(kind, token.region) or f"{kind}, {number + 1}"
            rows.append((name, *_cells(token.reading, shown)))
        rows += [(f"at time {one.time:.2f}", *_cells(one.reading, shown)) for one in self.times]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([_caption(self.head), *lines])

    def segment_at(self, layer: int, copy: int) -> Segment:
        """A flow answer as so many layers predict it from one of its noised copies. Raises ConfigError for another."""
        if self.predicted is None or self.segment is None:
            raise ConfigError(
                f"got an answer of a {self.head} head; expected one of a flow head, which predicts tokens"
            )
        ends = np.cumsum([len(block.tokens) for block in self.segment.blocks])[:-1]
        tokens = np.split(self.predicted[layer, copy], ends)
        blocks = zip(self.segment.blocks, tokens, strict=True)
        return Segment(self.segment.modality, tuple(Block(block.header, predicted) for block, predicted in blocks))


def _caption(head: HeadKind) -> str:
    if head == "categorical":
        return "probability of the token that came, by the number of layers; from which on it is the likeliest"
    return "distance of the prediction to the data, by the number of layers; from which on it is within a tenth of the last"


def _cells(reading: IdReading | FlowReading, shown: Sequence[int]) -> list[str]:
    """A row of the table."""
    if isinstance(reading, IdReading):
        settled = "never" if reading.settled is None else str(reading.settled)
        return [*(f"{reading.probability[number]:.2f}" for number in shown), settled]
    return [*(f"{reading.to_data[number]:.2f}" for number in shown), str(near(reading))]


def near(reading: FlowReading, share: float = 0.1) -> int:
    """The fewest layers from which on the distance to the data stays within a share of the last one's."""
    bound = (1.0 + share) * reading.to_data[-1]
    return max((number + 1 for number, far in enumerate(reading.to_data) if far > bound), default=0)


def lens(subject: Subject, messages: Sequence[Message], answer: Message, *, part: int = 0, seed: int = 0) -> Lens:
    """Read one part of an answer to messages after every layer. Raises ConfigError, RowError."""
    if not answer.parts:
        raise ConfigError("got an empty answer; expected something to read")
    scorer = Scorer(subject.engine, messages, answer, Target(part), seed, flow_of(subject.config))
    return _IdLens(subject, scorer).read() if scorer.is_categorical else _FlowLens(subject, scorer).read()


class _Layers:
    """Hidden states of a scorer's row after every layer."""

    def __init__(self, subject: Subject, scorer: Scorer) -> None:
        self.scorer, self.network, self.check = scorer, subject.inside(), subject.check
        kept = len(scorer.row) * (self.network.trunk.config.num_layers + 1)
        if subject.most_tokens is not None and kept > subject.most_tokens:
            raise ConfigError(
                f"got {len(scorer.row):,} tokens, {kept:,} hidden states of all layers; expected at most {subject.most_tokens:,}"
            )
        self.batch = scorer.batch([scorer.row]).to(self.network.device)
        self.states = after_layers(self.network, self.batch)
        self.targets = targets_of(TOKEN, scorer, scorer.target.part)

    def lens(self, head: HeadKind, readings: Sequence[IdReading | FlowReading], **more: Any) -> Lens:
        """The lens of readings of the answer's first tokens."""
        tokens = [
            TokenLens(label, region, reading)
            for (_, label, region), reading in zip(self.targets, readings, strict=False)
        ]
        scorer = self.scorer
        asked = scorer.messages, scorer.answer, scorer.target.part
        return Lens(head, *asked, len(self.states) - 1, tuple(tokens), **more)


class _IdLens(_Layers):
    @torch.no_grad()
    def read(self) -> Lens:
        """Distributions over ids where the answer's ids follow."""
        target = self.batch.target.flatten()
        asking = (target >= 0).nonzero().flatten()[torch.from_numpy(self.scorer.chosen).to(target.device)]
        asking = asking[: len(self.targets)]
        wanted = target[asking]
        by_layer = []
        for state in self.states:
            self.check()
            by_layer.append(self._at_layer(self.network.logits(state[asking]), wanted))
        readings = []
        for number, index in enumerate(wanted.tolist()):
            of_layers = [layer[number] for layer in by_layer]
            readings.append(
                IdReading(
                    index,
                    tuple(probability for probability, _, _ in of_layers),
                    tuple(rank for _, rank, _ in of_layers),
                    tuple(best for _, _, best in of_layers),
                )
            )
        return self.lens("categorical", readings)

    def _at_layer(self, logits: Tensor, wanted: Tensor) -> list[tuple[float, int, tuple[Choice, ...]]]:
        """Of each token the probability and the rank of the id that came, and the likeliest ids."""
        probability = torch.softmax(logits, dim=-1)
        of_wanted = logits.gather(1, wanted[:, None])
        rank = (logits > of_wanted).sum(dim=1)
        best, ids = probability.topk(min(BEST, probability.shape[1]), dim=1)
        vocabulary = self.network.vocabulary
        choices = [
            tuple(Choice(index, text_of(index, vocabulary), chance) for index, chance in zip(*pair, strict=True))
            for pair in zip(ids.tolist(), best.tolist(), strict=True)
        ]
        return list(zip(probability.gather(1, wanted[:, None])[:, 0].tolist(), rank.tolist(), choices, strict=True))


class _FlowLens(_Layers):
    @torch.no_grad()
    def read(self) -> Lens:
        """Predictions of the answer's clean tokens from each of their noised copies."""
        name = self.scorer.kind
        noised, head = self.batch.noised[name], self.network.flows[name]
        expected = self.network.expected(name, noised.coordinates)
        predicted = []
        for state in self.states:
            self.check()
            predicted.append(head(state[noised.index], noised.inputs, noised.time, expected).float().cpu().numpy())
        time = noised.time.float().cpu().numpy()
        order = np.lexsort((time, self.scorer.token_numbers)).reshape(-1, COPIES)  # [tokens, copies]
        by_token = np.stack(predicted)[:, order]  # [layers + 1, tokens, copies, W]
        clean = noised.clean.float().cpu().numpy()[order]
        squares = np.stack(  # [2, layers + 1, tokens, copies]
            [np.square(by_token - reference).mean(axis=-1) for reference in (by_token[-1], clean)]
        )
        readings = [_flow_reading(squares[:, :, token]) for token in range(len(order))]
        times = [
            AtTime(float(time[order[:, copy]].mean()), _flow_reading(squares[..., copy])) for copy in range(COPIES)
        ]
        part = self.scorer.answer.parts[self.scorer.target.part]
        segment = self.scorer.encoder.encode_part(part)
        return self.lens(
            "flow", readings, times=tuple(times), predicted=by_token.transpose(0, 2, 1, 3), segment=segment
        )


def _flow_reading(squares: np.ndarray) -> FlowReading:
    """Root mean square distances from [2, layers + 1, n] squares."""
    to_last, to_data = np.sqrt(squares.mean(axis=-1))
    return FlowReading(tuple(map(float, to_last)), tuple(map(float, to_data)))


def text_of(index: int, vocabulary: Vocabulary) -> str:
    """An id in words: a mark by its name, an id of a modality as that writes it."""
    if index < len(vocabulary.names):
        return vocabulary.names[index]
    name = vocabulary.owner(index)
    ids = np.array([index - vocabulary.offsets[name]])
    return str(vocabulary.modalities[name].write(Segment(name, (Block((), ids),))).value)
