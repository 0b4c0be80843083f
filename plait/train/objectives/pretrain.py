"""Next token and flow, each group by itself: pretraining, and supervised fine-tuning, which is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from plait.contract import Sample
from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer, TokenLosses


class Pretrain:
    """Every target counts once, in the group that owns it: the grammar, or a modality."""

    def learns_from(self, sample: Sample) -> bool:
        """Always."""
        return True

    def groups(self, model: MultimodalTransformer) -> tuple[str, ...]:
        """The grammar, then every modality."""
        return model.vocabulary.groups

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Targets of each group."""
        return batch.counts

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of ids by their owners, and of each flow modality."""
        return by_group(model.token_losses(batch), model.vocabulary.groups)


def by_group(
    losses: Mapping[str, TokenLosses], groups: Sequence[str], without: Tensor | None = None
) -> dict[str, Tensor]:
    """Sums of token losses by their group; rows whose numbers are in `without` have none."""

    def kept(own: TokenLosses) -> Tensor:
        return own.loss if without is None else own.loss * ~torch.isin(own.row, without)

    ids = losses[""]
    assert ids.group is not None
    by_owner = torch.zeros(len(groups), device=ids.loss.device).index_add(0, ids.group, kept(ids))
    sums = {group: by_owner[number] for number, group in enumerate(groups) if group not in losses}
    return sums | {name: kept(of_flow).sum() for name, of_flow in losses.items() if name}
