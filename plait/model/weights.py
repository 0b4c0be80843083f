"""Stored weights into a model, by name: ids of marks are found by their names, and only what no checkpoint gives is drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from plait.data.vocabulary import MARKS, Vocabulary
from plait.errors import CheckpointError
from plait.model.init import initialise
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig

ROWS_BY_MARK = (f"tables.{MARKS}.weight", f"categorical.{MARKS}.logits.weight", f"categorical.{MARKS}.logits.bias")


@dataclass(frozen=True)
class Base:
    """What a model stands on, and the names of the `tensors` that are that one's still: a checkpoint does not hold them. A language
    model by name and by the hash of its source, or another checkpoint by its place or name and the hash of its configuration."""

    name: str
    sha256: str
    tensors: frozenset[str]

    def without(self, names: Collection[str]) -> Base:
        """The base, of which tensors with these names are no longer taken."""
        return replace(self, tensors=self.tensors.difference(names))


def fitted(
    config: TrunkConfig,
    vocabulary: Vocabulary,
    weights: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    dtype: torch.dtype = torch.float32,
    tied: Sequence[str] = (),
    seed: int | None = None,
    components: Mapping[str, int] | None = None,
) -> MultimodalTransformer:
    """A model with stored `weights`, whose marks and grammar names were `names`; what they lack is drawn from `seed`.
    `components` are those of flow heads that are drawn.

    Raises CheckpointError for weights of other shapes, for names that are gone, and, with no seed, for weights that are
    missing. Nothing is drawn or allocated twice: the model is built on the `meta` device.
    """
    gone = sorted(set(names) - set(vocabulary.names))
    if gone:
        raise CheckpointError(
            f"the checkpoint knows the grammar names {', '.join(gone[:8])}, which the installed modalities lack; install "
            "the version that wrote it"
        )
    stored_components = {n: len(weights[key]) for n in vocabulary.modalities if (key := f"flows.{n}.axes") in weights}
    components = dict(components or {}) | stored_components
    with torch.device("meta"):
        model = MultimodalTransformer(config, vocabulary, seed=None, dtype=dtype, components=components, tied=tied)
        model.ask(_questions_in(weights))
    wanted = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    stored = {name: tensor for name, tensor in weights.items() if name in wanted}
    if unknown := sorted(set(weights) - set(wanted)):
        raise CheckpointError(f"it holds weights that the model has no place for: {', '.join(unknown[:4])}")
    missing = set(wanted) - set(stored)
    if seed is None and missing:
        raise CheckpointError(f"it lacks the weights {', '.join(sorted(missing)[:4])}; expected all of the model's")
    drawn = {name for name in ROWS_BY_MARK if name in stored and tuple(names) != vocabulary.names}
    if seed is None and drawn:
        raise CheckpointError("its grammar lacks names of the installed modalities; install the version that wrote it")
    for name, tensor in stored.items():
        if name not in drawn and tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"its {name} has shape {list(tensor.shape)}; expected {list(wanted[name].shape)} by its configuration"
            )
    model.load_state_dict({n: t for n, t in stored.items() if n not in drawn}, strict=False, assign=True)
    if seed is not None:
        initialise(model, seed, missing | drawn)
    _copy_rows(model, stored, drawn, names, vocabulary)
    model.unlearned = {name for name in model.learners() if any(own.startswith(f"{name}.") for own in missing)}
    return model


def _questions_in(weights: Collection[str]) -> dict[str, set[str]]:
    """Questions that a model with these weights asks, by reader."""
    questions: dict[str, set[str]] = {}
    for name in weights:
        if name.startswith("askers."):
            reader, _, question = name.split(".")[1].partition("/")
            questions.setdefault(reader, set()).add(question)
    return questions


@torch.no_grad()
def _copy_rows(
    model: MultimodalTransformer,
    stored: Mapping[str, Tensor],
    drawn: set[str],
    names: Sequence[str],
    vocabulary: Vocabulary,
) -> None:
    """Rows of the tables of marks, from where their names stood to where they stand."""
    if not drawn:
        return
    there = dict(model.named_parameters())
    targets = torch.tensor([vocabulary.ids[name] for name in names])
    for name in drawn:
        if stored[name].shape[1:] != there[name].shape[1:] or len(stored[name]) != len(names):
            raise CheckpointError(f"its {name} has shape {list(stored[name].shape)}; expected a row for each name")
        there[name].index_copy_(0, targets, stored[name].to(there[name].dtype))
