"""A model's folder as Hugging Face lays it out: config.json and safetensors, whole or in shards.

Weights as pickle run code when they are opened, so they are refused, with the way to convert them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from plait.errors import CheckpointError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
CONVERT = (
    "from transformers import AutoModelForCausalLM; "
    "AutoModelForCausalLM.from_pretrained('FOLDER').save_pretrained('OTHER')"
)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises CheckpointError for a file that is missing or no JSON object."""
    file = folder / CONFIG
    if not file.is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}; expected a model's folder as Hugging Face lays it out")
    return _json_object(file)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's safetensors, by their names there.

    Raises CheckpointError for a folder that has only pickles, for a shard that is missing, damaged or outside the folder,
    and for a tensor that no shard has.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; expected a model's as Hugging Face lays it out")
    if (folder / WEIGHTS).is_file():
        return _load(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _sharded(folder)
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise CheckpointError(
            f"{folder} has its weights in {pickles[0]}, which may run any code when it is opened; expected {WEIGHTS}. "
            f'Where you trust its source, convert it with python -c "{CONVERT}"'
        )
    raise CheckpointError(f"{folder} has no weights; expected {WEIGHTS}, or {INDEX} and its shards")


def _json_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is no JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} holds a {type(value).__name__}; expected an object")
    return value


def _sharded(folder: Path) -> dict[str, Tensor]:
    where: Mapping[str, str] = _json_object(folder / INDEX).get("weight_map", {})
    if not where or not isinstance(where, dict) or not all(isinstance(shard, str) for shard in where.values()):
        raise CheckpointError(f"{folder / INDEX} has no weight_map from tensors to shards; copy the model again, whole")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointError(f"{folder / INDEX} names the shard {shard!r}; expected a safetensors file beside it")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{folder} lacks the shard {shard} that {INDEX} names; copy the model again, whole")
        tensors |= _load(folder / shard)
    if missing := sorted(set(where) - set(tensors)):
        raise CheckpointError(
            f"no shard of {folder} holds {missing[0]}, which {INDEX} names; copy the model again, whole"
        )
    return tensors


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(file))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged or cut short ({error}); copy it again") from error
