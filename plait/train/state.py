"""Everything that changes while training: weights, their moving average, optimizers, counters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from plait.data.loader import Loader
from plait.errors import ConfigError
from plait.model.multimodal import MultimodalTransformer
from plait.train.checkpoint import TrainState


class Training:
    """The mutable state of a run, and its exact image on disk."""

    def __init__(self, model: MultimodalTransformer, optimizers: list[Optimizer], loader: Loader) -> None:
        self.model, self.optimizers, self.loader = model, optimizers, loader
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = [parameter for _, parameter in model.named_parameters()]
        self.ema = [parameter.detach().clone() for parameter in self.parameters]
        self.step = 0
        self.tokens = 0  # row tokens, counted once
        self.stored = 0  # tokens with their copies, without padding: what the arithmetic is spent on
        self.seconds = 0.0
        self.data = ""  # hash of the training rows: a resumed run goes on with the rows it began with

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Exponential moving average with a horizon that grows from nothing, so that the start is forgotten."""
        weight = 1.0 - min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.ema, [parameter.detach() for parameter in self.parameters], weight)

    def ema_weights(self) -> dict[str, Tensor]:
        """By name, with what is not trained."""
        return dict(zip(self.names, self.ema, strict=True)) | dict(self.model.named_buffers())

    def image(self) -> TrainState:
        """Tensors by name and counters, enough to continue bit-exactly."""
        tensors = {
            f"weights.{name}": p.detach().contiguous() for name, p in zip(self.names, self.parameters, strict=True)
        }
        for number, optimizer in enumerate(self.optimizers):
            for index, entries in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{key}": value.contiguous() for key, value in entries.items()}
        return TrainState(tensors, self.counters() | {"loader": self.loader.state()})

    def counters(self) -> dict[str, Any]:
        """How far the run is, and the hash of its rows."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "stored": self.stored,
            "seconds": self.seconds,
            "data": self.data,
        }

    @torch.no_grad()
    def restore(self, image: TrainState, average: dict[str, Tensor]) -> None:
        """Continue from what `image` and the EMA weights of a checkpoint say. Raises ConfigError for other rows."""
        if image.counters.get("data") != self.data:
            raise ConfigError(
                f"the training rows have sha256 {self.data[:12]}; the run began with {str(image.counters.get('data'))[:12]}: "
                "bring back the data it began with, or start anew with --overwrite"
            )
        for name, parameter, averaged in zip(self.names, self.parameters, self.ema, strict=True):
            parameter.copy_(image.tensors[f"weights.{name}"])
            averaged.copy_(average[name])
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in image.tensors.items():
                if name.startswith(f"optimizer.{number}."):
                    index, key = name.split(".", 3)[2:]
                    state.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        counters = image.counters
        self.step, self.tokens, self.stored = counters["step"], counters["tokens"], counters["stored"]
        self.seconds = counters["seconds"]
        self.loader.load_state(counters["loader"])
