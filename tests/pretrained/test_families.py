"""Families against their own implementations in transformers: random weights, equal hidden states and logits; what a family
refuses."""

import math

import pytest
import torch
import transformers

from plait.errors import CheckpointError
from plait.model.rope import RotaryScaling
from plait.model.transformer import Trunk, TrunkConfig
from plait.pretrained.families import HEAD, TABLE, architecture, to_ours

DIM, LAYERS, HEADS, KV_HEADS, HIDDEN, VOCABULARY, LENGTH = 32, 3, 4, 2, 48, 50, 11
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


def pair_of(family, **changes):
    """(hidden states, logits) of transformers' model and of ours, with the same weights; `changes` to our settings alone."""
    configuration, _ = FAMILIES[family]
    generator = torch.Generator().manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(configuration).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # norms and biases too, which begin as ones and zeros
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
    weights = to_ours(theirs.state_dict(), configuration.to_dict())
    config = architecture(configuration.to_dict()).trunk.model_copy(update=changes)
    ours = Trunk(config).double().eval()
    ours.load_state_dict({n.removeprefix("trunk."): t for n, t in weights.items() if n.startswith("trunk.")})

    ids = torch.randint(0, VOCABULARY, (2, LENGTH), generator=generator)
    position = torch.arange(LENGTH).expand(2, -1)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(2, -1, -1)
    with torch.no_grad():
        told = theirs(input_ids=ids, output_hidden_states=True)
        hidden = ours(weights[TABLE][ids] * config.embedding_scale, position, causal)
    logits = hidden @ weights.get(f"{HEAD}.weight", weights[TABLE]).T
    return (told.hidden_states[-1], told.logits), (hidden, logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_is_read(family):
    configuration, config = FAMILIES[family]
    read = architecture(configuration.to_dict())
    assert read.trunk == config
    assert (read.vocabulary, read.length, read.tied) == (VOCABULARY, 64, configuration.tie_word_embeddings)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_its_own_implementation(family):
    expected, got = pair_of(family)
    assert expected[0].std() > 0.1
    torch.testing.assert_close(got[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[1], expected[1], atol=1e-4, rtol=1e-5)


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
    (expected, _), (hidden, _) = pair_of(family, **changes)
    assert (hidden - expected).abs().max() > 1e-2


LLAMA = FAMILIES["llama"][0].to_dict()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gemma3_text"}, "gemma3_text.*expected one of llama.*gemma"),
        ({"model_type": None}, "family None"),
        ({"hidden_act": "relu"}, "hidden_act='relu'; expected 'silu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "yarn.*expected default, linear or llama3"),
        ({"rope_parameters": {"rope_type": "linear"}}, "lacks factor"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "differs by layer"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5; expected 1.0"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        (
            {"model_type": "gemma", "hidden_act": "gelu", "use_bidirectional_attention": True},
            "use_bidirectional_attention",
        ),
        ({"model_type": "gemma", "hidden_act": "gelu", "hidden_activation": "relu"}, "hidden_activation"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"num_key_value_heads": 3}, "no model that can be"),
        ({"rms_norm_eps": "small"}, "no model that can be"),
    ],
)
def test_what_the_trunk_does_not_have_is_refused(changes, said):
    with pytest.raises(CheckpointError, match=said):
        architecture(LLAMA | changes)


def test_transformers_4_wrote_the_rotation_otherwise():
    """`rope_theta` and `rope_scaling` beside each other, as in files of before 2025."""
    old = {name: value for name, value in LLAMA.items() if name != "rope_parameters"}
    scaling = {"type": "linear", "factor": 4.0}
    trunk_config = architecture(old | {"rope_theta": 500_000.0, "rope_scaling": scaling}).trunk
    assert (trunk_config.rotary_base, trunk_config.rotary_scaling.factor) == (500_000.0, 4.0)
    both = architecture(LLAMA | {"rope_scaling": scaling}).trunk
    assert both.rotary_scaling.factor == 4.0


def test_what_a_family_does_where_nothing_is_said():
    """As transformers' own classes do it."""
    told = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    bare = {name: LLAMA[name] for name in told}
    for name, made in (("llama", transformers.LlamaConfig), ("smollm3", transformers.SmolLM3Config)):
        theirs = made(**bare, pad_token_id=0)
        read = architecture(bare | {"model_type": name})
        assert read.trunk.rotary_base == theirs.rope_parameters["rope_theta"]
        assert read.tied == theirs.tie_word_embeddings
        assert read.trunk.norm_eps == theirs.rms_norm_eps


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("model.layers.1.mlp.down_proj.weight"), "lack layers.1.mlp.down_proj.weight"),
        (lambda w: w.pop("model.embed_tokens.weight"), "lack embed_tokens.weight"),
        (lambda w: w.pop("lm_head.weight"), "lack lm_head.weight"),
        (lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}), "q_proj.bias"),
        (lambda w: w.update({"model.layers.3.mlp.down_proj.weight": torch.zeros(1)}), "layers.3"),
        (lambda w: w.update({"model.layers.0.self_attn.q_norm.weight": torch.zeros(8)}), "q_norm"),
        (lambda w: w.update({"lm_head.bias": torch.zeros(50)}), "lm_head.bias"),
        (
            lambda w: w.update({"model.embed_tokens.weight": torch.zeros(50, 34)}),
            r"shape \[50, 34\]; expected \[50, 32\]",
        ),
        (
            lambda w: w.update({"model.layers.0.mlp.down_proj.weight": torch.zeros(32, 8)}),
            "feed_forward.down.* by config",
        ),
        (lambda w: w.update({"score.weight": torch.zeros(2, 32)}), "score.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, said):
    weights = transformers.AutoModelForCausalLM.from_config(FAMILIES["llama"][0]).state_dict()
    change(weights)
    with pytest.raises(CheckpointError, match=said):
        to_ours(weights, LLAMA)


def test_constants_of_older_versions_are_no_weights():
    weights = transformers.AutoModelForCausalLM.from_config(FAMILIES["gpt-2"][0]).state_dict()
    config = FAMILIES["gpt-2"][0].to_dict()
    weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    assert to_ours(weights, config)
    weights["transformer.h.0.crossattention.c_attn.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="crossattention"):
        to_ours(weights, config)
    with pytest.raises(CheckpointError, match="no place"):
        to_ours(
            transformers.AutoModelForCausalLM.from_config(FAMILIES["gpt-2"][0]).state_dict(), config | {"n_layer": 2}
        )


def test_a_head_that_is_said_to_be_tied_and_is_not():
    weights = dict(transformers.AutoModelForCausalLM.from_config(FAMILIES["smollm2"][0]).state_dict())
    config = FAMILIES["smollm2"][0].to_dict()
    assert HEAD + ".weight" not in to_ours(weights, config)
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    with pytest.raises(CheckpointError, match="differs from them"):
        to_ours(weights, config)
