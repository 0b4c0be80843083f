"""A checkpoint for other programs, format by format."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from plait.errors import ConfigError
from plait.portable import exporter as graphs
from plait.portable import page
from plait.pretrained import exporter, gguf_exporter
from plait.train import bases, checkpoint
from plait.train.precision import Precision

HUGGINGFACE, GGUF, ONNX, PAGE = "huggingface", "gguf", "onnx", "page"
FORMATS = (HUGGINGFACE, GGUF, ONNX, PAGE)
FLOAT32 = (None, "float32")


def export(folder: Path, target: Path, to: str, precision: Precision | None) -> Path:
    """Write the checkpoint `folder` for other programs; returns `target`. Of a huggingface folder and a gguf file the words alone, of
    an onnx folder and a page everything.

    Raises ConfigError for a precision that is not offered, CheckpointError for a checkpoint that the format has no place for or a
    target that is there, MissingError without a package that is needed."""
    if to != GGUF and precision not in FLOAT32:
        raise ConfigError(f"got precision={precision} for --to {to}; expected none: it is in float32")
    if to not in FORMATS:
        raise ConfigError(f"got to={to!r}; expected one of archive, {', '.join(FORMATS)}")
    network, config = checkpoint.load(folder)
    longest = max(exporter.LENGTH, bases.longest(network, config))
    settings, data = config["recipe"].get("sampling"), config["recipe"].get("data")
    ways: dict[str, Callable[[], Path]] = {
        HUGGINGFACE: partial(exporter.write, network, target, longest),
        GGUF: partial(gguf_exporter.write, network, target, precision or "bfloat16", longest),
        ONNX: partial(graphs.write, network, target, settings),
        PAGE: partial(page.write, network, target, settings, Path(data) if data else None),
    }
    return ways[to]()
