"""Resolves the device and the dtype of a model: the only module that knows the differences between processors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plait.errors import ConfigError

if TYPE_CHECKING:
    import torch


DTYPES = ("auto", "float32", "bfloat16", "int8", "int4")


def resolve_device(name: str = "auto") -> torch.device:
    """`auto`: an NVIDIA or AMD GPU, else Apple's, else the CPU. Raises ConfigError for an unavailable device."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_available in available.items() if is_available)
    if not available.get(name, False):
        raise ConfigError(
            f"device={name}: torch {torch.__version__} finds none here; expected one of "
            f"{', '.join(kind for kind, is_available in available.items() if is_available)}, or a build of torch for it: see plait doctor"
        )
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the processor multiplies in it (AVX-512 BF16; GPUs since Ampere), else float32. int8 and int4, which are
    for weights, compute in bfloat16. Raises ConfigError for another name."""
    import torch

    if name not in DTYPES:
        raise ConfigError(f"got dtype={name}; expected {', '.join(DTYPES)}")
    if name != "auto":
        return torch.float32 if name == "float32" else torch.bfloat16
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def with_dtype(path: Path, dtype: str = "auto") -> tuple[Path, str]:
    """A checkpoint's path and the dtype that stands behind it, as in smol@int8, or else `dtype`; what exists under the whole name is a
    path. Raises ConfigError for another dtype."""
    name, separator, wished = str(path).rpartition("@")
    if not (separator and name) or "/" in wished or path.exists():
        return path, dtype
    if wished not in DTYPES:
        raise ConfigError(
            f"got {path}, which is not there; expected a checkpoint, or a dtype behind @: {', '.join(DTYPES)}"
        )
    if dtype not in ("auto", wished):
        raise ConfigError(f"got {path} in {dtype}; expected one dtype: behind the path, or beside it")
    return Path(name), wished


def bits_of(name: str) -> int:
    """Bits of a weight in a dtype of whole numbers; 0 for others."""
    return {"int8": 8, "int4": 4}.get(name, 0)


def fused_attention_in_bfloat16(device: torch.device) -> bool:
    """Whether torch's fused attention is faster in bfloat16 than in float32, without gradients: on GPUs, and on processors
    with AMX (docs/experiments/decoding.md)."""
    import torch

    return device.type != "cpu" or bool(torch.cpu._is_amx_tile_supported())
