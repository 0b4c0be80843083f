"""Frozen encoders of other makers, as `transformers` stores them: taken once into the folder of sources, then known by name.

A name holds the source's own and the first digits of its weights' hash, never a path: `vit_base_patch16_224_1f2e3d4c`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from torch import nn

from plait.errors import CheckpointError, MissingError, PlaitError
from plait.modalities import Reader
from plait.runtime.files import sha256_of
from plait.runtime.packages import places

FOLDER = "encoders"  # in the folder of sources
CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "*.safetensors*"
UNUSED = ("pooler", "masked_spec_embed", "mask_token", "position_ids")  # weights that no feature passes through
DIGITS = 8  # of the hash of all its files
PARTIAL = ".partial"
CONVERT = "from transformers import AutoModel; AutoModel.from_pretrained('FOLDER').save_pretrained('OTHER')"


def _strict() -> tuple[type[Exception], ...]:
    """What the hub's strict configurations raise; nothing where the hub is older than they are."""
    try:
        from huggingface_hub.errors import StrictDataclassError
    except ImportError:
        return ()
    return (StrictDataclassError,)


UNREADABLE: tuple[type[Exception], ...] = (
    OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError, *_strict(),
)  # what opening a damaged folder raises  # fmt: skip


def taken() -> dict[str, Path]:
    """Folders of the encoders that are here, by name."""
    configurations = sorted((places() / FOLDER).glob(f"*/{CONFIG}"))
    return {path.parent.name: path.parent for path in configurations if not path.parent.name.endswith(PARTIAL)}


def take(
    source: Path, check: Callable[[str, Path], Any] = lambda name, folder: None, more_files: Sequence[str] = ()
) -> Path:
    """Copy an encoder's folder, and those of `more_files` that are there, into the folder of sources, unless the same is there; returns its
    folder, whose name is the reader's. `check` is called with the name and the copy before it counts.

    Raises CheckpointError without safetensors, and what `check` raises.
    """
    weights = sorted(source.glob(WEIGHTS))
    if not any(path.suffix == ".safetensors" for path in weights):
        raise CheckpointError(
            f"{source} has no weights as safetensors; expected model.safetensors (pickles may run any code). Where you trust "
            f'its source, convert it with python -c "{CONVERT}"'
        )
    sources = [
        path
        for path in (source / CONFIG, source / PREPROCESSOR, *(source / name for name in more_files), *weights)
        if path.is_file()
    ]
    digest = hashlib.sha256("".join(sha256_of(path) for path in sources).encode()).hexdigest()
    name = f"{re.sub(r'[^a-z0-9]+', '_', source.resolve().name.lower()).strip('_')}_{digest[:DIGITS]}"
    destination = places() / FOLDER / name
    if destination.is_dir() and all(
        (destination / path.name).is_file() and sha256_of(destination / path.name) == sha256_of(path)
        for path in sources
    ):
        return destination
    partial = destination.with_name(f"{name}{PARTIAL}")
    for folder in (partial, destination):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in sources:
        shutil.copyfile(path, partial / path.name)
    try:
        check(name, partial)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, PlaitError):  # the copy that it names is gone
            raise type(error)(str(error).replace(str(partial), str(source))) from error
        raise
    partial.rename(destination)
    return destination


def files(name: str) -> Mapping[str, bytes]:
    """An encoder's files, by their place in the folder of sources."""
    return {f"{FOLDER}/{name}/{path.name}": path.read_bytes() for path in sorted(taken()[name].iterdir())}


@lru_cache(maxsize=16)
def settings(folder: Path, file: str = CONFIG) -> dict[str, Any]:
    """A JSON file of an encoder; empty where it is missing. Raises CheckpointError for a damaged one."""
    if not (folder / file).is_file():
        return {}
    try:
        values: dict[str, Any] = json.loads((folder / file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{folder / file} is no JSON ({error}); copy it again, or where it was imported: plait import its source anew"
        ) from error
    return values


def network(folder: Path) -> nn.Module:
    """The encoder by transformers' own class, frozen. Raises MissingError without transformers, CheckpointError."""
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise MissingError("encoders of other makers need transformers: pip install 'plait[pretrained]'") from error
    try:
        model, loading_info = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except UNREADABLE as error:
        raise CheckpointError(
            f"{folder} cannot be opened by transformers: {error}; expected a whole encoder: plait import its source anew"
        ) from error
    missing_weights = sorted(name for name in loading_info["missing_keys"] if not any(part in name for part in UNUSED))
    if missing_weights:
        raise CheckpointError(
            f"{folder} lacks {len(missing_weights)} of its weights, such as {missing_weights[0]}; expected a whole encoder: plait import its source anew"
        )
    encoder: nn.Module = model
    return encoder.float().requires_grad_(False).eval()


def whole_config(folder: Path) -> dict[str, Any]:
    """An encoder's configuration with all that its family takes for granted. Raises as `network` does."""
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise MissingError("encoders of other makers need transformers: pip install 'plait[pretrained]'") from error
    settings(folder)  # names the file if it is damaged
    try:
        values: dict[str, Any] = AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    except UNREADABLE as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}; expected an encoder that transformers knows") from error
    return values


def find(
    name: str,
    known: Mapping[str, Reader],
    backbone: Callable[[str, Path], Reader],
    accepts: Callable[[Mapping[str, Any]], bool],
) -> Reader | None:
    """The reader of a name: a `known` one, or a `backbone` of an encoder that was taken and is accepted; None for another."""
    if name in known:
        return known[name]
    folder = taken().get(name)
    return backbone(name, folder) if folder and accepts(settings(folder)) else None


def checked(reader: Reader, prepared: np.ndarray) -> None:
    """See that a reader gives features of its width. Raises CheckpointError."""
    import torch

    try:
        (features,) = reader.load(torch.device("cpu"))([prepared])
    except PlaitError:
        raise
    except (RuntimeError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"{reader.name} reads nothing: {error}; expected an encoder of a family that plait reads with"
        ) from error
    if features.ndim != 2 or not len(features) or features.shape[1] != reader.width or not np.isfinite(features).all():
        raise CheckpointError(
            f"{reader.name} gives features of shape {features.shape}; expected [n, {reader.width}] finite numbers"
        )
