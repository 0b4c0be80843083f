"""Learns from a model's own answers, each as much as it is better than the others to the same question (Shao et al., 2024, arXiv
2402.03300), by the ratio of whole answers, clipped (Zheng et al., 2025, arXiv 2507.18071; of flow answers McAllister et al.,
2025, arXiv 2507.21053). The weights that answered are those that the training began with (plait.recipes.rewarding).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from plait.contract import Sample
from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer
from plait.train.objectives.pretrain import by_group
from plait.train.objectives.reference import PreferenceConfig, Reference, counts_without

ADVANCE, CLIPPED, DRIFT = "advance", "clipped", "drift"
LARGEST = 10.0  # log ratio that still counts: beyond, exp would have no use


class Grpo:
    """Three groups beside those of `Pretrain`, which rows without an advantage have: the loss an answer; the share of answers whose
    ratio is clipped; how far the answers are from those of the weights that gave them (an estimate of the divergence, in
    nats an answer: Schulman, 2020). Only the first has a gradient."""

    def __init__(self, model: MultimodalTransformer, settings: PreferenceConfig) -> None:
        self.reference, self.settings, self.vocabulary = Reference(model), settings, model.vocabulary

    def learns_from(self, sample: Sample) -> bool:
        """Always."""
        return True

    def groups(self, model: MultimodalTransformer) -> tuple[str, ...]:
        """Those of pretraining, then three of answers."""
        return (*model.vocabulary.groups, ADVANCE, CLIPPED, DRIFT)

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Targets of rows without an advantage, and answers with one."""
        others = counts_without(batch, self.vocabulary, batch.advantages)
        return others | dict.fromkeys((ADVANCE, CLIPPED, DRIFT), float(len(batch.advantages)))

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of each group."""
        losses = model.token_losses(batch)
        rows = torch.tensor(list(batch.advantages), dtype=torch.long, device=model.device)
        advantages = torch.tensor(list(batch.advantages.values()), device=model.device)
        likelier = self.reference.likelier(model, batch, losses, list(batch.advantages))
        log_ratio = likelier.ids / likelier.counts.clamp(min=1.0) + self.settings.flow_beta * likelier.flow
        ratio = log_ratio.clamp(max=LARGEST).exp()
        within = ratio.clamp(1.0 - self.settings.clip, 1.0 + self.settings.clip)
        clipped = advantages * within < advantages * ratio
        return by_group(losses, model.vocabulary.groups, rows) | {
            ADVANCE: -torch.minimum(advantages * ratio, advantages * within).sum(),
            CLIPPED: clipped.float().sum(),
            DRIFT: (ratio - 1.0 - log_ratio).detach().sum(),
        }
