"""Answers by the graphs of an exported folder, in onnxruntime: one request at a time, as plait.infer.engine would.

It is the shortest account of how the graphs are used, and what the page does in a browser.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from plait import registry
from plait.contract import Message
from plait.data.chat_template import ChatTemplate
from plait.data.row import Element, FlowBlock, Row, RowBuilder
from plait.data.sequence import Encoder
from plait.data.vocabulary import Vocabulary
from plait.errors import CheckpointError, ConfigError, MissingError
from plait.infer.decoder import Decoder, Draw, Feed, to_parts
from plait.infer.events import Answer
from plait.infer.request import Request
from plait.infer.sampling import middle, sample_ids
from plait.portable.exporter import FORMAT, MANIFEST, MOST_STEPS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass
class Stream:
    """What is kept of a sequence: keys and values [layers, G, T, K], the expert of each token [T], and the number of its blocks."""

    keys: np.ndarray
    values: np.ndarray
    experts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    blocks: int = 0


class Player:
    """An exported folder, opened. Raises CheckpointError for a folder that is none, MissingError without onnxruntime."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._sessions = folder, dict[str, "InferenceSession"]()
        try:
            self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{folder / MANIFEST}: {error}; expected a folder of plait export --to onnx"
            ) from error
        if self.manifest.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder / MANIFEST} has format {self.manifest.get('format')}; expected {FORMAT}: export it anew"
            )
        template = self.manifest["template"]
        modalities = {name: registry.build(name, state) for name, state in self.manifest["modalities"].items()}
        self.vocabulary = Vocabulary(modalities, ChatTemplate(**template) if template else None)
        if list(self.vocabulary.names) != self.manifest["names"]:
            raise CheckpointError(f"{folder / MANIFEST} numbers other marks than this version of plait: export it anew")
        self.encoder = Encoder(self.vocabulary)

    def run(self, graph: str, **inputs: np.ndarray) -> list[np.ndarray]:
        """What a graph makes of its inputs."""
        if graph not in self._sessions:
            try:
                import onnxruntime
            except ImportError as error:
                raise MissingError(
                    "running ONNX needs onnxruntime; install it with: python -m pip install 'plait[onnx]'"
                ) from error
            self._sessions[graph] = onnxruntime.InferenceSession(self.folder / f"{graph}.onnx")
        outputs: list[np.ndarray] = self._sessions[graph].run(None, inputs)
        return outputs

    def generate(self, request: Request) -> Answer:
        """One answer. Raises ConfigError for media that go through a reader or a finder and for an answer that the model has not learned
        to write, and what reading media raises."""
        search = {*self.vocabulary.readers, *self.vocabulary.finders}
        if read := {part.type for message in request.messages for part in message.parts} & search:
            raise ConfigError(
                f"got {', '.join(sorted(read))}, which a reader or a finder reads; expected a model without one, or a question without them"
            )
        if f"flows.{request.to}" in self.manifest["unlearned"]:
            raise ConfigError(f"this model has not learned to write {request.to}; expected another modality, or none")
        decoder = Decoder(request, self.encoder)
        steps, main, null = decoder.run(), self._new(), self._new()
        result: Any = None
        try:
            while True:
                step = steps.send(result)
                if isinstance(step, Feed):
                    null = self._new() if step.restart_null else null
                    self._feed(null, step.null)
                    result = self._chosen(step, self._feed(main, step.elements), decoder)
                else:
                    result = self._drawn(step, request, main, null)
        except StopIteration:
            pass
        segments = [segment for segment in decoder.segments if segment.blocks]
        message = Message("assistant", to_parts(segments, self.vocabulary.modalities))
        return Answer(message, segments, decoder.layout, decoder.reason, decoder.usage)

    def _new(self) -> Stream:
        layers, heads, width = self.manifest["kept"]
        nothing = np.zeros((layers, heads, 0, width), np.float32)
        return Stream(nothing, nothing)

    def _feed(self, stream: Stream, elements: Sequence[Element]) -> np.ndarray:
        """[n, D] hidden states of elements, which the stream keeps."""
        if not elements:
            return np.zeros((0, 0), np.float32)
        hidden, keys, values, row = self._step(stream, elements)
        stream.keys = np.concatenate((stream.keys, keys), axis=2)
        stream.values = np.concatenate((stream.values, values), axis=2)
        stream.experts = np.concatenate((stream.experts, row.expert))
        stream.blocks = int(row.block[-1]) + 1
        return hidden

    def _step(self, stream: Stream, elements: Sequence[Element]) -> tuple[np.ndarray, np.ndarray, np.ndarray, Row]:
        builder = RowBuilder(stream.blocks, len(stream.experts))
        for element in elements:
            builder.add_clean(element)
        row = builder.row()
        (vectors,) = self.run("embed", ids=row.ids.clip(0))
        for name, tokens in row.clean.items():
            (vectors[tokens.index],) = self.run(f"embed_{name}", tokens=tokens.inputs, coordinates=tokens.coordinates, time=tokens.time)  # fmt: skip
        hidden, keys, values = self.run(
            "step", vectors=vectors, position=row.position, block=row.block, expert=row.expert,
            keys=stream.keys, values=stream.values, kept_experts=stream.experts,
        )  # fmt: skip
        return hidden, keys, values, row

    def _chosen(self, step: Feed, hidden: np.ndarray, decoder: Decoder) -> int | None:
        """The id that a step asks for, if it asks for one."""
        if step.legal is None:
            return None
        (logits,) = self.run("logits", hidden=hidden[-1:])
        legal = torch.zeros(logits.shape, dtype=torch.bool)
        legal[0, torch.from_numpy(step.legal)] = True
        for opener, name in self.vocabulary.openers.items():
            legal[0, opener] &= f"flows.{name}" not in self.manifest["unlearned"]
        masked = torch.from_numpy(logits).masked_fill(~legal, -torch.inf)
        request = decoder.request
        if step.ordered and request.temperature <= 0:
            return middle(masked[0], torch.from_numpy(step.legal))
        chance = decoder.rng.random() if request.temperature > 0 else 0.0
        told = (torch.tensor([number], dtype=torch.float64) for number in (request.temperature, request.top_p, chance))
        return int(sample_ids(masked, *told))

    def _drawn(self, draw: Draw, request: Request, main: Stream, null: Stream) -> np.ndarray:
        """[n, W] clean tokens of a block, by Euler's method."""
        name, z = draw.modality, draw.noise
        if (steps := request.steps_of(name)) > MOST_STEPS:
            raise ConfigError(f"got steps={steps}; expected at most {MOST_STEPS}, whose times {MANIFEST} holds")
        times = self.manifest["times"][name][steps - 1]
        scale = np.float32(request.guidance_of(name) if draw.guided else 1.0)
        for t, following in pairwise(times):
            clean = self._clean(draw, main, z, t, draw.coordinates)
            if scale != 1.0:
                of_null = self._clean(draw, null, z, t, draw.bare)
                clean = of_null + scale * (clean - of_null)
            z = z + np.float32((following - t) / (1.0 - t)) * (clean - z)
        return z

    def _clean(self, draw: Draw, stream: Stream, z: np.ndarray, t: float, coordinates: np.ndarray) -> np.ndarray:
        block = FlowBlock(draw.modality, z, coordinates, False, t, draw.expert)
        hidden, _, _, _ = self._step(stream, [block])
        time = np.full(len(z), t, np.float32)
        (clean,) = self.run(f"clean_{draw.modality}", hidden=hidden, noised=z, coordinates=coordinates, time=time)
        return clean
