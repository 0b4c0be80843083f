"""Rows to packed batches: several rows share one sequence, and the mask keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plait.contract import Modality
from plait.data.sequence import FlowArrays, Row, join
from plait.data.vocabulary import Vocabulary

PADDING_ROW = -1


def best_fit(lengths: Sequence[int], bins: int, capacity: int, first: int = 0) -> tuple[list[list[int]], list[int]]:
    """Best-fit decreasing: indices of `lengths` in each bin, and the indices that found no place, in order.

    The `first` items are placed before the others, whatever their length.
    """
    contents: list[list[int]] = [[] for _ in range(bins)]
    room = np.full(bins, capacity)
    left = []
    for index in sorted(range(len(lengths)), key=lambda i: (i >= first, -lengths[i])):
        after = room - lengths[index]
        fits = np.flatnonzero(after >= 0)
        if not len(fits):
            left.append(index)
            continue
        chosen = int(fits[np.argmin(after[fits])])
        contents[chosen].append(index)
        room[chosen] -= lengths[index]
    return contents, sorted(left)


@dataclass
class FlowTokens:
    """Continuous tokens of one modality in a batch, as tensors; fields as in `FlowArrays`, `index` into [B * L]."""

    index: Tensor  # [n]
    inputs: Tensor  # [n, W]
    clean: Tensor  # [n, W]
    coordinates: Tensor  # [n, C]
    time: Tensor  # [n]
    learned: Tensor  # [n] bool


@dataclass
class Batch:
    """B packed sequences of L tokens. `ids` and `target` are -1 where there is none."""

    ids: Tensor  # [B, L]
    row: Tensor
    block: Tensor
    copy: Tensor
    position: Tensor
    target: Tensor
    continuous: dict[str, FlowTokens]
    counts: dict[str, int]  # targets of each loss group
    clean_tokens: int  # tokens counted once: the unit of tokens/s
    used: int  # tokens of B * L that are not padding

    @property
    def fill(self) -> float:
        return self.used / self.ids.numel()

    def to(self, device: torch.device) -> Batch:
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        tokens = {
            name: FlowTokens(*(move(getattr(part, field.name)) for field in fields(part)))
            for name, part in self.continuous.items()
        }
        places: dict[str, Any] = {
            name: move(getattr(self, name)) for name in ("ids", "row", "block", "copy", "position", "target")
        }
        return replace(self, continuous=tokens, **places)


def collate(sequences: Sequence[Sequence[Row]], length: int, vocabulary: Vocabulary) -> Batch:
    """Lay rows side by side in `len(sequences)` sequences of `length` tokens."""
    shape = (len(sequences), length)
    ids, block, copy, position = (np.full(shape, fill, np.int64) for fill in (-1, 0, 0, 0))
    target, row_id = np.full(shape, -1, np.int64), np.full(shape, PADDING_ROW, np.int64)
    pieces: dict[str, list[FlowArrays]] = {}
    clean_tokens = used = 0
    for b, rows in enumerate(sequences):
        at = 0
        for number, row in enumerate(rows):
            place = slice(at, at + len(row))
            ids[b, place], block[b, place], copy[b, place] = row.ids, row.block, row.copy
            position[b, place], target[b, place], row_id[b, place] = row.position, row.target, number
            for name, part in row.continuous.items():
                moved = FlowArrays(**{**part.__dict__, "index": part.index + (b * length + at)})
                pieces.setdefault(name, []).append(moved)
            at += len(row)
            clean_tokens += row.clean_tokens
        used += at
    ids[row_id == PADDING_ROW] = 0  # <pad>
    continuous = {
        name: _tokens(modality, pieces.get(name))
        for name, modality in vocabulary.modalities.items()
        if modality.head == "flow"
    }
    counts = dict.fromkeys(vocabulary.groups, 0)
    counts.update({name: int(tokens.learned.sum()) for name, tokens in continuous.items()})
    owners = np.bincount(vocabulary.group_of_id[target[target >= 0]], minlength=len(vocabulary.groups))
    for group, number in zip(vocabulary.groups, owners.tolist(), strict=True):
        counts[group] += number
    ids_, row_, block_, copy_, position_, target_ = map(torch.from_numpy, (ids, row_id, block, copy, position, target))
    return Batch(ids_, row_, block_, copy_, position_, target_, continuous, counts, clean_tokens, used)


def _tokens(modality: Modality, parts: list[FlowArrays] | None) -> FlowTokens:
    """Join; a modality absent from the batch gives empty tensors of the right widths."""
    if parts is None:
        width = modality.token_width
        return FlowTokens(
            torch.zeros(0, dtype=torch.long),
            torch.zeros(0, width),
            torch.zeros(0, width),
            torch.zeros(0, 0),
            torch.zeros(0),
            torch.zeros(0, dtype=torch.bool),
        )
    whole = join(parts)
    return FlowTokens(
        torch.from_numpy(whole.index),
        torch.from_numpy(np.ascontiguousarray(whole.inputs, np.float32)),
        torch.from_numpy(whole.clean),
        torch.from_numpy(whole.coordinates),
        torch.from_numpy(whole.time),
        torch.from_numpy(whole.learned),
    )
