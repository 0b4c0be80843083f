"""Augmentation of training inputs that leaves the answer true.

A task's `AugmentConfig` sets the share of its rows that are augmented, and either the settings of each modality or one
transformation of the whole sample, question and answer together. The recipe holds all of it, so a checkpoint records
how it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plait import registry
from plait.contract import Modality, Sample, Segment

Transform = Callable[[Sample, np.random.Generator], Sample]


class AugmentConfig(BaseModel):
    """How the rows of one task are augmented. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.0, ge=0, le=1, description="of the task's rows")
    modalities: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="modality -> settings that differ from the model's, such as variations switched off",
    )
    transform: str = Field(
        "",
        description="MODULE.NAME of plait.tasks: changes question and answer together, instead of the modalities' augmentation",
    )


@dataclass(frozen=True)
class Variation:
    """How the parts of one row without loss are varied: segments by `augment`, features with draws from `rng`."""

    augmenter: Augmenter
    task: str
    rng: np.random.Generator

    def augment(self, segment: Segment) -> Segment:
        """A varied copy."""
        return self.augmenter.augment(self.task, segment, self.rng)


class Augmenter:
    """Augments samples by the `settings` of their task. Raises ConfigError for unknown settings."""

    def __init__(self, settings: Mapping[str, AugmentConfig], modalities: Mapping[str, Modality]) -> None:
        self.shares = {task: config.share for task, config in settings.items()}
        self.modalities = {
            task: {
                name: registry.build(name, modalities[name].state() | changes)
                for name, changes in config.modalities.items()
                if name in modalities
            }
            for task, config in settings.items()
        }
        self.transforms: dict[str, Transform] = {
            task: registry.transform(config.transform) for task, config in settings.items() if config.transform
        }
        self._default_modalities = modalities

    def selects(self, task: str, rng: np.random.Generator) -> bool:
        """Whether to augment this row of `task`; a task without a share draws nothing from `rng`."""
        share = self.shares.get(task, 0.0)
        return bool(share and rng.random() < share)

    def augment(self, task: str, segment: Segment, rng: np.random.Generator) -> Segment:
        """An augmented copy of an input segment; the segment itself if its modality has no `augment.py`."""
        module = registry.augments(segment.modality)
        if module is None:
            return segment
        modality = self.modalities.get(task, {}).get(segment.modality) or self._default_modalities[segment.modality]
        return module.augment(modality, segment, rng)
