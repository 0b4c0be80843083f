"""Augmentation: what training looks at is varied, and what it has to say and make stays true.

A task's `AugmentConfig` says in which share of its rows, with which settings of each modality, or by which
transformation of the whole sample, question and answer. All of it is in the recipe, so a checkpoint says how it was
trained whatever the code is called later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plait import registry
from plait.contract import Modality, Sample, Segment

Transform = Callable[[Sample, np.random.Generator], Sample]


class AugmentConfig(BaseModel):
    """How the rows of one task are varied. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.0, ge=0, le=1, description="of the task's rows")
    modalities: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="modality -> settings that differ from the model's: variations switched off"
    )
    transform: str = Field(
        "", description="MODULE.NAME of plait.tasks: changes question and answer together, in the place of all else"
    )


class Augmenter:
    """Varies samples of a model's modalities as `settings`, by task, say. Raises ConfigError for unknown settings."""

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
        self._usual = modalities

    def drawn(self, task: str, rng: np.random.Generator) -> bool:
        """Whether this row of a task is varied; a task without a share draws nothing from `rng`."""
        share = self.shares.get(task, 0.0)
        return bool(share and rng.random() < share)

    def augment(self, task: str, segment: Segment, rng: np.random.Generator) -> Segment:
        """A segment that is only looked at, as its modality varies it for the task."""
        module = registry.augments(segment.modality)
        if module is None:
            return segment
        modality = self.modalities.get(task, {}).get(segment.modality) or self._usual[segment.modality]
        return module.augment(modality, segment, rng)
