"""GPT-2 (Radford et al., 2019): learned positions, layer norms with biases, GELU by its tanh, transposed matrices."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from plait.model.transformer import TrunkConfig
from plait.pretrained.families.reading import Config, Weights, joined, refuse, setting

NAMES = {
    "attention.project": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
    "norm_attention": "ln_1",
    "norm_feed_forward": "ln_2",
}


class GPT2:
    """The family has one member, in four sizes."""

    def trunk(self, config: Config) -> TrunkConfig:
        """As `Family.trunk`."""
        refuse(config, "activation_function", "gelu_new")
        refuse(config, "scale_attn_weights", True)
        refuse(config, "add_cross_attention", False)
        refuse(config, "scale_attn_by_inverse_layer_idx", False)
        return TrunkConfig(
            dim=setting(config, "n_embd"),
            num_layers=setting(config, "n_layer"),
            num_heads=setting(config, "n_head"),
            hidden=config.get("n_inner"),
            norm_eps=config.get("layer_norm_epsilon", 1e-5),
            qk_norm=False,
            positions="learned",
            max_positions=setting(config, "n_positions"),
            feed_forward="gelu_tanh",
            bias=True,
        )

    def weights(self, tensors: Mapping[str, Tensor], trunk: TrunkConfig) -> Weights:
        """As `Family.weights`; matrices are transposed, since GPT-2 stores [in, out]."""
        weights = {"position.weight": joined(tensors, ["wpe.weight"])}
        for kind in ("weight", "bias"):
            weights[f"norm.{kind}"] = joined(tensors, [f"ln_f.{kind}"])
            for layer in range(trunk.num_layers):
                for ours, theirs in NAMES.items():
                    tensor = joined(tensors, [f"h.{layer}.{theirs}.{kind}"])
                    weights[f"layers.{layer}.{ours}.{kind}"] = tensor.T.contiguous() if tensor.ndim == 2 else tensor
        return weights

    def embedding(self) -> str:
        """As `Family.embedding`."""
        return "wte.weight"

    def tied(self, config: Config) -> bool:
        """As `Family.tied`."""
        return bool(config.get("tie_word_embeddings", True))
