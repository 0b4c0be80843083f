"""A checkpoint as a folder of ONNX graphs around one file of weights, and model.json, which says how they fit together.

    step.onnx           the trunk: tokens, and what is kept of earlier ones -> hidden states, and what to keep
    embed.onnx          ids -> vectors
    logits.onnx         hidden states -> logits over all ids
    embed_NAME.onnx     tokens of a modality, or features of a reader -> vectors
    clean_NAME.onnx     hidden states and noised tokens of a modality -> clean tokens
    read_NAME.onnx      what a reader takes -> features
    weights.bin         the weights of all of them; those that several have, once

What plait.portable.graphs says of a module's arguments and results goes for its graph, whose inputs have these names.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plait import registry
from plait.data.vocabulary import SHARED_EXPERT
from plait.errors import CheckpointError, MissingError
from plait.model.multimodal import MultimodalTransformer
from plait.portable.graphs import Clean, Embed, EmbedTokens, Logits, Step

if TYPE_CHECKING:
    from onnx import ModelProto

FORMAT = 1  # of model.json
MANIFEST, WEIGHTS = "model.json", "weights.bin"
ALIGNED = 64  # bytes: where weights begin
SMALL = 1024  # bytes of a tensor that stays in its graph
MOST_STEPS = 32  # of a block, whose times model.json holds
OPSET = 18
TOKENS, KEPT = 3, 5  # tokens of the examples that graphs are written down from; neither is a special number


def write(network: MultimodalTransformer, folder: Path, sampling: Mapping[str, Any] | None = None) -> Path:
    """Write the new folder; returns it. `sampling`: settings of answers that model.json passes on.

    Raises CheckpointError for something that is there, MissingError without the packages onnx and onnxscript."""
    with new_folder(folder) as partial:
        graphs = {name: _traced(*graph) for name, graph in _graphs(network).items()}
        with (partial / WEIGHTS).open("wb") as file:
            places: dict[bytes, tuple[int, int]] = {}
            for name, model in graphs.items():
                _move_weights(model, file, places)
                (partial / f"{name}.onnx").write_bytes(model.SerializeToString())
        described = describe(network) | {"graphs": {name: _inputs(model) for name, model in graphs.items()}, "sampling": dict(sampling or {})}  # fmt: skip
        (partial / MANIFEST).write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return folder


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder whose contents move into `folder` once they are complete; of one that is not, nothing stays. Raises CheckpointError
    where something is there already."""
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is there already; expected a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        partial = Path(scratch) / folder.name
        partial.mkdir()
        yield partial
        folder.mkdir(exist_ok=True)
        for path in partial.iterdir():
            shutil.move(path, folder / path.name)


def describe(network: MultimodalTransformer) -> dict[str, Any]:
    """What model.json says of a model beside its graphs."""
    vocabulary, trunk = network.vocabulary, network.trunk.config
    times = {
        name: [head.times(steps) for steps in range(1, MOST_STEPS + 1)]  # type: ignore[operator]
        for name, head in network.flows.items()
    }
    return {
        "format": FORMAT,
        "modalities": {name: modality.state() for name, modality in vocabulary.modalities.items()},
        "template": vocabulary.template.state() if vocabulary.template else None,
        "names": list(vocabulary.names),
        "offsets": vocabulary.offsets,
        "size": vocabulary.size,
        "end": vocabulary.end,
        "experts": vocabulary.expert_numbers,
        "unlearned": sorted(network.unlearned),
        "kept": [trunk.num_layers, trunk.kv_heads, trunk.head_width],  # layers, heads, width of keys and values
        "times": times,
    }


def _graphs(network: MultimodalTransformer) -> dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[dict[int, str], ...]]]:  # fmt: skip
    """By name each graph's module, an example of its arguments, and which of their axes have any length."""
    trunk, vocabulary = network.trunk.config, network.vocabulary
    numbers = torch.arange(TOKENS)
    kept = torch.zeros(trunk.num_layers, trunk.kv_heads, KEPT, trunk.head_width)
    first = {0: "n"}
    state = (kept, kept.clone(), torch.full((KEPT,), SHARED_EXPERT))
    graphs: dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[dict[int, str], ...]]] = {
        "step": (
            Step(network.trunk, vocabulary.expert_numbers),
            (torch.zeros(TOKENS, trunk.dim), KEPT + numbers, KEPT + numbers, torch.zeros_like(numbers), *state),
            (first, first, first, first, {2: "T"}, {2: "T"}, {0: "T"}),
        ),
        "embed": (Embed(network), (numbers,), (first,)),
        "logits": (Logits(network), (torch.zeros(TOKENS, trunk.dim),), (first,)),
    }
    times = torch.full((TOKENS,), 0.5)
    for name, modality in vocabulary.modalities.items():
        if name not in network.flows:
            continue
        header = modality.read(modality.example(0)).blocks[0].header
        coordinates = torch.from_numpy(modality.coordinates(header)[:1]).repeat(TOKENS, 1)
        tokens = torch.zeros(TOKENS, modality.token_width)
        graphs[f"embed_{name}"] = EmbedTokens(network, name), (tokens, coordinates, times), (first,) * 3
        hidden = torch.zeros(TOKENS, trunk.dim)
        graphs[f"clean_{name}"] = Clean(network, name), (hidden, tokens, coordinates, times), (first,) * 4
    for reader in vocabulary.readers.values():
        features = torch.zeros(TOKENS, reader.width)
        graphs[f"embed_{reader.name}"] = (
            EmbedTokens(network, reader.name),
            (features, torch.zeros(TOKENS, 1), times),
            (first,) * 3,
        )
        for name, (module, example) in registry.networks(reader).items():
            graphs[f"read_{name}"] = module, (example,), ({},)
    return graphs


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of packages that it would have liked, and of axes that share a name."""
    logger = logging.getLogger("torch.onnx._internal.exporter")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _traced(module: nn.Module, example: tuple[Tensor, ...], axes: tuple[dict[int, str], ...]) -> ModelProto:
    """A module as a graph. Raises MissingError."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingError(
            f"ONNX needs the package {error.name!r}; install it with: python -m pip install 'plait[onnx]'"
        ) from error
    names = list(inspect.signature(module.forward).parameters)
    dims = {name: torch.export.Dim(name) for axis in axes for name in axis.values()}
    shapes = tuple({number: dims[name] for number, name in axis.items()} or None for axis in axes)
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(), example, input_names=names, dynamic_shapes=shapes, opset_version=OPSET, dynamo=True, verbose=False
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def _inputs(model: ModelProto) -> list[str]:
    return [each.name for each in model.graph.input]


def _move_weights(model: ModelProto, file: Any, places: dict[bytes, tuple[int, int]]) -> None:
    """Write the large tensors of a graph behind the others in a file, and let the graph refer to them. `places`: where in it
    what has some hash begins, and how long it is."""
    from onnx import TensorProto

    for tensor in model.graph.initializer:
        data = tensor.raw_data
        if len(data) < SMALL:
            continue
        key = hashlib.sha256(data).digest()
        if key not in places:
            file.write(bytes(-file.tell() % ALIGNED))
            places[key] = file.tell(), len(data)
            file.write(data)
        first, length = places[key]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for entry, value in (("location", WEIGHTS), ("offset", str(first)), ("length", str(length))):
            tensor.external_data.add(key=entry, value=value)
