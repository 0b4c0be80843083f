"""Initial weights, drawn from the seed and the parameter's *name*, so that another module changes no other weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from plait.heads.flow import FlowHead
from plait.heads.projector import Projector
from plait.model.layers import Norm
from plait.model.lora import Adapters
from plait.model.transformer import Trunk


@runtime_checkable
class Draws(Protocol):
    """A module, such as one of a modality's own, that initialises its weights itself."""

    def draw(self, key: str, tensor: Tensor, generator: torch.Generator) -> None:
        """Fill the parameter `key` in place."""


def generator_of(seed: int, name: str) -> torch.Generator:
    """The random generator for the weights called `name`."""
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)  # torch takes 63 bits


def initialise(model: nn.Module, seed: int, only: Collection[str] | None = None) -> None:
    """Initialise weights in place: normal of variance 1 / fan-in, embeddings of variance 1, zero biases.

    The last weight of each residual branch is zero, so that a pre-norm trunk begins as the identity; a post-norm trunk has
    no identity path and keeps its branches. `only` names the parameters and buffers to initialise (default: all). Moves
    tensors on the `meta` device to the CPU first.
    """
    trunk = getattr(model, "trunk", None)
    embedding_std = trunk.config.embedding_rms if isinstance(trunk, Trunk) else 1.0
    zero_weights = set(_branch_ends(model)) | set(_adapter_ends(model))
    for prefix, module in model.named_modules():
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                name = f"{prefix}.{key}".lstrip(".")
                if tensor is None or (only is not None and name not in only):
                    continue
                if tensor.is_meta:
                    tensor = torch.empty_like(tensor, device="cpu")
                    tensors[key] = nn.Parameter(tensor) if tensors is module._parameters else tensor
                with torch.no_grad():
                    if name in zero_weights:
                        tensors[key].zero_()
                    else:
                        _fill(module, key, tensors[key], generator_of(seed, name), embedding_std)


def _branch_ends(model: nn.Module) -> Iterator[str]:
    """Yield the names of the last weights of residual branches in pre-norm trunks."""
    for prefix, trunk in model.named_modules():
        if isinstance(trunk, Trunk) and trunk.config.norm == "pre":
            for number in range(trunk.config.num_layers):
                for end in ("attention.out.weight", "feed_forward.down.weight"):
                    for owner in ("", *(f"experts.{name}." for name in trunk.config.split)):
                        yield f"{prefix}.{owner}layers.{number}.{end}".lstrip(".")


def _adapter_ends(model: nn.Module) -> Iterator[str]:
    """Yield the names of the second weights of adapters, which begin by adding nothing."""
    for prefix, module in model.named_modules():
        if isinstance(module, Adapters):
            yield from (f"{prefix}.up.{name}" for name in module.up)


def _fill(module: nn.Module, key: str, tensor: Tensor, generator: torch.Generator, embedding_std: float) -> None:
    """Initialise the parameter or buffer `key` of a module."""
    if isinstance(module, Draws):
        module.draw(key, tensor, generator)
    elif isinstance(module, nn.LayerNorm) and key == "weight":
        tensor.fill_(1.0)
    elif isinstance(module, nn.Linear) and key == "weight":
        tensor.normal_(std=1.0 / math.sqrt(module.in_features), generator=generator)
    elif isinstance(module, nn.ParameterDict):  # the first weights of adapters
        tensor.normal_(std=1.0 / math.sqrt(tensor.shape[1]), generator=generator)
    elif isinstance(module, Projector) and key == "gain":
        tensor.fill_(1.0)
    elif isinstance(module, nn.Embedding):
        tensor.normal_(std=embedding_std, generator=generator)
    elif isinstance(module, Norm) and key == "weight":
        tensor.fill_(0.0 if module.plus_one else 1.0)
    elif isinstance(module, FlowHead) and key in ("axes", "variance"):
        tensor.copy_(torch.eye(*tensor.shape) if key == "axes" else torch.ones_like(tensor))
    elif tensor.ndim == 1 or isinstance(module, FlowHead):
        tensor.zero_()
    else:
        raise AssertionError(f"no rule for the initial values of {type(module).__name__}.{key}")
