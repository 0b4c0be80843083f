"""Where a model computes, and in which numbers: one place for what differs between processors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.errors import ConfigError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str = "auto") -> torch.device:
    """`auto`: an NVIDIA or AMD GPU, else Apple's, else the CPU. Raises ConfigError for one that is not here."""
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in here.items() if there)
    if not here.get(name, False):
        raise ConfigError(
            f"device={name}: torch {torch.__version__} finds none here; expected one of "
            f"{', '.join(kind for kind, there in here.items() if there)}, or a build of torch for it: see plait doctor"
        )
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the processor multiplies in it (AVX-512 BF16; GPUs since Ampere), else float32."""
    import torch

    if name != "auto":
        return torch.float32 if name == "float32" else torch.bfloat16
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
