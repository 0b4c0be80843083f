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
    them; `base` where none is written. Raises CheckpointError for what the trunk does not have: another scaling, heads that
    rotate in part, or layers that rotate otherwise."""
    written: dict[str, Any] = {"rope_theta": config.get("rope_theta"), "factor": None}
    for name in ("rope_parameters", "rope_scaling"):
        parameters = config.get(name) or {}
        if any(isinstance(value, Mapping) for value in parameters.values()):
            raise CheckpointError(f"config.json: {name} differs by layer; expected the same for all layers")
        written |= {("rope_type" if key == "type" else key): value for key, value in parameters.items()}
    refuse(config, "partial_rotary_factor", 1.0)
    refuse(written, "partial_rotary_factor", 1.0)
    theta, kind = float(written["rope_theta"] or base), written.get("rope_type") or "default"
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RotaryScaling(kind="linear", factor=setting(written, "factor"))
    if kind == "llama3":
        return theta, RotaryScaling(
            kind="llama3",
            factor=setting(written, "factor"),
            low_freq_factor=setting(written, "low_freq_factor"),
            high_freq_factor=setting(written, "high_freq_factor"),
            original_length=setting(written, "original_max_position_embeddings"),
        )
    raise CheckpointError(f"config.json: got rotary scaling {kind!r}; expected default, linear or llama3")


def written_rotary(base: float, scaling: RotaryScaling | None) -> dict[str, Any]:
    """`rotary`'s settings, as both versions of transformers read them."""
    if scaling is None:
        return {"rope_theta": base}
    parameters: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        parameters |= {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_length,
        }
    return {"rope_theta": base, "rope_scaling": parameters}


def joined(tensors: Mapping[str, Tensor], names: list[str]) -> Tensor:
    """Tensors of these names, one after the other along their rows. Raises CheckpointError for one that is missing or of
    another width."""
    missing = [name for name in names if name not in tensors]
    if missing:
        raise CheckpointError(f"the weights lack {', '.join(missing)}; copy the model again, with every shard")
    parts = [tensors[name] for name in names]
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = ", ".join(f"{name} {list(part.shape)}" for name, part in zip(names, parts, strict=True))
        raise CheckpointError(f"got weights of shapes that do not go together: {shapes}; copy the model again")
    return parts[0] if len(parts) == 1 else torch.cat(parts)
