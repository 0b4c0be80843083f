"""Frozen encoders of other makers, as `transformers` stores them: taken once into the folder of sources, then known by name.

A name holds the source's own and the first digits of its weights' hash, never a path: `vit_base_patch16_224_1f2e3d4c`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from plait.errors import CheckpointError, MissingError
from plait.runtime.files import sha256_of
from plait.runtime.packages import places

FOLDER = "encoders"  # in the folder of sources
CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "*.safetensors*"
DIGITS = 8  # of the hash
CONVERT = "from transformers import AutoModel; AutoModel.from_pretrained('FOLDER').save_pretrained('OTHER')"


def taken() -> dict[str, Path]:
    """Folders of the encoders that are here, by name."""
    return {path.parent.name: path.parent for path in sorted((places() / FOLDER).glob(f"*/{CONFIG}"))}


def take(source: Path) -> str:
    """Copy an encoder's folder into the folder of sources; returns its name. Raises CheckpointError without safetensors."""
    weights = sorted(source.glob(WEIGHTS))
    if not any(path.suffix == ".safetensors" for path in weights):
        raise CheckpointError(
            f"{source} has no weights as safetensors; expected model.safetensors (pickles may run any code). Where you trust "
            f'its source, convert it with python -c "{CONVERT}"'
        )
    hashes = "".join(sha256_of(path) for path in weights)
    first = hashes[:DIGITS] if len(weights) == 1 else sha256_text(hashes)[:DIGITS]
    name = re.sub(r"\W+", "_", source.resolve().name.lower()).strip("_") + f"_{first}"
    place = places() / FOLDER / name
    if not (place / CONFIG).is_file():
        partial = place.with_name(f"{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for path in (source / CONFIG, source / PREPROCESSOR, *weights):
            if path.is_file():
                shutil.copyfile(path, partial / path.name)
        partial.rename(place)
    return name


def sha256_text(text: str) -> str:
    """Hexadecimal sha256 of a text."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def files(name: str) -> Mapping[str, bytes]:
    """An encoder's files, by their place in the folder of sources."""
    return {f"{FOLDER}/{name}/{path.name}": path.read_bytes() for path in sorted(taken()[name].iterdir())}


@lru_cache(maxsize=16)
def settings(folder: Path, file: str = CONFIG) -> dict[str, Any]:
    """A JSON file of an encoder; empty where it is missing. Raises CheckpointError for a damaged one."""
    if not (folder / file).is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads((folder / file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder / file} is no JSON ({error}); copy it again") from error
    return found


def network(folder: Path) -> nn.Module:
    """The encoder by transformers' own class, frozen. Raises MissingError without transformers, CheckpointError."""
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise MissingError("encoders of other makers need transformers: pip install 'plait[pretrained]'") from error
    try:
        model: nn.Module = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{folder} cannot be opened by transformers: {error}; copy it again") from error
    return model.requires_grad_(False).eval()
