"""Llama and what was built on it: SmolLM2 and 3, Qwen2 and 3, Gemma 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from plait.errors import CheckpointError
from plait.model.transformer import TrunkConfig
from plait.pretrained.families.reading import Config, Weights, joined, refuse, rotary, setting, written_rotary

NAMES = {
    "attention.project": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.o_proj",),
    "attention.norm_q": ("self_attn.q_norm",),
    "attention.norm_k": ("self_attn.k_norm",),
    "feed_forward.up": ("mlp.gate_proj", "mlp.up_proj"),
    "feed_forward.down": ("mlp.down_proj",),
    "norm_attention": ("input_layernorm",),
    "norm_feed_forward": ("post_attention_layernorm",),
}


class Llama:
    """RMS norms before attention and a gated feed-forward network, rotary positions, shared keys and values."""

    activations: tuple[str, ...] = ("silu",)

    def __init__(
        self, name: str, *, qkv_bias: bool = False, qk_norm: bool = False, tied: bool = False, base: float = 10_000.0
    ) -> None:
        self.name, self.qkv_bias, self.qk_norm, self.ties, self.base = name, qkv_bias, qk_norm, tied, base

    def trunk(self, config: Config) -> TrunkConfig:
        """As `Family.trunk`."""
        refuse(config, "hidden_act", *self.activations)
        refuse(config, "hidden_activation", *self.activations)
        refuse(config, "use_bidirectional_attention", False)
        refuse(config, "use_sliding_window", False)
        refuse(config, "mlp_bias", False)
        if not self.qkv_bias:
            refuse(config, "attention_bias", False)
        if set(config.get("layer_types") or ()) - {"full_attention"}:
            raise CheckpointError(
                "config.json: layer_types has layers that do not attend to everything; the trunk has none"
            )
        base, scaling = rotary(config, self.base)
        settings: dict[str, Any] = {
            "dim": setting(config, "hidden_size"),
            "num_layers": setting(config, "num_hidden_layers"),
            "num_heads": setting(config, "num_attention_heads"),
            "num_kv_heads": config.get("num_key_value_heads"),
            "head_dim": self._head_dim(config),
            "hidden": setting(config, "intermediate_size"),
            "norm_kind": "rms",
            "norm_eps": config.get("rms_norm_eps", 1e-6),
            "qk_norm": self.qk_norm,
            "qkv_bias": self.qkv_bias or None,
            "rotary_base": base,
            "rotary_scaling": scaling,
            "no_rotary_layers": self._without_rotary(config),
        }
        return TrunkConfig(**settings | self._particular(settings))

    @staticmethod
    def _head_dim(config: Config) -> int | None:
        """None where heads share the model's width, which is most models, whether or not it is written."""
        width = config.get("head_dim")
        shared = width is None or width * setting(config, "num_attention_heads") == setting(config, "hidden_size")
        return None if shared else width

    def _particular(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings in which a family differs."""
        return {}

    def _without_rotary(self, config: Config) -> tuple[int, ...]:
        """SmolLM3 leaves every fourth layer unrotated; its list has a 1 for each layer that rotates."""
        if self.name != "smollm3":
            return ()
        layers = range(setting(config, "num_hidden_layers"))
        if config.get("no_rope_layers"):
            return tuple(layer for layer, rotates in zip(layers, config["no_rope_layers"], strict=False) if not rotates)
        interval = config.get("no_rope_layer_interval", 4)
        return tuple(layer for layer in layers if (layer + 1) % interval == 0)

    def weights(self, tensors: Mapping[str, Tensor], trunk: TrunkConfig) -> Weights:
        """As `Family.weights`."""
        names = dict(NAMES)
        if not self.qk_norm:
            del names["attention.norm_q"], names["attention.norm_k"]
        weights = {"norm.weight": joined(tensors, ["norm.weight"])}
        for layer in range(trunk.num_layers):
            for ours, theirs in names.items():
                parts = [f"layers.{layer}.{name}" for name in theirs]
                weights[f"layers.{layer}.{ours}.weight"] = joined(tensors, [f"{name}.weight" for name in parts])
                if ours == "attention.project" and self.qkv_bias:
                    weights[f"layers.{layer}.{ours}.bias"] = joined(tensors, [f"{name}.bias" for name in parts])
        return weights

    def config(self, trunk: TrunkConfig) -> dict[str, Any]:
        """Of config.json, what describes a trunk as `trunk` reads it; of one that the family does not have, the nearest."""
        without = {"no_rope_layers": [int(n not in trunk.no_rotary_layers) for n in range(trunk.num_layers)]}
        return {
            "model_type": self.name,
            "hidden_size": trunk.dim,
            "num_hidden_layers": trunk.num_layers,
            "num_attention_heads": trunk.num_heads,
            "num_key_value_heads": trunk.kv_heads,
            "head_dim": trunk.head_width,
            "intermediate_size": trunk.hidden_width,
            "rms_norm_eps": trunk.norm_eps,
            "hidden_act": self.activations[-1],
            **written_rotary(trunk.rotary_base, trunk.rotary_scaling),
            **(without if self.name == "smollm3" else {}),
        }

    def theirs(self, weights: Mapping[str, Tensor], trunk: TrunkConfig) -> Weights:
        """The trunk's weights by the family's names: what `weights` takes."""
        width = trunk.head_width
        sizes = {
            "attention.project": [trunk.num_heads * width, trunk.kv_heads * width, trunk.kv_heads * width],
            "feed_forward.up": [trunk.hidden_width, trunk.hidden_width],
        }
        named = {"norm.weight": weights["norm.weight"]}
        for ours, tensor in weights.items():
            if not ours.startswith("layers."):
                continue
            _, layer, name = ours.split(".", 2)
            name, _, kind = name.rpartition(".")
            parts = torch.split(tensor, sizes.get(name, [len(tensor)]))
            named |= {f"layers.{layer}.{each}.{kind}": part for each, part in zip(NAMES[name], parts, strict=True)}
        return named

    def embedding(self) -> str:
        """As `Family.embedding`."""
        return "embed_tokens.weight"

    def tied(self, config: Config) -> bool:
        """As `Family.tied`."""
        return bool(config.get("tie_word_embeddings", self.ties))


class Gemma(Llama):
    """Gemma 1: norms multiply by 1 + weight, embeddings by the root of the width, heads are wide, GELU by its tanh."""

    activations = ("gelu", "gelu_pytorch_tanh")  # the first release wrote "gelu" and meant the second

    def _particular(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "norm_plus_one": True,
            "feed_forward": "geglu",
            "embedding_scale": math.sqrt(settings["dim"]),
        }
