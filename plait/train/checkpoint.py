"""A checkpoint is a folder: config.json, model.safetensors or model-*.safetensors (EMA weights), the modalities' files. Never
pickle.

A folder is written beside its place under a temporary name, synced, and renamed, so a half-written checkpoint never
has a checkpoint's name. config.json holds the checksum of every other file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from plait import registry
from plait.contract import Modality
from plait.data.chat_template import ChatTemplate
from plait.data.vocabulary import Vocabulary
from plait.errors import CheckpointError, ConfigError
from plait.model.lora import expert_of
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.model.weights import Base, fitted
from plait.runtime.device import with_dtype
from plait.runtime.files import sha256_of, sync
from plait.train import bases, shipped
from plait.train.migrations import FORMAT, migrate_config, migrate_tensors
from plait.train.precision import Precision, lowered, restored, shards

CONFIG = shipped.CONFIG
WEIGHTS = "model.safetensors"
PLACES_SINCE = 8  # a format: places after the features of a picture
ANSWERS = "answers.json"  # of the memories of readers
WORDS_HEARD = "words.json"  # that what is heard is spelled in
SHARD_NAME = re.compile(r"model-\d{5}\.safetensors")
SEAL = "config_sha256"
WRITTEN_AS = "written_as"  # of a configuration that was read: the format of its files
STATE_TENSORS, STATE_JSON = "train_state.safetensors", "train_state.json"
SEALED_SINCE = 3  # format
RESUMABLE_SINCE = 5
STEP_NAME = "step-{:08d}"
STAGES, PLAN = "stages", "stages.json"  # of a run: the folder of its stages, and in it their names in order


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
    model: MultimodalTransformer,
    weights: Mapping[str, Tensor],
    recipe: Mapping[str, Any],
    state: TrainState | None = None,
) -> Path:
    """Write a checkpoint folder; `weights` (the EMA) take the place of the model's own. Of a model that stands on a base or on
    another checkpoint, what these have is left out.

    Whatever stood at `folder` is replaced only when the new one is whole.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    base, parent = model.base, model.parent
    left_out = frozenset[str]().union(*(below.tensors for below in (base, parent) if below))
    stored = {name: tensor.contiguous() for name, tensor in weights.items() if name not in left_out}
    save_file(stored, partial / WEIGHTS)
    modalities: dict[str, Any] = {}
    for name, modality in model.vocabulary.modalities.items():
        modalities[name], files = _modality_files(modality)
        for file_name, value in files.items():
            if (partial / file_name).exists() or file_name in (ANSWERS, WORDS_HEARD):
                raise CheckpointError(
                    f"modality {name!r} wants a file {file_name} that another one has, or the model; rename its state's key"
                )
            _write_json(partial / file_name, value)
            modalities[name][f"{file_name[:-5]}_json"] = {"file": file_name}
    _write_known(partial, model)
    if state is not None:
        save_file(state.tensors, partial / STATE_TENSORS)
        _write_json(partial / STATE_JSON, state.counters)
    sums = {file.name: sha256_of(file) for file in sorted(partial.iterdir())}
    config = {
        "format": FORMAT,
        "trunk": model.trunk.config.model_dump(),
        "modalities": modalities,
        "vocabulary": list(model.vocabulary.names),
        "tied": list(model.tied),
        "template": model.vocabulary.template.state() if model.vocabulary.template else None,
        "base": None if base is None else {"name": base.name, "sha256": base.sha256},
        "parent": None if parent is None else stored_parent(parent, folder),
        "unlearned": sorted(model.unlearned),
        "shown_wordless": sorted(model.shown_wordless),
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


def _write_known(folder: Path, model: MultimodalTransformer) -> None:
    """The answers that the model's memories know, and the words that it expects to hear."""
    if model.memories:
        answers: dict[str, dict[str, Sequence[str]]] = {}
        for (reader, question), memory in model.memories.items():
            answers.setdefault(reader, {})[question] = memory.texts
        _write_json(folder / ANSWERS, answers)
    if model.lexicon is not None:
        _write_json(folder / WORDS_HEARD, model.lexicon.counts)


def steps_of(run: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted(path for path in found if re.fullmatch(r"step-\d{8}", path.name) and (path / CONFIG).is_file())


def locate(path: Path) -> Path:
    """`path` if it is a checkpoint, the newest checkpoint of the run folder `path`, or the one that is shipped under the name
    `path`; without the dtype behind it, if any. Raises CheckpointError."""
    path, _ = with_dtype(path)
    if (path / CONFIG).is_file():
        return path
    if steps := steps_of(path):
        return steps[-1]
    known = shipped.checkpoints()
    if not path.exists() and str(path) in known:
        return known[str(path)]
    names = f"or one of {', '.join(known)}" if known else "none is shipped with this version under a name of its own"
    raise CheckpointError(
        f"{path} holds no checkpoint; expected a folder with {CONFIG}, or a run folder of plait train; {names}"
    )


def run_of(folder: Path) -> Path:
    """The run that a checkpoint belongs to; the checkpoint's own folder where it lies alone."""
    run = folder.parent.parent
    return run if steps_of(run) else folder


def is_done(path: Path) -> bool:
    """Whether the newest checkpoint at `path` is at the last step of its recipe."""
    folder = locate(path)
    counters = read_counters(folder)
    return bool(counters and counters["step"] >= read_config(folder)["recipe"]["steps"])


def read_stored_config(folder: Path) -> dict[str, Any]:
    """config.json as it was written, checked: known format, every file present, inside the folder and whole.

    What only resuming needs is hashed by `load_train_state`. Raises CheckpointError naming the file.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        written_as, sums = config["format"], config["sha256"]
        missing = [key for key in ("trunk", "modalities", "vocabulary", "recipe") if key not in config]
        if missing or not isinstance(sums, dict):
            raise KeyError(*missing or ["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} cannot be read: {error!r}; expected a checkpoint's configuration"
        ) from error
    if not isinstance(written_as, int) or not 1 <= written_as <= FORMAT:
        raise CheckpointError(
            f"{folder} has checkpoint format {written_as}; this version of plait reads formats 1 to {FORMAT}: upgrade plait"
        )
    if written_as >= SEALED_SINCE and sealed(config) != config:
        raise CheckpointError(
            f"{folder / CONFIG} is damaged (its sha256 is not the recorded one): copy it again or use an earlier one"
        )
    for name, expected in sums.items():
        if not inside(folder, name).is_file():
            raise CheckpointError(
                f"{folder / name} is missing; the checkpoint is not whole: copy it again or use an earlier one"
            )
        if name not in (STATE_TENSORS, STATE_JSON):
            _check_hash(folder / name, expected)
    return dict(config)


def inside(folder: Path, name: Any) -> Path:
    """The file `name` of a checkpoint folder. Raises CheckpointError for what is no plain name of a file in it."""
    if not isinstance(name, str) or name in ("", ".", "..") or PurePath(name).name != name or "\\" in name:
        raise CheckpointError(
            f"{folder / CONFIG} names the file {name!r}; expected the plain name of a file beside it: the checkpoint is "
            "damaged or was made to reach other files"
        )
    return folder / name


def _check_hash(file: Path, expected: str) -> None:
    if sha256_of(file) != expected:
        raise CheckpointError(
            f"{file} is damaged (its sha256 is not the recorded one): copy it again or use an earlier one"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """`read_stored_config` in today's format, with the format that its files have under `written_as`."""
    config = read_stored_config(folder)
    return {**migrate_config(config), WRITTEN_AS: config["format"]}


def load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[MultimodalTransformer, dict[str, Any]]:
    """The model with its EMA weights, and config.json. Raises CheckpointError for anything missing or damaged."""
    config = read_config(folder)
    vocabulary = Vocabulary(load_modalities(folder, config), load_template(folder, config))
    model = load_model(folder, config, vocabulary, dtype=dtype)
    return model.eval(), config


def _with_experts(trunk: TrunkConfig, more: TrunkConfig) -> TrunkConfig:
    """The trunk with the adapters and split experts of another beside its own. Raises ConfigError for an expert in both."""
    adapters, split = trunk.adapters | more.adapters, trunk.split | more.split
    if both := sorted({expert_of(name) for name in adapters} & set(split)):
        raise ConfigError(
            f"trunk.adapters and trunk.split both name {', '.join(both)}, of the checkpoint that the training starts from or of "
            "the recipe; expected an expert in one of them: leave it as it is there, or start from a checkpoint without it"
        )
    every = trunk.split_every | more.split_every
    return TrunkConfig(**trunk.model_dump() | {"adapters": adapters, "split": split, "split_every": every})


def load_model(
    folder: Path,
    config: Mapping[str, Any],
    vocabulary: Vocabulary,
    dtype: torch.dtype = torch.float32,
    seed: int | None = None,
    experts: TrunkConfig | None = None,
    components: Mapping[str, int] | None = None,
) -> MultimodalTransformer:
    """The EMA weights of a checkpoint in a model of `vocabulary`; with a `seed`, what the checkpoint lacks is drawn.

    The adapters and split experts of `experts` join those that the trunk has; `components` are of flow heads that are drawn. Raises CheckpointError.
    """
    try:
        trunk = TrunkConfig(**config["trunk"])
        if experts is not None:
            trunk = _with_experts(trunk, experts)
    except (ValidationError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: 'trunk' is {config['trunk']!r}: {error}; expected the settings of a trunk"
        ) from error
    try:
        weights, base, parent = _weights_and_base(folder, config)
        _check_places(config, vocabulary, weights)
        model = fitted(
            trunk,
            vocabulary,
            weights,
            config["vocabulary"],
            dtype=dtype,
            tied=config["tied"],
            seed=seed,
            components=components,
        )
    except (SafetensorError, RuntimeError, CheckpointError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its configuration: {error}") from error
    model.base, model.parent = base, parent
    model.own = _own(config, model)
    model.unlearned |= set(config["unlearned"]) & set(model.learners())
    model.shown_wordless |= set(config.get("shown_wordless", ()))
    model.remember(_load_answers(folder, config))
    if WORDS_HEARD in config["sha256"]:
        model.expect(json.loads((folder / WORDS_HEARD).read_text(encoding="utf-8")))
    return model


def _check_places(config: Mapping[str, Any], vocabulary: Vocabulary, weights: Collection[str]) -> None:
    """Raise CheckpointError for weights that learned what a reader of pictures sees when it was laid out in another way."""
    readers = [reader.name for reader in vocabulary.readers.values() if reader.words]
    learned = [name for name in readers if f"embedders.{name}.out.weight" in weights]
    if config.get(WRITTEN_AS, FORMAT) < PLACES_SINCE and learned:
        raise CheckpointError(
            f"it learned what {learned[0]} sees as format {config[WRITTEN_AS]} laid it out; expected format {PLACES_SINCE} or "
            "later: train it anew with the same recipe"
        )


def _load_answers(folder: Path, config: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Answers that the model's memories know, by reader and question."""
    if ANSWERS not in config["sha256"]:
        return {}
    answers: dict[str, dict[str, list[str]]] = json.loads((folder / ANSWERS).read_text(encoding="utf-8"))
    return answers


def load_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """EMA weights by today's names, those of the base included; `config` as `read_config` gives it."""
    return _weights_and_base(folder, config)[0]


def weight_files(config: Mapping[str, Any]) -> list[str]:
    """Names of the files that hold a checkpoint's weights, in order."""
    return sorted(name for name in config["sha256"] if name == WEIGHTS or SHARD_NAME.fullmatch(name))


def load_own(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that a checkpoint holds itself, by the names of its format, in whole precision."""
    stored: dict[str, Tensor] = {}
    for name in weight_files(config):
        stored |= load_file(folder / name)
    try:
        return restored(stored)
    except KeyError as error:
        raise CheckpointError(f"it lacks {error}, without which a tensor in few bits has no size") from error


def lean(folder: Path, target: Path, precision: Precision | Mapping[str, Precision], shard_mib: float = 15.0) -> Path:
    """Write the checkpoint `folder` without its training state to the new folder `target`: weights in another precision, or
    each in that of the first pattern which its name fits, in files of at most `shard_mib` MiB. Raises ConfigError where `target`
    exists, CheckpointError for a damaged checkpoint."""
    if target.exists():
        raise ConfigError(f"{target} exists; expected a new folder: choose another name")
    config = read_stored_config(folder)
    files = weight_files(config)
    others = [name for name in config["sha256"] if name not in {*files, STATE_TENSORS, STATE_JSON}]
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for number, shard in enumerate(shards(lowered(load_own(folder, config), precision), shard_mib), 1):
        save_file(shard, partial / f"model-{number:05d}.safetensors")
    for name in others:
        shutil.copyfile(folder / name, partial / name)
    sums = {file.name: sha256_of(file) for file in sorted(partial.iterdir())}
    _write_json(partial / CONFIG, sealed({**config, "sha256": sums}))
    partial.rename(target)
    return target


def _own(config: Mapping[str, Any], model: MultimodalTransformer) -> Base:
    """The checkpoint that a model was loaded from, and what it holds itself."""
    below = frozenset[str]().union(*(one.tensors for one in (model.base, model.parent) if one))
    return Base("", str(config.get(SEAL, "")), frozenset(model.state_dict()) - below)


def name_of(folder: Path) -> str:
    """What a checkpoint is called by those that stand on it: its name if it is shipped, else its place."""
    named = {path.resolve(): name for name, path in shipped.checkpoints().items()}
    return named.get(folder.resolve(), str(folder.resolve()))


def stored_parent(parent: Base, folder: Path) -> dict[str, str]:
    """How config.json of the checkpoint `folder` names the one that it stands on: as it was given, and from its own place."""
    below = Path(parent.name)
    beside = os.path.relpath(below.resolve(), folder.resolve()) if below.is_dir() else ""
    return {"name": parent.name, "sha256": parent.sha256, "beside": beside}


def parent_of(folder: Path, stored: Mapping[str, str]) -> Path:
    """The folder of the checkpoint that the one in `folder` stands on, found where it was or from its own place, and known by
    its hash. Raises CheckpointError."""
    try:
        name, sha256, beside = (str(stored[key]) for key in ("name", "sha256", "beside"))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: 'parent' is {stored!r}; expected name, sha256 and beside") from error
    candidates = [shipped.checkpoints().get(name, Path(name))]
    if beside:
        candidates.append((folder.resolve() / beside).resolve())
    for candidate in candidates:
        try:
            below = locate(candidate)
            if read_stored_config(below).get(SEAL, "") == sha256:
                return below
        except CheckpointError:
            continue
    raise CheckpointError(
        f"{folder} stands on the checkpoint {name} with sha256 {sha256[:12]}, which is not here or is another; "
        "expected it where it was: copy it there, or where both are write one that stands alone: plait merge"
    )


def _weights_and_base(folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, Tensor], Base | None, Base | None]:
    """All weights, and which of them are the base's and which another checkpoint's."""
    own_weights = migrate_tensors(load_own(folder, config), config[WRITTEN_AS], len(config["vocabulary"]))
    if (stored := config.get("parent")) is not None:
        below = parent_of(folder, stored)
        weights, base, _ = _weights_and_base(below, read_config(below))
        if base is not None:
            base = base.without(own_weights)
        names = frozenset(weights) - frozenset(own_weights) - (base.tensors if base else frozenset[str]())
        return weights | own_weights, base, Base(name_of(below), stored["sha256"], names)
    if config["base"] is None:
        return own_weights, None, None
    named = bases.find(config["base"])
    base_folder = bases.folder_of(named)
    base_weights = load_weights(base_folder, read_config(base_folder))
    names = frozenset(base_weights) - set(own_weights)
    return base_weights | own_weights, Base(named.name, named.sha256, names), None


def load_modalities(folder: Path, config: Mapping[str, Any]) -> dict[str, Modality]:
    """The modalities that a checkpoint was made with, what their files hold included. Raises CheckpointError."""
    modalities = {}
    for name, stored in config["modalities"].items():
        settings = dict(stored)
        for key, value in stored.items():
            if key.endswith("_json"):
                file = inside(folder, value.get("file") if isinstance(value, dict) else value)
                try:
                    settings[key] = json.loads(file.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise CheckpointError(
                        f"{file} cannot be read: {error}; expected {key} of modality {name!r}"
                    ) from error
        modalities[name] = registry.build(name, settings)
    return modalities


def load_template(folder: Path, config: Mapping[str, Any]) -> ChatTemplate | None:
    """The chat template of a checkpoint, if it has one. Raises CheckpointError."""
    stored = config["template"]
    try:
        return None if stored is None else ChatTemplate(**stored)
    except (TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder / CONFIG}: 'template' is no chat template: {error}") from error


def read_counters(folder: Path) -> dict[str, Any] | None:
    """Step, tokens, seconds and hash of the training rows; None when the checkpoint was saved without them."""
    path = folder / STATE_JSON
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def load_train_state(folder: Path) -> TrainState:
    """What `save` got as `state`. Raises CheckpointError when the checkpoint was saved without it, or it is damaged."""
    if not (folder / STATE_JSON).is_file():
        raise CheckpointError(f"{folder} holds no training state; it can generate but not be resumed")
    config = read_stored_config(folder)
    for name in (STATE_TENSORS, STATE_JSON):
        _check_hash(folder / name, config["sha256"].get(name, ""))
    if config["format"] < RESUMABLE_SINCE:
        raise CheckpointError(
            f"{folder} was written as format {config['format']}, whose training state this version cannot continue exactly; "
            f"start a new run from its weights: init={folder}"
        )
    return TrainState(load_file(folder / STATE_TENSORS), json.loads((folder / STATE_JSON).read_text(encoding="utf-8")))


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
