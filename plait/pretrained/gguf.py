"""GGUF files: metadata and dequantised weights under Hugging Face's names, so that the families read both alike.

The `gguf` package opens the file and knows its quantisations. What differs between the two layouts is undone here: rows of
queries and keys that llama.cpp permutes, norms of Gemma that it stores plus one, matrices of GPT-2 that it transposes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plait.errors import CheckpointError, MissingError
from plait.pretrained.families import FAMILIES  # llama.cpp calls them as Hugging Face does

PERMUTED = ("llama", "smollm3")  # architectures whose converter permutes queries and keys
KNOWN = {  # settings that are read, or say nothing about the computation
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon",
    "rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear",
    "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout",
}  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {  # settings, and the values with which they change nothing
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "use_parallel_residual": (False,),
    "logit_scale": (1.0,),
    "attention.scale": (0.0,),
}
TENSORS = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GPT2_TENSORS = {
    "token_embd": "wte",
    "position_embd": "wpe",
    "output_norm": "ln_f",
    "output": "lm_head",
    "attn_norm": "ln_1",
    "ffn_norm": "ln_2",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}


class GGUF:
    """An open file: its metadata, its configuration as Hugging Face would write it, and its weights.

    Raises MissingError without the `gguf` package, and CheckpointError for a file that is none, cut short, or of an
    architecture without a family here.
    """

    def __init__(self, file: Path) -> None:
        try:
            import gguf
        except ImportError as error:
            raise MissingError("a GGUF file needs the package gguf: pip install 'plait[pretrained]'") from error
        self.file, self._gguf = file, gguf
        try:
            self._reader = gguf.GGUFReader(file)
            self.metadata: dict[str, Any] = {name: field.contents() for name, field in self._reader.fields.items()}
        except Exception as error:  # the package checks little, so anything may come of a damaged file
            raise CheckpointError(f"{file} is no GGUF file, or cut short ({error!r}); copy it again") from error
        self.architecture = str(self.metadata.get("general.architecture"))
        if self.architecture not in FAMILIES:
            raise CheckpointError(
                f"{file} holds a model of the architecture {self.architecture!r}; expected one of {', '.join(FAMILIES)}"
            )

    def _check_settings(self) -> None:
        """Raise CheckpointError for settings of the architecture that change what is computed in a way the trunk cannot
        follow, and for those that nobody here knows."""
        width = self._of("attention.key_length") or self._of("embedding_length", 0) // max(
            1, self._of("attention.head_count", 1)
        )
        neutral = NEUTRAL | {"rope.dimension_count": (width,), "attention.value_length": (width,)}
        for name, value in self.metadata.items():
            setting = name.removeprefix(f"{self.architecture}.")
            if setting == name or setting in KNOWN:
                continue
            if setting not in neutral:
                raise CheckpointError(f"{self.file} has the setting {name}={value!r}, which is not known here")
            if value not in neutral[setting]:
                raise CheckpointError(
                    f"{self.file}: got {name}={value!r}; the trunk has nothing but {neutral[setting][0]!r}"
                )
        if self.metadata.get("split.count", 1) > 1:
            raise CheckpointError(
                f"{self.file} is one part of {self.metadata['split.count']}; join them with llama-gguf-split"
            )

    def _of(self, name: str, default: Any = None) -> Any:
        """A value of the architecture's metadata; numbers are stored in float32, and mean the short one nearby."""
        value = self.metadata.get(f"{self.architecture}.{name}", default)
        return float(f"{value:.6g}") if isinstance(value, float) else value

    def config(self) -> dict[str, Any]:
        """The file's configuration by the names of `config.json`."""
        self._check_settings()
        names = {tensor.name for tensor in self._reader.tensors}
        if "rope_freqs.weight" in names:
            raise CheckpointError(
                f"{self.file} holds the frequencies of Llama 3's rotary scaling instead of its settings; import the model's "
                "folder of Hugging Face instead"
            )
        common = {
            "model_type": self.architecture,
            "vocab_size": len(self.metadata.get("tokenizer.ggml.tokens", ())) or self._of("vocab_size"),
            "tie_word_embeddings": "output.weight" not in names,
        }
        if self.architecture == "gpt2":
            return common | {
                "n_embd": self._of("embedding_length"),
                "n_layer": self._of("block_count"),
                "n_head": self._of("attention.head_count"),
                "n_inner": self._of("feed_forward_length"),
                "n_positions": self._of("context_length"),
                "layer_norm_epsilon": self._of("attention.layer_norm_epsilon", 1e-5),
            }
        return common | {
            "hidden_size": self._of("embedding_length"),
            "num_hidden_layers": self._of("block_count"),
            "num_attention_heads": self._of("attention.head_count"),
            "num_key_value_heads": self._of("attention.head_count_kv"),
            "head_dim": self._of("attention.key_length"),
            "intermediate_size": self._of("feed_forward_length"),
            "rms_norm_eps": self._of("attention.layer_norm_rms_epsilon"),
            "max_position_embeddings": self._of("context_length"),
            "rope_theta": self._of("rope.freq_base"),
            "rope_scaling": self._scaling(),
        }

    def _scaling(self) -> dict[str, Any] | None:
        factor = self._of("rope.scaling.factor", self._of("rope.scale_linear"))
        kind = self._of("rope.scaling.type", "none" if factor is None else "linear")
        return None if kind == "none" else {"rope_type": kind, "factor": factor}

    def weights(self) -> dict[str, Tensor]:
        """Every tensor in float32 under Hugging Face's name. Raises CheckpointError for a quantisation that the package
        cannot undo, and for a tensor without a name there."""
        return dict(self._named())

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for stored in self._reader.tensors:
            try:
                values = self._gguf.quants.dequantize(stored.data, stored.tensor_type)
                tensor = torch.from_numpy(np.array(values, np.float32))  # a copy: the file may go
                yield self._rename(stored.name), self._as_in_the_folder(stored.name, tensor)
            except NotImplementedError as error:
                raise CheckpointError(
                    f"{self.file} is quantised as {stored.tensor_type.name}, which the package gguf cannot undo; expected "
                    "another quantisation of the model, such as Q8_0"
                ) from error
            except (ValueError, RuntimeError, TypeError) as error:
                raise CheckpointError(
                    f"{self.file} holds {stored.name} that does not fit its settings ({error}); copy it again"
                ) from error

    def _rename(self, name: str) -> str:
        names = GPT2_TENSORS if self.architecture == "gpt2" else TENSORS
        *block, base, kind = name.split(".")
        if base not in names or (block and block[0] != "blk"):
            raise CheckpointError(f"{self.file} holds {name}, which no {self.architecture} model has")
        if not block:
            return f"{names[base]}.{kind}"
        return f"{'h' if self.architecture == 'gpt2' else 'layers'}.{block[1]}.{names[base]}.{kind}"

    def _as_in_the_folder(self, name: str, tensor: Tensor) -> Tensor:
        base = name.split(".")[-2]
        if self.architecture in PERMUTED and base in ("attn_q", "attn_k"):
            heads = self._of("attention.head_count")
            heads = heads if base == "attn_q" else self._of("attention.head_count_kv", heads)
            halves = tensor.view(heads, -1, 2, *tensor.shape[1:])  # pairs side by side: first and second half of a head
            return halves.transpose(1, 2).reshape(tensor.shape)
        if self.architecture == "gemma" and base.endswith("norm"):
            return tensor - 1.0
        if (
            self.architecture == "gpt2"
            and base in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
            and tensor.ndim == 2
        ):
            return tensor.T.contiguous()
        return tensor
