"""The words of a checkpoint, for other libraries."""

from __future__ import annotations

from pathlib import Path

from plait.errors import ConfigError
from plait.pretrained import exporter, gguf_exporter
from plait.train import bases, checkpoint
from plait.train.precision import Precision

FOLDER, FILE = "huggingface", "gguf"


def export(folder: Path, target: Path, to: str, precision: Precision | None) -> Path:
    """Write the words of the checkpoint `folder` as a folder for transformers or as a file for llama.cpp; returns it.

    Raises ConfigError for a precision that is not offered, and as plait.pretrained.exporter and gguf_exporter do."""
    if to == FOLDER and precision not in (None, "float32"):
        raise ConfigError(f"got precision={precision} for --to {FOLDER}; expected none: the folder is in float32")
    network, config = checkpoint.load(folder)
    longest = max(exporter.LENGTH, bases.longest(network, config))
    if to == FILE:
        return gguf_exporter.write(network, target, precision or "bfloat16", longest)
    return exporter.write(network, target, longest)
