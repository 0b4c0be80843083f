"""A checkpoint is a folder: config.json, model.safetensors (EMA weights), the modalities' files. Never pickle.

A folder is written beside its place under a temporary name, synced, and renamed, so a half-written checkpoint never
has a checkpoint's name. config.json holds the checksum of every other file.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from plait import registry
from plait.contract import Modality
from plait.data.vocabulary import Vocabulary
from plait.errors import CheckpointError
from plait.files import sha256_of, sync
from plait.model.braid import Braid
from plait.model.transformer import TrunkConfig

FORMAT = 4
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SEAL = "config_sha256"
STATE_TENSORS, STATE_JSON = "train_state.safetensors", "train_state.json"
SEALED_SINCE = 3  # format
STEP_NAME = "step-{:08d}"


@dataclass
class TrainState:
    """What a resumed run needs beyond the EMA weights: raw weights and optimizer tensors by name, counters as JSON."""

    tensors: dict[str, Tensor]
    counters: dict[str, Any]


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(as_json(value), encoding="utf-8")


def sealed(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with the hash of its own content, the seal apart."""
    bare = {key: value for key, value in config.items() if key != SEAL}
    told = json.dumps(bare, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return {**bare, SEAL: hashlib.sha256(told).hexdigest()}


def _modality_files(modality: Modality) -> tuple[dict[str, Any], dict[str, Any]]:
    """A modality's state without, and only with, the keys `NAME_json`, which become files `NAME.json`."""
    state = modality.state()
    files = {f"{key[:-5]}.json": value for key, value in state.items() if key.endswith("_json")}
    return {key: value for key, value in state.items() if not key.endswith("_json")}, files


def save(
    folder: Path,
    model: Braid,
    weights: Mapping[str, Tensor],
    recipe: Mapping[str, Any],
    state: TrainState | None = None,
) -> Path:
    """Write a checkpoint folder; `weights` (the EMA) take the place of the model's own.

    Whatever stood at `folder` is replaced only when the new one is whole.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial / WEIGHTS)
    modalities: dict[str, Any] = {}
    for name, modality in model.vocabulary.modalities.items():
        modalities[name], files = _modality_files(modality)
        for file_name, value in files.items():
            if (partial / file_name).exists():
                raise CheckpointError(
                    f"modality {name!r} wants a file {file_name} that another one has; rename its state's key"
                )
            _write_json(partial / file_name, value)
            modalities[name][f"{file_name[:-5]}_json"] = {"file": file_name}
    if state is not None:
        save_file(state.tensors, partial / STATE_TENSORS)
        _write_json(partial / STATE_JSON, state.counters)
    sums = {file.name: sha256_of(file) for file in sorted(partial.iterdir())}
    config = {
        "format": FORMAT,
        "trunk": model.trunk.config.model_dump(),
        "modalities": modalities,
        "vocabulary": list(model.vocabulary.names),
        "recipe": dict(recipe),
        "sha256": sums,
    }
    _write_json(partial / CONFIG, sealed(config))
    for file in partial.iterdir():
        sync(file)
    sync(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    sync(folder.parent)
    return folder


def steps_of(run: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted(path for path in found if re.fullmatch(r"step-\d{8}", path.name) and (path / CONFIG).is_file())


def locate(path: Path) -> Path:
    """`path` if it is a checkpoint, or the newest checkpoint of the run folder `path`. Raises CheckpointError."""
    if (path / CONFIG).is_file():
        return path
    steps = steps_of(path)
    if not steps:
        raise CheckpointError(
            f"{path} holds no checkpoint; expected a folder with {CONFIG}, or a run folder of plait train"
        )
    return steps[-1]


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, checked: known format, every file present and whole. Raises CheckpointError naming the file."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found, sums = config["format"], config["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} cannot be read: {error!r}; expected a checkpoint's configuration"
        ) from error
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        raise CheckpointError(
            f"{folder} has checkpoint format {found}; this version of plait reads formats 1 to {FORMAT}: upgrade plait"
        )
    if found >= SEALED_SINCE and sealed(config) != config:
        raise CheckpointError(
            f"{folder / CONFIG} is damaged (its sha256 is not the recorded one): copy it again or use an earlier one"
        )
    for name, expected in sums.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing; the checkpoint is not whole: copy it again or use an earlier one"
            )
        if sha256_of(file) != expected:
            raise CheckpointError(
                f"{file} is damaged (its sha256 is not the recorded one): copy it again or use an earlier one"
            )
    return migrated(dict(config))


def migrated(config: dict[str, Any]) -> dict[str, Any]:
    """config.json of any format that was ever written, as today's. Files on disk stay as they are."""
    while config["format"] < FORMAT:
        config = MIGRATIONS[config["format"]](config)
    return config


def _from_1(config: dict[str, Any]) -> dict[str, Any]:
    """Format 2: the recipe says how long its conversations are; before, all recipes asked single questions."""
    return {**config, "format": 2, "recipe": {"turns": 1, **config["recipe"]}}


def _from_2(config: dict[str, Any]) -> dict[str, Any]:
    """Format 3: config.json has a hash of its own."""
    return {**config, "format": 3}


def _from_3(config: dict[str, Any]) -> dict[str, Any]:
    """Format 4: flow heads may know principal components, which lie beside the weights; before, the recipe could say that
    maps start along them, which is over once a run has begun."""
    return {**config, "format": 4, "recipe": {**config["recipe"], "principal": 0}}


MIGRATIONS = {1: _from_1, 2: _from_2, 3: _from_3}  # format -> pure function to the next one


def load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Braid, dict[str, Any]]:
    """The model with its EMA weights, and config.json. Raises CheckpointError for anything missing or damaged."""
    config = read_config(folder)
    modalities = {}
    for name, settings in config["modalities"].items():
        for key, value in settings.items():
            if key.endswith("_json"):
                settings[key] = json.loads((folder / value["file"]).read_text(encoding="utf-8"))
        modalities[name] = registry.build(name, settings)
    vocabulary = Vocabulary(modalities)
    if list(vocabulary.names) != config["vocabulary"]:
        raise CheckpointError(
            f"{folder}: its grammar differs from that of the installed modalities; install the version that wrote it"
        )
    try:
        weights = load_file(folder / WEIGHTS)
        components = {
            name: len(weights[f"flows.{name}.axes"]) for name in modalities if f"flows.{name}.axes" in weights
        }
        model = Braid(TrunkConfig(**config["trunk"]), vocabulary, dtype=dtype, components=components)
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its configuration: {error}") from error
    return model.eval(), config


def read_counters(folder: Path) -> dict[str, Any] | None:
    """Step, tokens, seconds and hash of the training rows; None when the checkpoint was saved without them."""
    path = folder / STATE_JSON
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def load_train_state(folder: Path) -> TrainState:
    """What `save` got as `state`. Raises CheckpointError when the checkpoint was saved without it."""
    if not (folder / STATE_JSON).is_file():
        raise CheckpointError(f"{folder} holds no training state; it can generate but not be resumed")
    counters = json.loads((folder / STATE_JSON).read_text(encoding="utf-8"))
    return TrainState(load_file(folder / STATE_TENSORS), counters)


def discard(folder: Path) -> None:
    """Delete what an unfinished save of `folder` left."""
    shutil.rmtree(folder.with_name(folder.name + ".partial"), ignore_errors=True)


def sweep(run: Path) -> None:
    """Delete what saves and removals of a run left that were cut short. Only for the process that writes."""
    for partial in (run / "checkpoints").glob("*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def remove(folder: Path) -> None:
    """Delete a checkpoint so that a kill in the middle leaves nothing that looks like one."""
    doomed = folder.with_name(folder.name + ".partial")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)
