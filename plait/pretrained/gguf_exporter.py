"""The words of a checkpoint as a GGUF file, which llama.cpp runs: the reverse of plait.pretrained.gguf.

Names and layouts are llama.cpp's: rows of queries and keys permuted for Llama and SmolLM3. The tokenizer is told by its list of
tokens, its merges, and the name of the way in which a text is cut before merging.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from plait.contract import WORDS
from plait.errors import CheckpointError, ConfigError, MissingError
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.pretrained.exporter import LENGTH, Described, describe
from plait.pretrained.gguf import PERMUTED, TENSORS
from plait.pretrained.tokenizer import CONTROL, CUTS, NORMAL, USER_DEFINED

KINDS = {"float32": "F32", "bfloat16": "BF16", "int8": "Q8_0"}  # of matrices, by our names of precisions
FILE_TYPES = {"F32": "ALL_F32", "BF16": "MOSTLY_BF16", "Q8_0": "MOSTLY_Q8_0"}
NAMES = {theirs: ours for ours, theirs in TENSORS.items()}


def write(network: MultimodalTransformer, file: Path, precision: str = "bfloat16", length: int = LENGTH) -> Path:
    """Write the new file; returns it. `length`: tokens of the longest sequence that the trunk learned from.

    Raises MissingError without the package gguf, ConfigError for a precision that the format has not or a file that is there,
    CheckpointError for a trunk or a tokenizer that llama.cpp knows under no name.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingError("a GGUF file needs the package gguf: pip install 'plait[pretrained]'") from error
    if precision not in KINDS:
        raise ConfigError(f"got precision={precision} for GGUF; expected one of {', '.join(KINDS)}")
    if file.exists():
        raise ConfigError(f"{file} exists; expected a new file: choose another name")
    described = describe(network)
    settings, words = _settings(described, length), _tokenizer(network, described)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    writer = gguf.GGUFWriter(partial, described.family.name)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[KINDS[precision]]])
    for name, value in settings.items():
        getattr(writer, f"add_{name}")(value)
    for name, value in words.items():
        getattr(writer, f"add_{name}")(value)
    kind = gguf.GGMLQuantizationType[KINDS[precision]]
    for name, tensor in described.tensors.items():
        values = _as_in_the_file(name, tensor, described).numpy()
        if (
            values.ndim == 1 or values.shape[1] % gguf.GGML_QUANT_SIZES[kind][0]
        ):  # of a norm; of a width that has no blocks
            writer.add_tensor(_name(name), values)
        else:
            writer.add_tensor(_name(name), gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(file)
    return file


def _name(name: str) -> str:
    """llama.cpp's name of a tensor: `blk.3.attn_q.weight`."""
    *layer, base, kind = name.removeprefix("layers.").split(".")
    if name.startswith("layers."):
        number, *owner = layer
        return f"blk.{number}.{NAMES['.'.join([*owner, base])]}.{kind}"
    return f"{NAMES[base]}.{kind}"


def _as_in_the_file(name: str, tensor: Tensor, described: Described) -> Tensor:
    trunk = described.trunk
    heads = {"q_proj": trunk.num_heads, "k_proj": trunk.kv_heads}.get(name.split(".")[-2])
    if described.family.name in PERMUTED and heads:
        halves = tensor.view(heads, 2, -1, *tensor.shape[1:])  # first and second half of a head: pairs side by side
        return halves.transpose(1, 2).reshape(tensor.shape).contiguous()
    return tensor + 1.0 if described.family.name == "gemma" and tensor.ndim == 1 else tensor


def _settings(described: Described, length: int) -> dict[str, Any]:
    trunk = described.trunk
    _check(described.family.name, trunk)
    wide = {"key_length": trunk.head_width, "value_length": trunk.head_width}
    return {
        "context_length": length,
        "embedding_length": trunk.dim,
        "block_count": trunk.num_layers,
        "feed_forward_length": trunk.hidden_width,
        "head_count": trunk.num_heads,
        "head_count_kv": trunk.kv_heads,
        "layer_norm_rms_eps": trunk.norm_eps,
        "rope_freq_base": trunk.rotary_base,
        "rope_dimension_count": trunk.head_width,
        **(wide if trunk.head_width * trunk.num_heads != trunk.dim else {}),
    }


def _check(family: str, trunk: TrunkConfig) -> None:
    """Raise CheckpointError for what llama.cpp has no setting for, or takes for granted otherwise."""
    if trunk.rotary_scaling is not None:
        raise CheckpointError(
            "this trunk scales its rotary positions, which is not written here; expected one that does not"
        )
    usual = tuple(n for n in range(trunk.num_layers) if (n + 1) % 4 == 0) if family == "smollm3" else ()
    if trunk.no_rotary_layers != usual:
        raise CheckpointError(
            f"layers {trunk.no_rotary_layers} have no rotary positions; llama.cpp takes {usual or 'none'} for granted in {family}"
        )
    scale = math.sqrt(trunk.dim) if family == "gemma" else 1.0
    if not math.isclose(trunk.embedding_scale, scale, rel_tol=1e-3):
        raise CheckpointError(
            f"embeddings are scaled by {trunk.embedding_scale}; llama.cpp takes {scale:.4g} for granted in {family}"
        )


def _tokenizer(network: MultimodalTransformer, described: Described) -> dict[str, Any]:
    """What the writer's `add_...` take. Raises CheckpointError for a way to cut that llama.cpp has no name for."""
    words, template = network.vocabulary.modalities[WORDS], network.vocabulary.template
    stored: Mapping[str, Any] = words.state()["tokenizer_json"]
    cut = next((name for name, build in CUTS.items() if _same_cut(stored, build())), None)
    if stored["model"].get("byte_fallback") or cut is None:
        raise CheckpointError(
            "the tokenizer is not one of byte-level merges, cut as llama.cpp knows by name "
            f"({', '.join(CUTS)}); export the folder for transformers instead: --to huggingface"
        )
    vocabulary: dict[str, int] = stored["model"]["vocab"]
    added = {entry["content"]: entry["id"] for entry in stored["added_tokens"]}
    specials = dict(template.specials) if template is not None else {}
    tokens = [f"[PAD{index}]" for index in range(words.token_width)]
    kinds = [USER_DEFINED] * words.token_width
    for names, kind in ((vocabulary, NORMAL), (added, USER_DEFINED), (specials, CONTROL)):
        for token, index in names.items():
            tokens[index], kinds[index] = token, kind
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in stored["model"]["merges"]]
    ids = {
        f"{name}_id": index for name, index in described.ids.items() if name in ("bos_token", "eos_token", "pad_token")
    }
    return {
        "tokenizer_model": "gpt2",
        "tokenizer_pre": cut,
        "token_list": tokens,
        "token_types": kinds,
        "token_merges": merges,
        "add_bos_token": False,
        **ids,
        **({"chat_template": template.source} if template is not None else {}),
    }


def _same_cut(stored: Mapping[str, Any], built: Any) -> bool:
    """Whether a tokenizer cuts a text as one that was built here."""
    state: bytes = built.__getstate__()
    return _steps(stored["pre_tokenizer"]) == _steps(json.loads(state))


def _steps(cut: Mapping[str, Any] | None) -> list[Any]:
    """Steps of a way to cut, without what says nothing of where it cuts."""
    steps = [] if cut is None else cut["pretokenizers"] if cut["type"] == "Sequence" else [cut]
    return [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
