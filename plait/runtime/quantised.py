"""Weights in fewer bits: groups of GROUP that share a scale, as the kernels read them (plait.runtime.kernels).

Values are chosen by the least squared error of each group, without looking at data.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from plait.errors import ConfigError
from plait.runtime import kernels
from plait.runtime.kernels import GROUP, MOST

BITS = (8, 4)
TRIED = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # ranges of a group in 4 bits, as shares of its own
ROWS = 4096  # quantised at once


@dataclass(frozen=True)
class Quantised:
    """A matrix [rows, columns] of groups of GROUP weights. In 8 bits: `values` [rows, columns] int8, times `scales` [rows, columns / GROUP]
    float16. In 4: `values` [rows, columns / 2] uint8 of two each, element j of a group in the low bits and element j + 16 in the high
    ones; times `scales` and plus `least`, which has their shape."""

    values: Tensor
    scales: Tensor
    least: Tensor | None
    bits: int

    def dequantised(self) -> Tensor:
        """[rows, columns] float32."""
        rows, scales = len(self.values), self.scales.float()
        if self.least is None:
            return (self.values.view(rows, -1, GROUP).float() * scales[..., None]).view(rows, -1)
        pairs = self.values.view(rows, -1, GROUP // 2)
        groups = torch.cat((pairs & 15, pairs >> 4), dim=-1).float()
        return (groups * scales[..., None] + self.least[..., None].float()).view(rows, -1)

    def matrix(self, bias: Tensor | None = None) -> kernels.Matrix:
        """What the kernels read; its pointers live as long as this and the float32 `bias`."""
        rows, groups = self.scales.shape
        least, to_bias = (None if tensor is None else tensor.data_ptr() for tensor in (self.least, bias))
        values, scales = self.values.data_ptr(), self.scales.data_ptr()
        return kernels.Matrix(values, scales, least, to_bias, rows, groups * GROUP, self.bits)

    def product(self, x: Tensor) -> Tensor | None:
        """[N, columns] -> [N, rows] in the dtype of `x`, by the kernel; None without it."""
        library = kernels.library() if x.device.type == "cpu" else None
        if library is None:
            return None
        matrix, inputs, threads = self.matrix(), x.float().contiguous(), kernels.team(torch.get_num_threads())
        y = torch.empty(len(x), len(self.values), dtype=torch.float32, device="cpu")
        for few, output in zip(inputs.split(MOST), y.split(MOST), strict=True):  # type: ignore[no-untyped-call]
            library.multiply(ctypes.byref(matrix), few.data_ptr(), output.data_ptr(), len(few), threads)
        return y.to(x.dtype)


def quantise(weight: Tensor, bits: int) -> Quantised:
    """[rows, columns] weights in 8 or 4 bits. Raises ConfigError for other numbers, or columns that make no whole groups."""
    if bits not in BITS:
        raise ConfigError(f"got {bits} bits; expected 8 or 4")
    if weight.shape[1] % GROUP:
        raise ConfigError(f"got weights of {weight.shape[1]} columns; expected a multiple of {GROUP}")
    if not weight.isfinite().all():
        raise ConfigError("got weights that are not finite; expected those of a training that did not fail")
    in_bits = _in_8 if bits == 8 else _in_4
    parts = [in_bits(part.view(len(part), -1, GROUP)) for part in torch.split(weight.detach().float(), ROWS)]
    values, *scales = (torch.cat(of_parts) for of_parts in zip(*parts, strict=True))
    return Quantised(values, scales[0], scales[1] if bits == 4 else None, bits)


def _in_8(groups: Tensor) -> tuple[Tensor, ...]:
    largest = groups.abs().amax(dim=-1)
    scales = (largest / 127.0).half()
    too_small = scales.float() * 127.5 < largest  # near zero float16 has few digits
    scales = torch.where(too_small, (largest / 127.0 * (1 + 2**-10) + 2**-24).half(), scales)
    values = (groups / _divisor(scales)).round().clamp(-127, 127).to(torch.int8)
    return values.flatten(1), scales


def _in_4(groups: Tensor) -> tuple[Tensor, ...]:
    """From 0 to 15, between the least and the largest weight of a group, or a narrower range where that is nearer."""
    low, high = groups.amin(dim=-1), groups.amax(dim=-1)
    middle, half = (low + high) / 2, (high - low) / 2
    best = torch.full(low.shape, torch.inf)
    scales, least = torch.zeros(2, *low.shape, dtype=torch.float16)
    for share in TRIED:
        tried, tried_least = (half * share / 7.5).half(), (low if share == 1.0 else middle - half * share).half()
        errors = _rounded(groups, tried, tried_least) * tried[..., None].float() + tried_least[..., None] - groups
        squares = errors.square().sum(dim=-1)
        scales, least = (torch.where(squares < best, *pair) for pair in ((tried, scales), (tried_least, least)))
        best = torch.minimum(squares, best)
    values = _rounded(groups, scales, least).to(torch.uint8)
    return (values[..., : GROUP // 2] | (values[..., GROUP // 2 :] << 4)).flatten(1), scales, least


def _rounded(groups: Tensor, scales: Tensor, least: Tensor) -> Tensor:
    return ((groups - least[..., None].float()) / _divisor(scales)).round().clamp(0, 15)


def _divisor(scales: Tensor) -> Tensor:
    """[..., 1] float32, never zero: a group of equals stays one."""
    return torch.where(scales == 0, 1.0, scales.float())[..., None]
