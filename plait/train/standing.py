"""Checkpoints that stand on others: what a fine-tuning writes, made whole, and taken apart again.

A checkpoint that stands on another holds what moved, such as adapters, and names the other by its hash. `merged` writes one that
stands alone: further sets of adapters become more ranks of the first ones, which is the same sum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plait.errors import CheckpointError, ConfigError
from plait.model.lora import expert_of
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.model.weights import ROWS_BY_MARK, Base, fitted
from plait.runtime.files import atomic_write
from plait.train import checkpoint

MERGED = "merged"  # of config.json: what a checkpoint was merged from


def under(model: MultimodalTransformer, folder: Path, config: Mapping[str, Any]) -> Base:
    """The checkpoint `folder` under a model that was just made from it: all tensors are its own but for those of
    the base below and for the marks, which may have grown."""
    below = model.base.tensors if model.base else frozenset[str]()
    weights = checkpoint.load_weights(folder, config)
    known = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    drawn = ROWS_BY_MARK if tuple(config["vocabulary"]) != model.vocabulary.names else ()
    names = {name for name, tensor in known.items() if name in weights and weights[name].shape == tensor.shape}
    return Base(checkpoint.name_of(folder), str(config.get(checkpoint.SEAL, "")), frozenset(names - below - {*drawn}))


def merged(folder: Path, target: Path) -> Path:
    """Write what the checkpoint `folder` and the one that it stands on are together to the new folder `target`; returns it.

    Raises ConfigError where `target` exists, CheckpointError for a checkpoint that stands on no other.
    """
    config = checkpoint.read_config(folder)
    if config["parent"] is None:
        done = "was merged already" if config.get(MERGED) else "stands on no other checkpoint"
        raise CheckpointError(f"{folder} {done}: nothing is to be merged; expected what plait finetune wrote")
    _refuse_existing(target)
    model, _ = checkpoint.load(folder)
    sets = _sets(model.trunk.config.adapters)
    weights = {name: tensor for name, tensor in model.state_dict().items() if ".adapters." not in name}
    weights |= _joined(model.state_dict(), sets)
    ranks = {expert: sum(of_sets.values()) for expert, of_sets in sets.items()}
    whole = _rebuilt(model, {"adapters": ranks}, weights)
    recipe = {**config["recipe"], "stands": False}
    recipe["trunk"] = {**recipe["trunk"], "adapters": ranks}
    assert model.parent is not None
    parent = checkpoint.stored_parent(model.parent, target)
    saved = checkpoint.save(target.with_name(f"{target.name}.{MERGED}"), whole, weights, recipe)
    _add_to_config(saved, {MERGED: {"parent": parent, "sets": sets, "recipe": config["recipe"]}})
    return saved.rename(target)  # only now: one without these facts could not be taken apart


def unmerged(folder: Path, target: Path) -> Path:
    """Take what `merged` wrote apart again: write what stood on the other checkpoint to the new folder `target`; returns it.

    Raises ConfigError where `target` exists, CheckpointError for a checkpoint that is not merged, or whose other one is not here.
    """
    config = checkpoint.read_config(folder)
    facts = config.get(MERGED)
    if not facts:
        raise CheckpointError(f"{folder} was not merged; expected what plait merge wrote")
    _refuse_existing(target)
    parent = checkpoint.parent_of(folder, facts["parent"])
    below = checkpoint.load_weights(parent, checkpoint.read_config(parent))
    model, _ = checkpoint.load(folder)
    sets: dict[str, dict[str, int]] = facts["sets"]
    weights = {name: tensor for name, tensor in model.state_dict().items() if ".adapters." not in name}
    weights |= _parted(model.state_dict(), sets)
    ranks = {name: rank for of_sets in sets.values() for name, rank in of_sets.items()}
    apart = _rebuilt(model, {"adapters": ranks}, weights)
    same = {name for name, tensor in weights.items() if name in below and torch.equal(below[name], tensor)}
    of_base = apart.base.tensors if apart.base else frozenset[str]()
    apart.parent = Base(checkpoint.name_of(parent), facts["parent"]["sha256"], frozenset(same - of_base))
    return checkpoint.save(target, apart, weights, facts["recipe"])


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise ConfigError(f"{target} exists; expected a new folder: choose another name")


def _sets(adapters: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Ranks of the sets of each expert, by the sets' names, in the order in which they are joined."""
    sets: dict[str, dict[str, int]] = {}
    for name in sorted(adapters):  # the expert's own, which is the shortest name, comes first
        sets.setdefault(expert_of(name), {})[name] = adapters[name]
    return sets


def _ends(tensors: Mapping[str, Tensor]) -> list[str]:
    """What the names of adapters begin with, but for the set: `trunk.layers.0.attention.adapters.out.down.`."""
    return sorted({name.rpartition(".")[0] + "." for name in tensors if ".adapters." in name})


def _axis(end: str) -> int:
    """The axis of ranks."""
    return 0 if end.endswith(".down.") else 1


def _joined(tensors: Mapping[str, Tensor], sets: Mapping[str, Mapping[str, int]]) -> dict[str, Tensor]:
    """Adapters whose sets are joined into one of each expert."""
    return {
        end + expert: torch.cat([tensors[end + name] for name in of_sets], dim=_axis(end))
        for end in _ends(tensors)
        for expert, of_sets in sets.items()
    }


def _parted(tensors: Mapping[str, Tensor], sets: Mapping[str, Mapping[str, int]]) -> dict[str, Tensor]:
    """The reverse of `_joined`."""
    return {
        end + name: part.contiguous()
        for end in _ends(tensors)
        for expert, of_sets in sets.items()
        for name, part in zip(
            of_sets, torch.split_with_sizes(tensors[end + expert], list(of_sets.values()), dim=_axis(end)), strict=True
        )
    }


def _rebuilt(
    model: MultimodalTransformer, changes: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> MultimodalTransformer:
    """The model with another configuration of its trunk and other weights, standing on the base alone."""
    trunk = TrunkConfig(**model.trunk.config.model_dump() | dict(changes))
    rebuilt = fitted(trunk, model.vocabulary, weights, model.vocabulary.names, tied=model.tied)
    rebuilt.base, rebuilt.unlearned = model.base, set(model.unlearned)
    rebuilt.shown_wordless, rebuilt.lexicon = set(model.shown_wordless), model.lexicon
    for key, memory in model.memories.items():
        rebuilt.memories[key] = memory
    return rebuilt


def _add_to_config(folder: Path, more: Mapping[str, Any]) -> None:
    config = {**json.loads((folder / checkpoint.CONFIG).read_text(encoding="utf-8")), **more}
    atomic_write(folder / checkpoint.CONFIG, checkpoint.as_json(checkpoint.sealed(config)))
