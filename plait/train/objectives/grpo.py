"""Learns from a model's own answers, each as much as it is better than the others to the same question (Shao et al., 2024, arXiv
2402.03300), by a ratio an answer, the mean over its ids, clipped (Zheng et al., 2025, arXiv 2507.18071; of flow answers McAllister et al.,
2025, arXiv 2507.21053). The weights that answered are those that the training began with (plait.recipes.rewarding).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer
from plait.train.objectives.pretrain import by_group
from plait.train.objectives.reference import Compared

POLICY, CLIPPED, KL = "policy", "clipped", "kl"
LARGEST = 10.0  # log ratio; beyond, nothing moves, as by dual clipping (Ye et al., 2020, arXiv 1912.09729)


class Grpo(Compared):
    """Three groups beside those of `Pretrain`, which rows without an advantage have: the policy loss an answer; the share of answers
    whose ratio is clipped; an estimate of the divergence from the weights that gave the answers (Schulman, 2020), of the same ratio, so
    in nats an id, or in `flow_beta` times a flow loss. Only the first has a gradient."""

    own_groups = (POLICY, CLIPPED, KL)

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Targets of rows without an advantage, and answers with one."""
        return self.counts_beside(batch, batch.advantages, len(batch.advantages))

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
            POLICY: -torch.minimum(advantages * ratio, advantages * within).sum(),
            CLIPPED: clipped.float().sum(),
            KL: (ratio - 1.0 - log_ratio).detach().sum(),
        }
