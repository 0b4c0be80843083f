"""The trunk's families against their own implementations in transformers: random weights, equal hidden states."""

import math

import pytest
import torch
import transformers

from plait.model.rope import RotaryScaling
from plait.model.transformer import Trunk, TrunkConfig

DIM, LAYERS, HEADS, KV_HEADS, HIDDEN, VOCABULARY, LENGTH = 32, 3, 4, 2, 48, 50, 11
LLAMA_NAMES = {
    "attention.out": "self_attn.o_proj",
    "feed_forward.down": "mlp.down_proj",
    "norm_attention": "input_layernorm",
    "norm_feed_forward": "post_attention_layernorm",
}
SCALING = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def sizes(**changes):
    """Settings of a small model, by transformers' names."""
    return {
        "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "intermediate_size": HIDDEN, "vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "attn_implementation": "eager",
    } | changes  # fmt: skip


def rope(theta=10_000.0, **scaling):
    return {"rope_theta": theta, "rope_type": "default"} | scaling


def trunk(**changes):
    settings = {
        "dim": DIM, "num_layers": LAYERS, "num_heads": HEADS, "num_kv_heads": KV_HEADS, "hidden": HIDDEN,
        "norm_kind": "rms", "norm_eps": 1e-6, "qk_norm": False,
    }  # fmt: skip
    return TrunkConfig(**settings | changes)


# family -> (its configuration in transformers, ours)
FAMILIES = {
    "llama": (
        transformers.LlamaConfig(**sizes(rms_norm_eps=1e-6, rope_parameters=rope(500_000.0))),
        trunk(rotary_base=500_000.0),
    ),
    "llama 3": (
        transformers.LlamaConfig(
            **sizes(
                rms_norm_eps=1e-6,
                rope_parameters=rope(rope_type="llama3", original_max_position_embeddings=16, **SCALING),
            )
        ),
        trunk(rotary_scaling=RotaryScaling(kind="llama3", original_length=16, **SCALING)),
    ),
    "linear scaling": (
        transformers.LlamaConfig(
            **sizes(rms_norm_eps=1e-6, rope_parameters=rope(rope_type="linear", factor=4.0)),
        ),
        trunk(rotary_scaling=RotaryScaling(kind="linear", factor=4.0)),
    ),
    "smollm2": (
        transformers.LlamaConfig(**sizes(rms_norm_eps=1e-5, num_key_value_heads=1, tie_word_embeddings=True)),
        trunk(norm_eps=1e-5, num_kv_heads=1),
    ),
    "smollm3": (
        transformers.SmolLM3Config(**sizes(rms_norm_eps=1e-6, no_rope_layers=[1, 0, 1], rope_parameters=rope())),
        trunk(no_rotary_layers=(1,)),
    ),
    "qwen2": (
        transformers.Qwen2Config(**sizes(rms_norm_eps=1e-6, rope_parameters=rope())),
        trunk(qkv_bias=True),
    ),
    "qwen3": (
        transformers.Qwen3Config(**sizes(rms_norm_eps=1e-6, head_dim=16, rope_parameters=rope(1_000_000.0))),
        trunk(head_dim=16, qk_norm=True, rotary_base=1_000_000.0),
    ),
    "gemma": (
        transformers.GemmaConfig(**sizes(rms_norm_eps=1e-6, head_dim=16, hidden_act="gelu_pytorch_tanh")),
        trunk(head_dim=16, norm_plus_one=True, feed_forward="geglu", embedding_scale=math.sqrt(DIM)),
    ),
    "gpt-2": (
        transformers.GPT2Config(
            n_embd=DIM, n_layer=LAYERS, n_head=HEADS, n_inner=HIDDEN, vocab_size=VOCABULARY, n_positions=64,
            attn_implementation="eager",
        ),
        trunk(
            num_kv_heads=None, norm_kind="layer", norm_eps=1e-5, positions="learned", max_positions=64, bias=True,
            feed_forward="gelu_tanh",
        ),
    ),
}  # fmt: skip


def llama_weights(theirs):
    """Weights of a model of Llama's kind, by our names."""
    weights = {"norm.weight": theirs["norm.weight"]}
    for layer in range(LAYERS):
        for ours, name in LLAMA_NAMES.items():
            weights[f"layers.{layer}.{ours}.weight"] = theirs[f"layers.{layer}.{name}.weight"]
        joined = {"attention.project": [f"self_attn.{x}_proj" for x in "qkv"]}
        joined["feed_forward.up"] = ["mlp.gate_proj", "mlp.up_proj"]
        for ours, names in joined.items():
            for kind in ("weight", "bias"):
                parts = [theirs[key] for name in names if (key := f"layers.{layer}.{name}.{kind}") in theirs]
                if parts:
                    weights[f"layers.{layer}.{ours}.{kind}"] = torch.cat(parts)
        for x in "qk":
            if (key := f"layers.{layer}.self_attn.{x}_norm.weight") in theirs:
                weights[f"layers.{layer}.attention.norm_{x}.weight"] = theirs[key]
    return weights


def gpt2_weights(theirs):
    """Weights of GPT-2, which keeps matrices transposed, by our names."""
    names = {
        "attention.project": "attn.c_attn", "attention.out": "attn.c_proj", "feed_forward.up": "mlp.c_fc",
        "feed_forward.down": "mlp.c_proj", "norm_attention": "ln_1", "norm_feed_forward": "ln_2",
    }  # fmt: skip
    weights = {"position.weight": theirs["wpe.weight"]}
    weights |= {f"norm.{kind}": theirs[f"ln_f.{kind}"] for kind in ("weight", "bias")}
    for layer in range(LAYERS):
        for ours, name in names.items():
            for kind in ("weight", "bias"):
                value = theirs[f"h.{layer}.{name}.{kind}"]
                weights[f"layers.{layer}.{ours}.{kind}"] = value.T if value.ndim == 2 else value
    return weights


def pair_of(family, **changes):
    """Hidden states of transformers' model and of ours, with the same weights; `changes` to our settings alone."""
    configuration, config = FAMILIES[family]
    generator = torch.Generator().manual_seed(0)
    theirs = transformers.AutoModel.from_config(configuration).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # norms and biases too, which begin as ones and zeros
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
    config = config.model_copy(update=changes)
    ours = Trunk(config).double().eval()
    ours.load_state_dict((gpt2_weights if family == "gpt-2" else llama_weights)(theirs.state_dict()))

    ids = torch.randint(0, VOCABULARY, (2, LENGTH), generator=generator)
    position = torch.arange(LENGTH).expand(2, -1)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(2, -1, -1)
    embedded = theirs.get_input_embeddings().weight[ids] * config.embedding_scale
    with torch.no_grad():
        return theirs(input_ids=ids).last_hidden_state, ours(embedded, position, causal)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_its_own_implementation(family):
    expected, hidden = pair_of(family)
    assert expected.std() > 0.1
    torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"rotary_base": 10_000.0}),
        ("llama 3", {"rotary_scaling": None}),
        ("linear scaling", {"rotary_scaling": None}),
        ("smollm3", {"no_rotary_layers": ()}),
        ("gemma", {"norm_plus_one": False}),
        ("gemma", {"feed_forward": "swiglu"}),
        ("gpt-2", {"feed_forward": "relu"}),
        ("gpt-2", {"norm_kind": "rms"}),
    ],
)
def test_each_setting_matters(family, changes):
    """The comparison above sees it if a setting is wrong."""
    expected, hidden = pair_of(family, **changes)
    assert (hidden - expected).abs().max() > 1e-2
