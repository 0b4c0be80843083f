"""The words of a checkpoint as a folder that transformers loads: trunk, table of words, tokenizer and chat template.

What reads and writes other modalities, and the ids that begin them, stay behind: no other library has a place for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from plait.contract import WORDS
from plait.data.vocabulary import SHARED
from plait.errors import CheckpointError
from plait.model.lora import SCALE, expert_of
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.pretrained.families import FAMILIES, HEAD, HEAD_NAME, TABLE
from plait.pretrained.families.llama import Llama
from plait.pretrained.families.reading import Weights
from plait.pretrained.tokenizer import with_specials

CLASSES = {"llama": "Llama", "smollm3": "SmolLM3", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma": "Gemma"}
NAMED_IDS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)  # none, not those that a class of transformers brings along
LENGTH = 2048  # of the longest sequence, where nothing is known of it


@dataclass(frozen=True)
class Described:
    """The words of a checkpoint as a family has them: its configuration of the trunk, float32 `tensors` by the family's names, and
    whether the head's weights are the table's. `ids`: of tokens that the chat template names, such as eos_token."""

    family: Llama
    trunk: TrunkConfig
    tensors: Weights
    tied: bool
    ids: Mapping[str, int]


def describe(network: MultimodalTransformer) -> Described:
    """The words of a checkpoint as some family has them. Raises CheckpointError for a trunk that no family describes."""
    trunk = bare(network.trunk.config)
    family = next((one for one in FAMILIES.values() if isinstance(one, Llama) and _describes(one, trunk)), None)
    if family is None:
        raise CheckpointError(
            f"no model of transformers has this trunk ({_in_words(network.trunk.config)}); expected one that came from Llama, SmolLM, Qwen2, "
            "Qwen3 or Gemma: trunks of plait's own recipes normalise otherwise"
        )
    weights, tied = network.state_dict(), WORDS in network.tied
    tensors = {**_trunk_of(network, family, trunk), family.embedding(): weights[TABLE]}
    if not tied:
        if weights[f"{HEAD}.bias"].any():
            raise CheckpointError("the head of words has a bias, which transformers has no place for; expected none")
        tensors[HEAD_NAME] = weights[f"{HEAD}.weight"]
    template = network.vocabulary.template
    named = {} if template is None else {name: template.specials.get(token) for name, token in template.names.items()}
    ids = {name: index for name, index in named.items() if index is not None}
    return Described(family, trunk, {name: tensor.float().contiguous() for name, tensor in tensors.items()}, tied, ids)


def write(network: MultimodalTransformer, folder: Path, length: int = LENGTH) -> Path:
    """Write the new folder; returns it. `length`: tokens of the longest sequence that the trunk learned from.

    Raises CheckpointError for a trunk that no family describes, or a folder that is there."""
    described = describe(network)
    family, words, template = described.family, network.vocabulary.modalities[WORDS], network.vocabulary.template
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is there already; expected a new folder")
    config = {
        **family.config(described.trunk), "architectures": [f"{CLASSES[family.name]}ForCausalLM"], "vocab_size": words.token_width,
        "tie_word_embeddings": described.tied, "max_position_embeddings": length, "torch_dtype": "float32", **dict.fromkeys(NAMED_IDS),
        **{f"{name}_id": index for name, index in described.ids.items()},
    }  # fmt: skip
    names = template.names if template is not None else {}
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, **names}
    if template is not None:
        settings["chat_template"] = template.source
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name if name == HEAD_NAME else f"model.{name}": tensor for name, tensor in described.tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    stored = with_specials(words.state()["tokenizer_json"], template.specials if template is not None else {})
    for file, content in (("config.json", config), ("tokenizer_config.json", settings), ("tokenizer.json", stored)):
        (folder / file).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def bare(trunk: TrunkConfig) -> TrunkConfig:
    """A trunk without what other modalities add to it, with nothing left to be derived."""
    return trunk.model_copy(
        update={
            "adapters": {}, "split": {}, "split_every": {}, "embedding_rms": 1.0, "num_kv_heads": trunk.kv_heads, "head_dim": trunk.head_width,
            "hidden": trunk.hidden_width, "max_positions": None, "qkv_bias": trunk.bias if trunk.qkv_bias is None else trunk.qkv_bias,
        }
    )  # fmt: skip


def _describes(family: Llama, trunk: TrunkConfig) -> bool:
    """Whether a trunk is what the family reads out of its own description of it."""
    try:
        return bare(family.trunk(family.config(trunk))) == trunk
    except CheckpointError:
        return False


def _trunk_of(network: MultimodalTransformer, family: Llama, trunk: TrunkConfig) -> Weights:
    """The trunk's tensors as the family names them, with what adapters of words add."""
    stored = network.trunk.state_dict()
    tensors = {
        name: tensor for name, tensor in stored.items() if ".adapters." not in name and not name.startswith("experts.")
    }
    for name in [name for name in network.trunk.config.adapters if expert_of(name) == SHARED]:
        for down in [key for key in stored if key.endswith(f".down.{name}")]:
            adapters, _, layer = down.removesuffix(f".down.{name}").rpartition(".")
            weight = f"{adapters.removesuffix('.adapters')}.{layer}.weight"
            up = stored[f"{adapters}.{layer}.up.{name}"]
            tensors[weight] = tensors[weight].float() + SCALE * up.float() @ stored[down].float()
    return family.theirs(tensors, trunk)


def _in_words(trunk: TrunkConfig) -> str:
    norm = f"{trunk.norm}-norm, {trunk.norm_kind}"
    return f"{norm}, {'norms of queries and keys, ' if trunk.qk_norm else ''}{trunk.feed_forward}, {trunk.positions} positions"
