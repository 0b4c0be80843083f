"""Families of language models: a file a family says how its configuration and its weights are called here.

A configuration is Hugging Face's `config.json`; `plait.pretrained.gguf` writes one from a file's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from plait.contract import WORDS
from plait.errors import CheckpointError
from plait.model.transformer import Trunk, TrunkConfig
from plait.pretrained.families import gpt2, llama
from plait.pretrained.families.reading import Config, Weights, joined, setting

TABLE = f"tables.{WORDS}.weight"
HEAD = f"categorical.{WORDS}.logits"


class Family(Protocol):
    """What a family's file has."""

    def trunk(self, config: Config) -> TrunkConfig:
        """The trunk that a configuration describes. Raises CheckpointError for what the trunk cannot do."""

    def weights(self, tensors: Mapping[str, Tensor], trunk: TrunkConfig) -> Weights:
        """The trunk's weights, by our names inside it."""

    def embedding(self) -> str:
        """Name of the table of embeddings."""

    def tied(self, config: Config) -> bool:
        """Whether the output head is the table of embeddings."""


FAMILIES: dict[str, Family] = {
    "llama": llama.Llama("llama"),
    "smollm3": llama.Llama("smollm3", tied=True, base=2_000_000.0),
    "qwen2": llama.Llama("qwen2", qkv_bias=True),
    "qwen3": llama.Llama("qwen3", qk_norm=True),
    "gemma": llama.Gemma("gemma", tied=True),
    "gpt2": gpt2.GPT2(),
}
HEAD_NAME = "lm_head.weight"
CONSTANTS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")  # stored by older versions, and no weights
PREFIXES = ("model.", "transformer.")  # of a model with an output head


@dataclass(frozen=True)
class Architecture:
    """A language model as configured: its trunk, the number of its ids, whether head and table share weights, and the
    longest sequence of its pretraining, if it is said."""

    trunk: TrunkConfig
    vocabulary: int
    tied: bool
    length: int | None


class Taken(dict[str, Tensor]):
    """Tensors by name, and which of them were looked at."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.taken: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.taken.add(name)
        return super().__getitem__(name)


def family_of(config: Config) -> Family:
    """The family of a configuration. Raises CheckpointError for one that is not known."""
    name = config.get("model_type")
    if name not in FAMILIES:
        raise CheckpointError(
            f"got a model of the family {name!r}; expected one of {', '.join(FAMILIES)} (SmolLM and SmolLM2 are llama). "
            "Other families attend, normalise or rotate in ways that the trunk does not have"
        )
    return FAMILIES[name]


def architecture(config: Config) -> Architecture:
    """What a configuration describes. Raises CheckpointError for a family or a setting that the trunk does not have."""
    family = family_of(config)
    length = config.get("max_position_embeddings", config.get("n_positions"))
    try:
        return Architecture(family.trunk(config), int(setting(config, "vocab_size")), family.tied(config), length)
    except (ValueError, TypeError) as error:  # among them pydantic's
        raise CheckpointError(f"config.json describes no model that can be: {error}") from error


def to_ours(tensors: Mapping[str, Tensor], config: Config) -> Weights:
    """A model's weights by the names of `plait.model.multimodal`: the trunk, the table of words and, unless tied, its head.

    Raises CheckpointError for a weight that is missing, that has no place, or that has another shape than configured.
    """
    family, described = family_of(config), architecture(config)
    bare = Taken({_without_prefix(name): tensor for name, tensor in tensors.items()})
    weights = {f"trunk.{name}": tensor for name, tensor in family.weights(bare, described.trunk).items()}
    weights[TABLE] = joined(bare, [family.embedding()])
    if not described.tied:
        if HEAD_NAME not in bare:
            raise CheckpointError(
                f"the weights lack {HEAD_NAME}, and config.json does not tie it to the embeddings; expected one of both"
            )
        head = joined(bare, [HEAD_NAME])
        weights |= {f"{HEAD}.weight": head, f"{HEAD}.bias": head.new_zeros(len(head))}
    elif HEAD_NAME in bare and not torch.equal(bare[HEAD_NAME], weights[TABLE]):
        raise CheckpointError(
            f"config.json ties the head to the embeddings, but {HEAD_NAME} differs from them; expected equal weights, or "
            '"tie_word_embeddings": false'
        )
    if left := sorted(name for name in set(bare) - bare.taken if not name.endswith(CONSTANTS)):
        raise CheckpointError(
            f"got the weights {', '.join(left[:4])}, for which a {config['model_type']} model of this config.json has no place"
        )
    _check_shapes(weights, described)
    return weights


def _check_shapes(weights: Weights, described: Architecture) -> None:
    """Raise CheckpointError for a weight of another shape than the configuration gives."""
    with torch.device("meta"):
        expected = {f"trunk.{name}": tensor.shape for name, tensor in Trunk(described.trunk).state_dict().items()}
    table = torch.Size((described.vocabulary, described.trunk.dim))
    expected |= {TABLE: table, f"{HEAD}.weight": table, f"{HEAD}.bias": table[:1]}
    for name, tensor in weights.items():
        if tensor.shape != expected[name]:
            raise CheckpointError(
                f"the weights of {name} have shape {list(tensor.shape)}; expected {list(expected[name])} by config.json"
            )


def _without_prefix(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
