"""A language model that exists, as a checkpoint: its trunk, its words, its tokenizer and its chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from plait import registry
from plait.contract import WORDS
from plait.data.chat_template import ChatTemplate
from plait.data.vocabulary import Vocabulary
from plait.errors import CheckpointError
from plait.model.multimodal import MultimodalTransformer
from plait.model.weights import fitted
from plait.pretrained import hub, tokenizer
from plait.pretrained.families import TABLE, Architecture, architecture, to_ours
from plait.pretrained.gguf import GGUF
from plait.runtime.files import sha256_of

TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class Found:
    """What a source holds: the configuration, the weights by their own names, the tokenizer, and the chat template if any."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    words: tokenizer.Words
    template: ChatTemplate | None
    sha256: str

    @property
    def architecture(self) -> Architecture:
        """What the configuration describes."""
        return architecture(self.config)


def read(source: Path) -> Found:
    """A GGUF file, or a folder as Hugging Face lays it out. Raises CheckpointError for anything else, and as their readers."""
    if source.is_dir():
        return _from_folder(source)
    if not source.is_file():
        raise CheckpointError(f"{source} is not there; expected a GGUF file, or a model's folder of Hugging Face")
    if source.suffix != ".gguf":
        raise CheckpointError(
            f"{source} is a file of the kind {source.suffix or '(none)'!r}; expected a .gguf file, or a model's folder of "
            "Hugging Face with config.json and safetensors"
        )
    gguf = GGUF(source)
    words = tokenizer.from_gguf(gguf.metadata)
    tokens = gguf.metadata["tokenizer.ggml.tokens"]
    names = {
        f"{kind}_token": tokens[index]
        for kind in ("bos", "eos", "unknown", "padding")
        if (index := gguf.metadata.get(f"tokenizer.ggml.{kind}_token_id")) is not None
    }
    source_text = gguf.metadata.get("tokenizer.chat_template")
    template = ChatTemplate(source_text, words.specials, names) if source_text else None
    return Found(gguf.config(), gguf.weights(), words, template, sha256_of(source))


def _from_folder(folder: Path) -> Found:
    config = hub.read_config(folder)
    words = tokenizer.from_folder(folder)
    settings: dict[str, Any] = {}
    if (folder / TOKENIZER_CONFIG).is_file():
        settings = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
    file = folder / TEMPLATE_FILE
    source = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    names = {
        key: value["content"] if isinstance(value, dict) else value
        for key, value in settings.items()
        if key.endswith("_token") and value
    }
    template = ChatTemplate(source, words.specials, names) if isinstance(source, str) else None
    weights = hub.read_weights(folder)
    hashes = sorted(sha256_of(file) for file in folder.glob("*.safetensors"))
    return Found(config, weights, words, template, hashes[0] if len(hashes) == 1 else "+".join(hashes))


def to_model(found: Found) -> MultimodalTransformer:
    """The model of words that a source holds."""
    described = found.architecture
    stored = json.loads(found.words.tokenizer.to_str())
    modality = registry.build(WORDS, {"tokenizer_json": stored})
    if modality.token_width > described.vocabulary:
        raise CheckpointError(
            f"the tokenizer has {modality.token_width} tokens, the model {described.vocabulary}; expected no more"
        )
    weights = to_ours(found.weights, found.config)
    rms = float(weights[TABLE].float().square().mean().sqrt())
    weights = {name: rows_of(tensor, name, modality.token_width) for name, tensor in weights.items()}
    vocabulary = Vocabulary({WORDS: modality}, found.template)
    trunk = described.trunk.model_copy(update={"embedding_rms": round(rms, 6)})
    tied = (WORDS,) if described.tied else ()
    return fitted(trunk, vocabulary, weights, (), tied=tied, seed=0)


def rows_of(tensor: Tensor, name: str, count: int) -> Tensor:
    """A weight in float32; of a table of words the rows that the tokenizer has ids for: makers pad tables."""
    words = f".{WORDS}." in name
    return (tensor[:count] if words else tensor).float().contiguous()
