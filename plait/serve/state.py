"""What a server serves: models by name, each with its worker, and the settings that bound requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plait.serve.errors import ApiError
from plait.serve.explainer import Explainer
from plait.serve.media import MediaDecoder
from plait.serve.metrics import Metrics
from plait.serve.worker import Worker

if TYPE_CHECKING:
    from plait.api import Model
    from plait.infer.embedding import Embedder


@dataclass(frozen=True)
class Limits:
    """Bounds of what is asked, and of how often."""

    body: int = 64 << 20  # bytes
    media: int = 32  # of a conversation
    decoded: int = 256 << 20  # bytes of them when they are decoded
    messages: int = 512  # of a conversation
    characters: int = 200_000  # of a conversation
    answers: int = 8  # to one request
    tokens: int = 4096  # of an answer
    requests: int = 256  # under way at once
    kept: int = 16_384  # tokens of what has ended, for what begins as it did
    a_minute: int = 0  # requests of one key; 0: as many as come


@dataclass
class Served:
    """A model under its name, and since when it is here."""

    name: str
    model: Model
    worker: Worker
    created: int = field(default_factory=lambda: int(time.time()))
    embedder: Embedder | None = None  # made when it is first asked for; the worker's thread alone calls it

    @property
    def fingerprint(self) -> str:
        """A name of the weights' kind, that changes where answers to the same seed may."""
        network = self.model.network
        return f"plait-{self.name}-{network.device.type}-{str(network.dtype).removeprefix('torch.')}"

    @property
    def reads(self) -> list[str]:
        """Modalities that it takes."""
        return list(self.model.network.vocabulary.modalities)

    @property
    def writes(self) -> list[str]:
        """Modalities that it has learned to answer in."""
        return [name for name in self.reads if f"flows.{name}" not in self.model.network.unlearned]


class State:
    """Everything that the handlers of requests share. `marks`: whether media that leave are marked as made by a model."""

    def __init__(self, models: Mapping[str, Model], limits: Limits, marks: bool = True) -> None:
        self.limits, self.marks = limits, marks
        self.served = {
            name: Served(name, model, Worker(model.engine, model.longest, limits.requests))
            for name, model in models.items()
        }
        for model in models.values():
            model.engine.keep_prefixes(limits.kept)
        self.media = MediaDecoder()
        self.explainer = Explainer()
        self.metrics = Metrics(self.served)

    def find(self, name: str | None, param: str = "model") -> Served:
        """The model of a request; the only one there is, or the first, where none is named. Raises ApiError."""
        if name is None:
            return next(iter(self.served.values()))
        if name not in self.served:
            raise ApiError(
                f"the model {name!r} is not here; expected one of {', '.join(self.served)}",
                404,
                param,
                "model_not_found",
            )
        return self.served[name]
