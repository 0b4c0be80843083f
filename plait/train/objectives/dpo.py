"""Direct preference optimisation (Rafailov et al., 2023, arXiv 2305.18290): what was chosen is to become likelier than what was
rejected, measured from where the training began. Pictures and sound take part by their flow losses (plait.train.objectives.reference).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer
from plait.train.objectives.pretrain import by_group
from plait.train.objectives.reference import Compared

PREFERENCE, ACCURACY, CHOSEN = "preference", "reward accuracy", "chosen reward"


class Dpo(Compared):
    """Three groups beside those of `Pretrain`, which rows without a rejected answer have: the loss a pair; the share of pairs whose
    chosen answer has gained more; what the chosen answer itself has gained, which rises first and falls later. Only the first
    has a gradient."""

    own_groups = (PREFERENCE, ACCURACY, CHOSEN)

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Targets of rows without a pair, and pairs."""
        return self.counts_beside(batch, {*batch.rejected, *batch.rejected.values()}, len(batch.rejected))

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of each group."""
        losses = model.token_losses(batch)
        chosen, rejected = list(batch.rejected), list(batch.rejected.values())
        paired = torch.tensor([*chosen, *rejected], dtype=torch.long, device=model.device)
        sums = by_group(losses, model.vocabulary.groups, paired)
        gained = self.reference.likelier(model, batch, losses, [*chosen, *rejected]).gained(self.settings)
        margin = gained[: len(chosen)] - gained[len(chosen) :]
        return sums | {
            PREFERENCE: -F.logsigmoid(self.settings.beta * margin).sum(),
            ACCURACY: (margin.detach() > 0).float().sum(),
            CHOSEN: gained[: len(chosen)].detach().sum(),
        }
