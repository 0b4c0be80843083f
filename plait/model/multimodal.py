"""The whole model: embeddings and heads in dictionaries built from the modalities, around one trunk."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from plait.contract import Modality
from plait.data.pack import Batch
from plait.data.vocabulary import GRAMMAR, Vocabulary
from plait.heads.categorical import CategoricalHead
from plait.heads.flow import FlowHead
from plait.model.attention import prepare
from plait.model.init import initialise
from plait.model.layers import Linear, Norm
from plait.model.mask import allowed
from plait.model.transformer import Trunk, TrunkConfig


class MultimodalTransformer(nn.Module):
    """One transformer over ids and continuous tokens. `dtype` is what the trunk computes in; weights stay float32.

    `components`: by modality, how many principal components its flow head knows (plait.model.pca)."""

    def __init__(
        self,
        config: TrunkConfig,
        vocabulary: Vocabulary,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        components: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary, self.dtype = vocabulary, dtype
        self.flexible = False  # FlexAttention in `hidden`
        flows: Mapping[str, Modality] = {n: m for n, m in vocabulary.modalities.items() if m.head == "flow"}
        self.ids = nn.Embedding(vocabulary.size, config.dim)
        self.embedders = nn.ModuleDict({name: modality.embedder(config.dim) for name, modality in flows.items()})
        self.trunk = Trunk(config)
        self.categorical = CategoricalHead(config.dim, vocabulary.size)
        known = components or {}
        self.flows = nn.ModuleDict(
            {name: FlowHead(config.dim, m.token_width, known.get(name, 0)) for name, m in flows.items()}
        )
        initialise(self, seed)

    @property
    def device(self) -> torch.device:
        return self.ids.weight.device

    def for_inference(self) -> MultimodalTransformer:
        """The same model with its weights settled in `dtype`: faster, and no longer to be trained."""
        for module in self.modules():
            if isinstance(module, (Linear, Norm, FlowHead)):
                module.freeze_for_inference(self.dtype)
        return self.eval()

    def compile_trunk(self) -> None:
        """torch.compile what a training step spends its time in; on a CUDA device attention becomes FlexAttention."""
        self.flexible = self.device.type == "cuda"
        self.trunk.compile()

    def embed(self, batch: Batch) -> Tensor:
        """[B, L, D] input vectors of a batch."""
        B, L = batch.ids.shape
        x = self.ids(batch.ids.clamp_min(0).flatten()).to(self.dtype)
        for name, tokens in batch.continuous.items():
            if len(tokens.index):
                made = self.embedders[name](tokens.inputs.to(self.dtype), tokens.coordinates, tokens.time)
                x = x.index_copy(0, tokens.index, made)
        vectors: Tensor = x.view(B, L, -1)
        return vectors

    def hidden(self, batch: Batch) -> Tensor:
        """[B * L, D] hidden states."""
        seen = allowed(batch.row, batch.block, batch.copy)
        mask = prepare(seen, self.dtype, flexible=True) if self.flexible else seen
        hidden: Tensor = self.trunk(self.embed(batch), batch.position, mask)
        return hidden.flatten(0, 1)

    def loss_sums(self, batch: Batch) -> dict[str, Tensor]:
        """Sum of the losses of each group over the batch; the caller divides by counts of the whole step."""
        hidden = self.hidden(batch)
        sums = self._categorical_sums(hidden, batch)
        for name, tokens in batch.continuous.items():
            head = self.flows[name]
            if not len(tokens.index):
                sums[name] = self._absent(name)  # every rank must touch every weight, or sharded training hangs
                continue
            learned = tokens.learned
            at = tokens.index[learned]
            given = tokens.inputs[learned], tokens.clean[learned], tokens.time[learned]
            sums[name] = head.loss(hidden.index_select(0, at), *given).sum()  # type: ignore[operator]
        return sums

    def _categorical_sums(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:
        target = batch.target.flatten()
        at = (target >= 0).nonzero().flatten()
        losses = self.categorical.loss(hidden.index_select(0, at), target[at])
        owner = torch.from_numpy(self.vocabulary.group_of_id).to(target.device)[target[at]]
        sums = torch.zeros(len(self.vocabulary.groups), device=losses.device).index_add(0, owner, losses)
        names = [GRAMMAR, *self.vocabulary.offsets]
        return {name: sums[self.vocabulary.groups.index(name)] for name in names}

    def _absent(self, name: str) -> Tensor:
        modality = self.vocabulary.modalities[name]
        header = modality.read(modality.example(0)).blocks[0].header
        coordinates = torch.from_numpy(modality.coordinates(header)[:1]).to(self.device)
        nothing = torch.zeros(1, modality.token_width, device=self.device, dtype=self.dtype)
        time = torch.ones(1, device=self.device)
        embedded = self.embedders[name](nothing, coordinates, time)
        return 0.0 * self.flows[name](embedded, nothing, time).sum()  # type: ignore[no-any-return]
