"""Weights in fewer bits, to store and to carry: bfloat16, int8 with a scale for each row, or int4 with one for every GROUP numbers.

In int8 a scale makes the largest number of its row 127, so no number is off by more than 1/254 of the row's largest. In int4 the
scale of a group is the one of a few that is least off in squares. Vectors, and matrices too small to matter, keep their precision;
what does not divide into groups is int8 instead of int4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16", "int8", "int4"]
SCALE = ".scale_of_int8"  # behind the name of the tensor that it belongs to
SCALES = ".scales_of_int4"  # [rows, groups] float16
LEAST = 4096  # numbers of a matrix that is worth it
GROUP = 64  # numbers of a row that share a scale in int4
MOST = 7  # of a number in int4, times its scale
# Times the scale that holds the largest number of a group: where that one is cut, the others gain.
SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


def lowered(weights: Mapping[str, Tensor], precision: Precision | Mapping[str, Precision]) -> dict[str, Tensor]:
    """Weights in a precision, or each in that of the first pattern which its name fits; `restored` is the way back. Raises
    KeyError for a name that fits none."""
    lower: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        wanted = precision if isinstance(precision, str) else _first(name, precision)
        if wanted == "float32":
            lower[name] = tensor.float()
        elif tensor.ndim < 2 or tensor.numel() < LEAST:
            lower[name] = tensor
        elif wanted == "bfloat16":
            lower[name] = tensor.to(torch.bfloat16)
        elif wanted == "int4" and tensor.ndim == 2 and tensor.shape[1] % GROUP == 0:
            lower[name], lower[name + SCALES] = _in_int4(tensor.float())
        else:
            rows = tensor.float().flatten(1)
            scale = rows.abs().amax(dim=1).clamp_min(1e-12) / 127.0
            lower[name] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
            lower[name + SCALE] = scale
    return lower


def _first(name: str, precisions: Mapping[str, Precision]) -> Precision:
    for pattern, precision in precisions.items():
        if fnmatchcase(name, pattern):
            return precision
    raise KeyError(f"{name} fits none of {', '.join(precisions)}")


def _in_int4(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, columns] float32 -> two numbers a byte [rows, columns / 2] uint8, and the scales [rows, groups] float16."""
    groups = matrix.reshape(len(matrix), -1, GROUP)
    largest = groups.abs().amax(dim=2, keepdim=True).clamp_min(1e-4) / MOST  # smaller ones have no room in float16
    scales, least = largest, torch.full_like(largest, torch.inf)
    for share in SHRUNK:
        scale = (share * largest).half().float()
        rounded = (groups / scale).round().clamp(-MOST, MOST) * scale
        off = (rounded - groups).square().sum(dim=2, keepdim=True)
        scales, least = torch.where(off < least, scale, scales), torch.minimum(off, least)
    numbers = ((groups / scales).round().clamp(-MOST, MOST) + MOST + 1).to(torch.uint8).flatten(1)
    return numbers[:, ::2] | numbers[:, 1::2] << 4, scales.squeeze(2).half()


def _from_int4(packed: Tensor, scales: Tensor) -> Tensor:
    numbers = torch.stack((packed & 15, packed >> 4), dim=2).flatten(1).float() - (MOST + 1)
    return (numbers.reshape(len(numbers), -1, GROUP) * scales.float()[:, :, None]).flatten(1)


def restored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float32, whatever precision they were stored in. Raises KeyError for int8 and int4 without their scales."""
    whole: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.endswith((SCALE, SCALES)):
            continue
        if tensor.dtype == torch.int8:
            scale = weights[name + SCALE]
            whole[name] = (tensor.float().flatten(1) * scale[:, None]).view(tensor.shape)
        elif tensor.dtype == torch.uint8:
            whole[name] = _from_int4(tensor, weights[name + SCALES])
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
