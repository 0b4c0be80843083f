"""Elements, the runs of tokens that a sample consists of, and rows, the arrays they become (docs/notation.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from plait.data.vocabulary import SHARED_EXPERT

NO_TARGET = -1


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
    noise: np.ndarray | None = None  # that all its copies have; none: each its own

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


@dataclass(frozen=True)
class Alignment:
    """How the features of a row of some task are aligned with its answer (plait.train.objectives.align)."""

    how: str
    task: str
    answer: np.ndarray  # [n] letters, or ids of words


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
    alignment: Alignment | None = None
    rejected: Row | None = None  # the row of the answer that was rejected, of a preference
    advantage: float | None = (
        None  # how much better its answer is than others to the same (plait.train.objectives.grpo)
    )
    recalled: bool = (
        False  # its targets are what the model told when the training began (plait.train.objectives.recall)
    )
    shared: int = 0  # tokens that it begins with as others do: a batch may hold them once (plait.data.pack.collate)
    examples: list[tuple[str, np.ndarray, np.ndarray]] = field(
        default_factory=list
    )  # for trained parts of codecs: the modality, what goes in, what should come out

    def __len__(self) -> int:
        return len(self.ids)


def lay_out_clean(elements: list[Element]) -> Row:
    """The row of `elements` without noised copies; deterministic."""
    builder = RowBuilder()
    for element in elements:
        builder.add_clean(element)
    return builder.row()


def add_noise(clean: np.ndarray, time: float, rng: np.random.Generator, noise: np.ndarray | None = None) -> np.ndarray:
    """z = t x + (1 - t) noise, of the shape of `clean`; at t = 1 draws nothing and returns x itself. `noise` is drawn if
    none is given."""
    if time == 1.0:
        return clean
    if noise is None:
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
    return time * clean + (1.0 - time) * noise


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


def with_rejected(row: Row) -> tuple[Row, ...]:
    """A row, and after it that of the answer that was rejected, of a preference."""
    return (row,) if row.rejected is None else (row, row.rejected)


def join(arrays: list[FlowArrays]) -> FlowArrays:
    """Concatenate at least one `FlowArrays` along tokens."""
    if len(arrays) == 1:
        return arrays[0]
    names = ("index", "inputs", "clean", "coordinates", "time")
    return FlowArrays(*(np.concatenate([getattr(part, name) for part in arrays]) for name in names))
