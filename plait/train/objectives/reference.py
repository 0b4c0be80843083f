"""How much likelier rows have become since a training began: what preferences and rewards are taught by.

Words have a likelihood. A flow answer has none; its loss under noise that both models see bounds one, and the difference of the
two losses takes its place (Wallace et al., 2023, arXiv 2311.12908; McAllister et al., 2025, arXiv 2507.21053).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from plait.contract import Sample
from plait.data.pack import Batch
from plait.model.multimodal import MultimodalTransformer, TokenLosses


class PreferenceConfig(BaseModel):
    """Settings of the objectives `dpo` and `grpo`. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beta: float = Field(0.1, gt=0, description="dpo: how soon a difference of log probabilities of ids is enough")
    flow_beta: float = Field(
        50.0,
        gt=0,
        description="what a flow loss is worth beside log probabilities: of the mean over an answer's noised tokens",
    )
    clip: float = Field(0.2, gt=0, description="grpo: how far the ratio to the weights that answered may count")


@dataclass
class Likelier:
    """By row of a batch: what its log probability has gained of ids, and by how much its mean flow loss has fallen."""

    ids: Tensor  # [rows]
    flow: Tensor  # [rows]
    counts: Tensor  # [rows] ids that are targets

    def gained(self, settings: PreferenceConfig) -> Tensor:
        """[rows] in nats; of flow answers, in what counts as such."""
        return self.ids + settings.flow_beta * self.flow


class Reference:
    """The parameters that move, as they were at first. They belong to the run's state: a run that goes on needs them."""

    def __init__(self, model: MultimodalTransformer) -> None:
        self.tensors = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these in their place."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def in_place(self, model: MultimodalTransformer) -> Iterator[None]:
        """Within, the model computes with these parameters."""
        parameters = dict(model.named_parameters())

        def swap() -> None:
            for name, tensor in self.tensors.items():
                parameter = parameters[name]
                parameter.data, self.tensors[name] = tensor, parameter.data

        swap()
        try:
            yield
        finally:
            swap()

    def likelier(
        self, model: MultimodalTransformer, batch: Batch, losses: Mapping[str, TokenLosses], rows: Sequence[int]
    ) -> Likelier:
        """How much likelier `rows` of a batch are now, by the model's token losses. Gradients flow through these."""
        now = _by_row(losses, rows, batch)
        with torch.no_grad(), self.in_place(model):
            then = _by_row(model.token_losses(batch), rows, batch)
        return Likelier(then.ids - now.ids, then.flow - now.flow, now.counts)


class Compared:
    """What objectives share that compare rows with the reference: loss groups of their own, of which the first alone has a gradient,
    beside those of `Pretrain`, which all other rows have."""

    own_groups: tuple[str, ...]

    def __init__(self, model: MultimodalTransformer, settings: PreferenceConfig) -> None:
        self.reference, self.settings, self.vocabulary = Reference(model), settings, model.vocabulary

    def learns_from(self, sample: Sample) -> bool:
        """Always."""
        return True

    def groups(self, model: MultimodalTransformer) -> tuple[str, ...]:
        """Those of pretraining, then its own."""
        return (*model.vocabulary.groups, *self.own_groups)

    def counts_beside(self, batch: Batch, rows: Collection[int], compared: int) -> dict[str, float]:
        """Targets of each group of pretraining, but for those of `rows`, and how many are `compared`."""
        in_rows = torch.isin(batch.row, torch.tensor(sorted(rows), dtype=torch.long, device=batch.row.device))
        targets = batch.target[in_rows & (batch.target >= 0)].cpu().numpy()
        excluded = dict(zip(self.vocabulary.groups, self.vocabulary.counts(targets).tolist(), strict=True))
        for name, tokens in batch.noised.items():
            excluded[name] += int(in_rows.flatten()[tokens.index].sum())
        others = {group: float(count - excluded[group]) for group, count in batch.counts.items()}
        return others | dict.fromkeys(self.own_groups, float(compared))


def _by_row(losses: Mapping[str, TokenLosses], rows: Sequence[int], batch: Batch) -> Likelier:
    """Losses of `rows`, in their order: sums over ids, means over noised tokens of flow modalities."""
    device = batch.row.device
    order = torch.full((int(batch.row.max()) + 2,), len(rows), device=device)  # the last: rows that are not asked for
    order[torch.tensor(rows, dtype=torch.long, device=device)] = torch.arange(len(rows), device=device)

    def sums(values: Tensor, row: Tensor) -> Tensor:
        number = order[row.clamp(min=-1)]
        return torch.zeros(len(rows) + 1, device=device).index_add(0, number, values.float())[:-1]

    ids = losses[""]
    flow, tokens = torch.zeros(len(rows), device=device), torch.zeros(len(rows), device=device)
    for name, of_flow in losses.items():
        if name:
            flow = flow + sums(of_flow.loss, of_flow.row)
            tokens = tokens + sums(torch.ones_like(of_flow.loss), of_flow.row)
    return Likelier(
        sums(ids.loss, ids.row), flow / tokens.clamp(min=1.0), sums(torch.ones_like(ids.loss), ids.row).detach()
    )
