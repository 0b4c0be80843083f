"""New rows are learned, and earlier ones answered as the model did when the training began: learning without forgetting (Li and Hoiem, 2016)
by dark experience (Buzzega et al., 2020, arXiv 2004.07211), for words and for media.

What an earlier row teaches is what the model predicted: probabilities of ids, and the clean tokens that a flow head saw in the noise. Where
nothing has been forgotten this has no gradient, whereas data would pull the model about with its noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer, TokenLosses
from plait.train.objectives.pretrain import Pretrain, by_group
from plait.train.objectives.reference import Reference


@dataclass
class Predictions:
    """What a model predicts in some rows: [n, V] logits of ids, [n, W] clean tokens of each flow modality."""

    ids: Tensor
    flows: dict[str, Tensor]


class Recall(Pretrain):
    """The groups of `Pretrain`. In rows that are recalled the divergence from the first predictions takes the loss's place."""

    def __init__(self, model: MultimodalTransformer) -> None:
        self.reference = Reference(model)

    def sums(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """Losses of each group."""
        groups = model.vocabulary.groups
        if not batch.recalled:
            return super().sums(model, batch)
        rows = torch.tensor(batch.recalled, device=model.device)
        with torch.no_grad(), self.reference.in_place(model):
            then = predictions(model, model.hidden(batch), batch, rows)
        hidden = model.hidden(batch)
        sums = by_group(model.losses_of(hidden, batch), groups, rows)
        recalled = by_group(divergences(model, batch, rows, predictions(model, hidden, batch, rows), then), groups)
        return {group: sums[group] + recalled.get(group, 0.0) for group in sums}


def predictions(model: MultimodalTransformer, hidden: Tensor, batch: Batch, rows: Tensor) -> Predictions:
    """What the hidden states of a batch predict in some rows."""
    index = _targets(batch, rows)
    flows = {}
    for name, tokens in batch.noised.items():
        at = torch.isin(batch.row.flatten()[tokens.index], rows)
        if at.any():
            expected = model.expected(name, tokens.coordinates[at])
            noised = tokens.inputs[at], tokens.time[at], expected
            flows[name] = model.flows[name](hidden.index_select(0, tokens.index[at]), *noised)
    return Predictions(model.logits(hidden.index_select(0, index)), flows)


def _targets(batch: Batch, rows: Tensor) -> Tensor:
    """Indices of the tokens of some rows that predict an id."""
    return ((batch.target.flatten() >= 0) & torch.isin(batch.row.flatten(), rows)).nonzero().flatten()


def divergences(
    model: MultimodalTransformer, batch: Batch, rows: Tensor, now: Predictions, then: Predictions
) -> dict[str, TokenLosses]:
    """How far each prediction is from the first: nats of ids, weighed squares of clean tokens, as flow losses are."""
    row, target = batch.row.flatten(), batch.target.flatten()
    index = _targets(batch, rows)
    group = torch.from_numpy(model.vocabulary.group_of_id).to(target.device)[target[index]]
    apart = F.kl_div(now.ids.log_softmax(-1), then.ids.log_softmax(-1), log_target=True, reduction="none").sum(dim=-1)
    losses = {"": TokenLosses(apart, row[index], group)}
    for name, predicted in now.flows.items():
        tokens = batch.noised[name]
        at = torch.isin(row[tokens.index], rows)
        head = model.flows[name]
        loss = head.weighed(predicted - then.flows[name], tokens.time[at])  # type: ignore[operator]
        losses[name] = TokenLosses(loss, row[tokens.index[at]])
    return losses
