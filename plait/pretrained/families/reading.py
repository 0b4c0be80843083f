"""What the families' files share: settings out of a configuration, and weights by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from plait.errors import CheckpointError
from plait.model.rope import RotaryScaling

Config = Mapping[str, Any]
Weights = dict[str, Tensor]


def setting(config: Config, name: str) -> Any:
    """A setting that a configuration must have. Raises CheckpointError if it has not."""
    if config.get(name) is None:
        raise CheckpointError(f"config.json lacks {name}; expected the file that came with the weights, whole")
    return config[name]


def refuse(config: Config, name: str, *fine: Any) -> None:
    """Raise CheckpointError if a setting has a value that changes what is computed in a way the trunk cannot follow."""
    value = config.get(name)
    if value is not None and value not in fine:
        raise CheckpointError(
            f"config.json: got {name}={value!r}; expected {' or '.join(map(repr, fine))}: the trunk has nothing else"
        )


def rotary(config: Config, base: float = 10_000.0) -> tuple[float, RotaryScaling | None]:
    """Base and scaling of rotary positions, as transformers 4 (`rope_theta`, `rope_scaling`) or 5 (`rope_parameters`) write
    them. Raises CheckpointError for a scaling that the trunk does not have."""
    parameters = config.get("rope_parameters") or {}
    scaling = {**parameters, **(config.get("rope_scaling") or {})}
    theta = float(scaling.pop("rope_theta", None) or config.get("rope_theta") or base)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RotaryScaling(kind="linear", factor=scaling["factor"])
    if kind == "llama3":
        return theta, RotaryScaling(
            kind="llama3",
            factor=scaling["factor"],
            low_freq_factor=scaling["low_freq_factor"],
            high_freq_factor=scaling["high_freq_factor"],
            original_length=scaling["original_max_position_embeddings"],
        )
    raise CheckpointError(f"config.json: got rotary scaling {kind!r}; expected default, linear or llama3")


def joined(tensors: Mapping[str, Tensor], names: list[str]) -> Tensor:
    """Tensors of these names, one after the other along their rows. Raises CheckpointError for one that is missing."""
    missing = [name for name in names if name not in tensors]
    if missing:
        raise CheckpointError(f"the weights lack {', '.join(missing)}; copy the model again, with every shard")
    return tensors[names[0]] if len(names) == 1 else torch.cat([tensors[name] for name in names])
