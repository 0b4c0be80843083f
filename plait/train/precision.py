"""Weights in fewer bits, to store and to carry: bfloat16, or int8 with a scale for each row.

A scale makes the largest number of its row 127, so no number is off by more than 1/254 of the row's largest. Vectors, and
matrices too small to matter, keep their precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16", "int8"]
SCALE = ".scale_of_int8"  # behind the name of the tensor that it belongs to
LEAST = 4096  # numbers of a matrix that is worth it


def lowered(weights: Mapping[str, Tensor], precision: Precision) -> dict[str, Tensor]:
    """Weights in a precision; `restored` is the way back."""
    if precision == "float32":
        return {name: tensor.float() for name, tensor in weights.items()}
    lower: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2 or tensor.numel() < LEAST:
            lower[name] = tensor
        elif precision == "bfloat16":
            lower[name] = tensor.to(torch.bfloat16)
        else:
            rows = tensor.float().flatten(1)
            scale = rows.abs().amax(dim=1).clamp_min(1e-12) / 127.0
            lower[name] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
            lower[name + SCALE] = scale
    return lower


def restored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float32, whatever precision they were stored in. Raises KeyError for int8 without its scale."""
    whole: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.endswith(SCALE):
            continue
        if tensor.dtype == torch.int8:
            scale = weights[name + SCALE]
            whole[name] = (tensor.float().flatten(1) * scale[:, None]).view(tensor.shape)
        else:
            whole[name] = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    return whole


def shards(weights: Mapping[str, Tensor], mebibytes: float) -> Iterator[dict[str, Tensor]]:
    """Weights by name, in parts of at most so many MiB; a larger tensor is a part by itself."""
    part: dict[str, Tensor] = {}
    size = 0.0
    for name, tensor in sorted(weights.items()):
        needed = tensor.numel() * tensor.element_size() / 2**20
        if part and size + needed > mebibytes - 0.25:  # room for the names
            yield part
            part, size = {}, 0.0
        part[name] = tensor.contiguous()
        size += needed
    if part:
        yield part
