"""Everything that changes while training: weights, their moving average, optimizers, counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from plait.data.loader import Loader
from plait.data.loader_pool import LoaderPool
from plait.errors import ConfigError
from plait.model.multimodal import MultimodalTransformer
from plait.train.checkpoint import TrainState
from plait.train.objectives import Objective
from plait.train.objectives.pretrain import Pretrain
from plait.train.objectives.reference import Reference


class Training:
    """The mutable state of a run, and its exact image on disk."""

    def __init__(
        self,
        model: MultimodalTransformer,
        optimizers: list[Optimizer],
        loader: Loader | LoaderPool,
        objective: Objective | None = None,
    ) -> None:
        self.model, self.optimizers, self.loader = model, optimizers, loader
        self.objective = objective or Pretrain()
        moving = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.names, self.parameters = list(moving), list(moving.values())
        self.ema = [parameter.detach().clone() for parameter in self.parameters]
        self.step = 0
        self.tokens = 0  # row tokens, counted once
        self.stored = 0  # tokens with their copies, without padding: what the arithmetic is spent on
        self.seconds = self.preparing_seconds = 0.0
        self.data = ""  # hash of the training rows: a resumed run goes on with the rows it began with
        self.before_save: Callable[[], Any] = lambda: None  # what is to be on the disk before a checkpoint is

    @property
    def reference(self) -> Reference | None:
        """Where the parameters began, if the objective compares with that."""
        return getattr(self.objective, "reference", None)

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Exponential moving average with a horizon that grows from nothing, so that the start is forgotten."""
        weight = 1.0 - min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.ema, [parameter.detach() for parameter in self.parameters], weight)

    def ema_weights(self) -> dict[str, Tensor]:
        """By name, with what does not move."""
        fixed = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        return fixed | dict(zip(self.names, self.ema, strict=True)) | dict(self.model.named_buffers())

    def _optimized(self) -> Iterator[tuple[str, Optimizer, nn.Parameter]]:
        """Every parameter that an optimizer moves, with its name."""
        names = {id(parameter): name for name, parameter in zip(self.names, self.parameters, strict=True)}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from ((names[id(parameter)], optimizer, parameter) for parameter in group["params"])

    def image(self) -> TrainState:
        """Tensors by the names of their parameters, and counters: enough to continue bit-exactly."""
        tensors = {
            f"weights.{name}": p.detach().contiguous() for name, p in zip(self.names, self.parameters, strict=True)
        }
        for name, optimizer, parameter in self._optimized():
            for key, value in optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value.contiguous()
        if self.reference is not None:
            tensors |= {f"reference.{name}": tensor.contiguous() for name, tensor in self.reference.tensors.items()}
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
        if self.reference is not None:
            self.reference.load({name: image.tensors[f"reference.{name}"] for name in self.reference.tensors})
        stored: dict[str, dict[str, Tensor]] = {}
        for key, tensor in image.tensors.items():
            if key.startswith("optimizer."):
                _, field, name = key.split(".", 2)
                stored.setdefault(name, {})[field] = tensor
        for name, optimizer, parameter in self._optimized():
            optimizer.state[parameter] = {field: tensor.clone() for field, tensor in stored.get(name, {}).items()}
        counters = image.counters
        self.step, self.tokens, self.stored = counters["step"], counters["tokens"], counters["stored"]
        self.seconds = counters["seconds"]
        self.loader.load_state(counters["loader"])
