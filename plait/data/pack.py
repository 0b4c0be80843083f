"""Packs rows into batches: several rows share one sequence, and the attention mask separates them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from plait.contract import Modality
from plait.data.row import Alignment, FlowArrays, Row, join
from plait.data.vocabulary import Vocabulary

PADDING_ROW = -1
SHARED_ROW = -2  # of what several rows of a sequence begin with


def best_fit(lengths: Sequence[int], bins: int, capacity: int, first: int = 0) -> tuple[list[list[int]], list[int]]:
    """Best-fit decreasing bin packing: indices of `lengths` in each bin, and the ascending indices that fit in none.

    Places the `first` items before the others, whatever their length.
    """
    contents: list[list[int]] = [[] for _ in range(bins)]
    room = np.full(bins, capacity)
    unplaced = []
    for index in sorted(range(len(lengths)), key=lambda i: (i >= first, -lengths[i])):
        room_after = room - lengths[index]
        fits = np.flatnonzero(room_after >= 0)
        if not len(fits):
            unplaced.append(index)
            continue
        tightest = int(fits[np.argmin(room_after[fits])])
        contents[tightest].append(index)
        room[tightest] -= lengths[index]
    return contents, sorted(unplaced)


@dataclass
class FlowTokens:
    """Continuous tokens of one modality in a batch, as tensors; fields as in `FlowArrays`, `index` into [B * L]."""

    index: Tensor  # [n]
    inputs: Tensor  # [n, W]
    clean: Tensor  # [n, W]
    coordinates: Tensor  # [n, C]
    time: Tensor  # [n]


@dataclass
class TableIds:
    """Tokens of one table in a batch: their indices into [B * L], and their ids in the table."""

    index: Tensor  # [n]
    ids: Tensor  # [n]


Tokens = TypeVar("Tokens", FlowTokens, TableIds)


@dataclass
class Batch:
    """B packed sequences of L tokens. `ids` and `target` are -1 where there is none."""

    ids: Tensor  # [B, L]
    row: Tensor  # numbered over the batch; SHARED_ROW for what rows begin with
    block: Tensor
    copy: Tensor
    position: Tensor
    target: Tensor
    expert: Tensor
    shares: Tensor  # bool: whether a token's row begins with the SHARED_ROW of its sequence
    tables: dict[str, TableIds]
    clean: dict[str, FlowTokens]
    noised: dict[str, FlowTokens]  # has every flow modality, also without tokens
    counts: dict[str, int]  # targets of each loss group
    clean_tokens: int  # tokens counted once: the unit of tokens/s
    used: int  # tokens of B * L that are not padding
    alignment: dict[int, Alignment] = field(default_factory=dict)  # by the number of the row
    rejected: dict[int, int] = field(default_factory=dict)  # the row of what was rejected, by that of what was chosen
    advantages: dict[int, float] = field(default_factory=dict)  # by the number of the row
    recalled: tuple[int, ...] = ()  # rows whose targets are what the model told when the training began
    examples: dict[str, tuple[Tensor, Tensor]] = field(
        default_factory=dict
    )  # for trained parts of codecs, by modality: what goes in, what should come out, [n, ...] each

    @property
    def fill(self) -> float:
        """Share of the B * L tokens that are not padding."""
        return self.used / self.ids.numel()

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        if self.ids.device == device:
            return self

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        def move_all(parts: dict[str, Tokens]) -> dict[str, Tokens]:
            return {
                name: type(part)(*(move(getattr(part, known.name)) for known in fields(part)))
                for name, part in parts.items()
            }

        tensors: dict[str, Any] = {
            name: move(getattr(self, name))
            for name in ("ids", "row", "block", "copy", "position", "target", "expert", "shares")
        }
        return replace(
            self,
            tables=move_all(self.tables),
            clean=move_all(self.clean),
            noised=move_all(self.noised),
            examples={name: (move(inputs), move(targets)) for name, (inputs, targets) in self.examples.items()},
            **tensors,
        )


def collate(
    sequences: Sequence[Sequence[Row]],
    length: int,
    vocabulary: Vocabulary,
    preamble: Row | Sequence[Row | None] | None = None,
) -> Batch:
    """Concatenate the rows of each sequence and pad it to `length` tokens: B = `len(sequences)`, L = `length`.

    With a `preamble`, one for all as in training or one for each, a sequence with rows that share it begins with it, and they
    follow without it.
    """
    shape = (len(sequences), length)
    ids, block, copy, position, expert = (np.full(shape, fill, np.int64) for fill in (-1, 0, 0, 0, 0))
    target, row_id = np.full(shape, -1, np.int64), np.full(shape, PADDING_ROW, np.int64)
    clean, noised = dict[str, list[FlowArrays]](), dict[str, list[FlowArrays]]()
    examples: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    shares = np.zeros(shape, bool)
    clean_tokens = used = number = 0
    for b, (whole_rows, own_preamble) in enumerate(_with_preambles(sequences, preamble)):
        start = 0
        for row, row_number, is_sharing in _numbered(whole_rows, own_preamble, number):
            span = slice(start, start + len(row))
            ids[b, span], block[b, span], copy[b, span] = row.ids, row.block, row.copy
            position[b, span], target[b, span], row_id[b, span] = row.position, row.target, row_number
            expert[b, span], shares[b, span] = row.expert, is_sharing
            for parts, collected in ((row.clean, clean), (row.noised, noised)):
                for name, part in parts.items():
                    collected.setdefault(name, []).append(replace(part, index=part.index + (b * length + start)))
            for name, given, wanted in row.examples:
                examples.setdefault(name, []).append((given, wanted))
            start += len(row)
            clean_tokens += row.clean_tokens
        number += len(whole_rows)
        used += start
    ids[row_id == PADDING_ROW] = 0  # <pad>
    flows = {name: modality for name, modality in vocabulary.modalities.items() if modality.head == "flow"}
    rows = [row for whole_rows in sequences for row in whole_rows]
    return Batch(
        ids=torch.from_numpy(ids),
        row=torch.from_numpy(row_id),
        block=torch.from_numpy(block),
        copy=torch.from_numpy(copy),
        position=torch.from_numpy(position),
        target=torch.from_numpy(target),
        expert=torch.from_numpy(expert),
        shares=torch.from_numpy(shares),
        tables=_tables(ids.ravel(), vocabulary),
        clean={name: _tokens(flows.get(name), parts) for name, parts in clean.items()},
        noised={name: _tokens(modality, noised.get(name)) for name, modality in flows.items()},
        counts=_counts(vocabulary, target, noised),
        clean_tokens=clean_tokens,
        used=used,
        alignment={n: row.alignment for n, row in enumerate(rows) if row.alignment is not None},
        rejected={n: n + 1 for n, row in enumerate(rows) if row.rejected is not None},
        advantages={n: row.advantage for n, row in enumerate(rows) if row.advantage is not None},
        recalled=tuple(n for n, row in enumerate(rows) if row.recalled),
        examples={
            name: (_stacked(a for a, _ in pairs), _stacked(b for _, b in pairs)) for name, pairs in examples.items()
        },
    )


def _with_preambles(
    sequences: Sequence[Sequence[Row]], preamble: Row | Sequence[Row | None] | None
) -> Iterator[tuple[Sequence[Row], Row | None]]:
    """Each sequence with the preamble that is its own, or that of all."""
    if preamble is None or isinstance(preamble, Row):
        return ((rows, preamble) for rows in sequences)
    return zip(sequences, preamble, strict=True)


def _counts(vocabulary: Vocabulary, target: np.ndarray, noised: Mapping[str, Sequence[FlowArrays]]) -> dict[str, int]:
    """Targets of each loss group: ids, and noised tokens of each flow modality."""
    counts = dict(zip(vocabulary.groups, vocabulary.counts(target[target >= 0]).tolist(), strict=True))
    for name, parts in noised.items():
        counts[name] += sum(len(part.index) for part in parts)
    return counts


def _numbered(rows: Sequence[Row], preamble: Row | None, first: int) -> Iterator[tuple[Row, int, bool]]:
    """The rows of a sequence, their numbers and whether they share the preamble, which then comes first, and they lack it."""
    if preamble is None or not any(row.shared for row in rows):
        yield from ((row, number, False) for number, row in enumerate(rows, first))
        return
    yield preamble, SHARED_ROW, False
    yield from ((_without_shared(row), number, row.shared > 0) for number, row in enumerate(rows, first))


def _without_shared(row: Row) -> Row:
    """A row without the tokens that it shares with others; the same row if there are none."""
    if not row.shared:
        return row
    rest = {name: getattr(row, name)[row.shared :] for name in ("ids", "block", "copy", "position", "target", "expert")}
    clean, noised = (
        {name: own for name, part in parts.items() if len((own := _between(part, row.shared, len(row))).index)}
        for parts in (row.clean, row.noised)
    )
    remaining = row.clean_tokens - row.shared
    return replace(row, **rest, clean=clean, noised=noised, clean_tokens=remaining, shared=0, spans=[])


def _stacked(arrays: Iterable[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(list(arrays)))


def _tables(ids: np.ndarray, vocabulary: Vocabulary) -> dict[str, TableIds]:
    """[B * L] ids, split by table; flow tokens (-1) belong to none."""
    tables, first = {}, 0
    for name, size in vocabulary.tables.items():
        index = np.flatnonzero((ids >= first) & (ids < first + size))
        tables[name] = TableIds(torch.from_numpy(index), torch.from_numpy(ids[index] - first))
        first += size
    return tables


def _tokens(modality: Modality | None, arrays: list[FlowArrays] | None) -> FlowTokens:
    """The concatenated arrays as tensors; empty ones of the right widths for a modality absent from the batch. Features of a
    reader, which have no modality, keep their dtype."""
    if not arrays:
        assert modality is not None
        width = modality.token_width
        return FlowTokens(
            torch.zeros(0, dtype=torch.long),
            torch.zeros(0, width),
            torch.zeros(0, width),
            torch.zeros(0, 0),
            torch.zeros(0),
        )
    joined = join(arrays)
    if modality is None:
        inputs, clean = torch.from_numpy(np.array(joined.inputs)), torch.zeros(len(joined.index), 0)
    else:
        inputs = torch.from_numpy(np.ascontiguousarray(joined.inputs, np.float32))
        clean = torch.from_numpy(joined.clean)
    return FlowTokens(
        torch.from_numpy(joined.index),
        inputs,
        clean,
        torch.from_numpy(joined.coordinates),
        torch.from_numpy(joined.time),
    )


def beginning(row: Row, length: int) -> Row:
    """The first `length` tokens of a row without copies, as what other rows may begin with: no targets, no alignment."""
    cut = {name: getattr(row, name)[:length] for name in ("ids", "block", "copy", "position", "target", "expert")}
    clean = {name: own for name, part in row.clean.items() if len((own := _between(part, 0, length)).index)}
    return Row(**cut | {"target": np.full_like(cut["target"], -1)}, clean=clean, clean_tokens=length)


def _between(part: FlowArrays, first: int, last: int) -> FlowArrays:
    """The tokens of a row's part from `first` to before `last`, numbered from there."""
    kept = (part.index >= first) & (part.index < last)
    own = {known.name: getattr(part, known.name)[kept] for known in fields(part)}
    return replace(part, **own | {"index": own["index"] - first})


def begin_alike(one: Row, other: Row, length: int) -> bool:
    """Whether the first `length` tokens of two rows without copies are alike, their media included."""
    alike = all(
        np.array_equal(getattr(one, name)[:length], getattr(other, name)[:length])
        for name in ("ids", "block", "copy", "position", "expert")
    )
    media, others = beginning(one, length).clean, beginning(other, length).clean
    return (
        alike
        and media.keys() == others.keys()
        and all(np.array_equal(part.inputs, others[name].inputs) for name, part in media.items())
    )
