"""What the loss is: one file an objective. There is one loop; an objective weighs and compares the losses of targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from plait.contract import Sample
from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer


class Objective(Protocol):
    """What the loop asks of an objective. Losses form groups; each is a sum over a step divided by its count."""

    def learns_from(self, sample: Sample) -> bool:
        """Whether a task teaches anything that has rows like this one."""

    def groups(self, model: MultimodalTransformer) -> tuple[str, ...]:
        """Names of the loss groups, in a fixed order: the same on every rank."""

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """How much of each group a batch holds: what its sum is divided by, added up over micro-batches and ranks."""

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """The sum of each group's losses over a batch, every group among them. Gradients flow through it."""
