"""Families of language models: a file a family says how its configuration and its weights are called here.

A configuration is Hugging Face's `config.json`; `plait.pretrained.gguf` writes one from a file's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from plait.contract import WORDS
from plait.errors import CheckpointError
from plait.model.transformer import TrunkConfig
from plait.pretrained.families import gpt2, llama
from plait.pretrained.families.reading import Config, Weights

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


FAMILIES: dict[str, Any] = {
    "llama": llama.Llama("llama"),
    "smollm3": llama.Llama("smollm3", tied=True),
    "qwen2": llama.Llama("qwen2", qkv_bias=True),
    "qwen3": llama.Llama("qwen3", qk_norm=True),
    "gemma": llama.Gemma("gemma", tied=True),
    "gpt2": gpt2.GPT2(),
}
PREFIXES = ("model.", "transformer.")  # of a model with an output head


@dataclass(frozen=True)
class Architecture:
    """A language model as configured: its trunk, the number of its ids, whether head and table share weights, and the
    longest sequence of its pretraining, if it is said."""

    trunk: TrunkConfig
    vocabulary: int
    tied: bool
    length: int | None


def family_of(config: Config) -> Family:
    """The family of a configuration. Raises CheckpointError for one that is not known."""
    name = config.get("model_type")
    if name not in FAMILIES:
        raise CheckpointError(
            f"got a model of the family {name!r}; expected one of {', '.join(FAMILIES)} (SmolLM and SmolLM2 are llama). "
            "Other families attend, normalise or rotate in ways that the trunk does not have"
        )
    family: Family = FAMILIES[name]
    return family


def architecture(config: Config) -> Architecture:
    """What a configuration describes. Raises CheckpointError for a family or a setting that the trunk does not have."""
    family = family_of(config)
    length = config.get("max_position_embeddings", config.get("n_positions"))
    return Architecture(family.trunk(config), int(config["vocab_size"]), family.tied(config), length)


def to_ours(tensors: Mapping[str, Tensor], config: Config) -> Weights:
    """A model's weights by the names of `plait.model.multimodal`: the trunk, the table of words and, unless tied, its head.

    Raises CheckpointError for a weight that is missing.
    """
    family, described = family_of(config), architecture(config)
    bare = {_without_prefix(name): tensor for name, tensor in tensors.items()}
    weights = {f"trunk.{name}": tensor for name, tensor in family.weights(bare, described.trunk).items()}
    if family.embedding() not in bare:
        raise CheckpointError(
            f"the weights lack {family.embedding()}; expected all of a {config['model_type']} model's"
        )
    weights[TABLE] = bare[family.embedding()]
    if not described.tied:
        if "lm_head.weight" not in bare:
            raise CheckpointError(
                "the weights lack lm_head.weight, and config.json does not tie it to the embeddings; expected one of both"
            )
        head = bare["lm_head.weight"]
        weights |= {f"{HEAD}.weight": head, f"{HEAD}.bias": head.new_zeros(len(head))}
    return weights


def _without_prefix(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
