"""Folders of Hugging Face and GGUF files: the same model by both ways, shards, quantisations, and what is refused."""

import copy
import json

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from test_families import FAMILIES

from plait.errors import CheckpointError
from plait.pretrained.families import architecture, to_ours
from plait.pretrained.gguf import GGUF, GPT2_TENSORS, PERMUTED, TENSORS
from plait.pretrained.hub import INDEX, WEIGHTS, read_config, read_weights

FILES = ("llama", "smollm2", "smollm3", "qwen2", "qwen3", "gemma", "gpt-2")


def model_of(family):
    torch.manual_seed(0)
    configuration = copy.deepcopy(FAMILIES[family][0])
    if family == "smollm3":
        configuration.no_rope_layers = [1, 1, 1]  # a file does not say it: every fourth layer has none
    model = transformers.AutoModelForCausalLM.from_config(configuration)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def written(family, folder, quantised=None, **settings):
    """A GGUF file of a model, laid out as llama.cpp's converter does it; `quantised`: the type of its matrices; `settings` of
    the architecture, with two underscores for a dot."""
    model = model_of(family)
    config = model.config.to_dict()
    name = config["model_type"]
    writer = gguf.GGUFWriter(folder / "model.gguf", name)
    gpt2 = name == "gpt2"
    writer.add_block_count(config["n_layer" if gpt2 else "num_hidden_layers"])
    writer.add_embedding_length(config["n_embd" if gpt2 else "hidden_size"])
    writer.add_head_count(heads := config["n_head" if gpt2 else "num_attention_heads"])
    writer.add_feed_forward_length(config["n_inner" if gpt2 else "intermediate_size"])
    writer.add_context_length(64)
    kv_heads = heads
    if gpt2:
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_head_count_kv(kv_heads := config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
        if config.get("head_dim"):
            writer.add_key_length(config["head_dim"])
    for key, value in settings.items():
        add = (
            writer.add_bool
            if isinstance(value, bool)
            else writer.add_float32
            if isinstance(value, float)
            else writer.add_uint32
        )
        add(f"{name}.{key.replace('__', '.')}", value)
    writer.add_token_list([f"t{n}" for n in range(config["vocab_size"])])
    theirs = {value: key for key, value in (GPT2_TENSORS if gpt2 else TENSORS).items()}
    for full, tensor in model.state_dict().items():
        if full == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        parts = full.removeprefix("model.").removeprefix("transformer.").split(".")
        block = f"blk.{parts[1]}." if parts[0] in ("layers", "h") else ""
        base = theirs[".".join(parts[2 if block else 0 : -1])]
        values = tensor.float().numpy()
        if name in PERMUTED and base in ("attn_q", "attn_k"):  # convert_hf_to_gguf.py, LlamaModel.permute
            count = heads if base == "attn_q" else kv_heads
            values = values.reshape(count, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        if name == "gemma" and base.endswith("norm"):
            values = values + 1
        if gpt2 and values.ndim == 2 and base not in ("token_embd", "position_embd"):
            values = values.T
        values, kind = np.ascontiguousarray(values), None
        if quantised is not None and values.ndim == 2 and values.shape[1] % 32 == 0:
            values, kind = gguf.quants.quantize(values, quantised), quantised
        writer.add_tensor(f"{block}{base}.{parts[-1]}", values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, folder / "model.gguf"


@pytest.mark.parametrize("family", FILES)
def test_a_file_is_the_folder(tmp_path, family):
    model, file = written(family, tmp_path)
    model.save_pretrained(tmp_path / "folder")
    config = read_config(tmp_path / "folder")
    by_folder = to_ours(read_weights(tmp_path / "folder"), config)
    opened = GGUF(file)
    by_file = to_ours(opened.weights(), opened.config())
    assert architecture(opened.config()).trunk == architecture(config).trunk
    assert by_file.keys() == by_folder.keys()
    for name, tensor in by_folder.items():
        torch.testing.assert_close(by_file[name], tensor, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("kind", "error"), [("Q8_0", 0.02), ("Q4_1", 0.25), ("Q5_0", 0.2), ("BF16", 0.02), ("F16", 0.01)]
)
def test_quantised_weights_are_near_the_weights(tmp_path, kind, error):
    model, file = written("llama", tmp_path, gguf.GGMLQuantizationType[kind])
    exact = model.state_dict()["model.layers.1.mlp.gate_proj.weight"]
    read = GGUF(file).weights()["layers.1.mlp.gate_proj.weight"]
    assert 0 < (read - exact).abs().max() < error


def test_shards_are_the_whole(tmp_path):
    model = model_of("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    expected = model.state_dict()
    weights = read_weights(tmp_path)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_folders_that_cannot_be_read_are_told(tmp_path):
    model_of("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    first = sorted(tmp_path.glob("*.safetensors"))[0]
    whole = first.read_bytes()
    first.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        read_weights(tmp_path)
    first.unlink()
    with pytest.raises(CheckpointError, match="lacks the shard"):
        read_weights(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    for outside in ("../secret.safetensors", "/etc/passwd", "weights.bin"):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(index["weight_map"], outside)}))
        with pytest.raises(CheckpointError, match="expected a safetensors file beside it"):
            read_weights(tmp_path)
    (tmp_path / INDEX).write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list; expected an object"):
        read_weights(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_with_a_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match=r"run any code.*save_pretrained"):
        read_weights(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"no weights; expected {WEIGHTS}"):
        read_weights(tmp_path)


def test_a_shard_that_lacks_a_tensor_is_told(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"no shard .* holds b"):
        read_weights(tmp_path)


def test_files_that_cannot_be_read_are_told(tmp_path):
    _, file = written("llama", tmp_path)
    whole = file.read_bytes()
    for broken in (b"", b"not a model", whole[:40], whole[: len(whole) // 2]):
        file.write_bytes(broken)
        with pytest.raises(CheckpointError, match="no GGUF file, or cut short"):
            GGUF(file).weights()
    writer = gguf.GGUFWriter(file, "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="'mamba'; expected one of llama"):
        GGUF(file)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rope__dimension_count", 4), ("attention__causal", False), ("attention__sliding_window", 8), ("expert_count", 8),
        ("attention__value_length", 4), ("attention__something_new", 1),
    ],
)  # fmt: skip
def test_settings_of_a_file_that_the_trunk_does_not_have_are_refused(tmp_path, setting, value):
    _, file = written("llama", tmp_path, **{setting: value})
    with pytest.raises(CheckpointError, match=setting.replace("__", r"\.")):
        GGUF(file).config()


def test_settings_of_a_file_that_change_nothing_are_fine(tmp_path):
    _, file = written("llama", tmp_path, rope__dimension_count=8, attention__causal=True, expert_count=0)
    assert architecture(GGUF(file).config()).trunk == FAMILIES["llama"][1]


@pytest.mark.parametrize("key", ["rope__scaling__factor", "rope__scale_linear"])
def test_a_factor_alone_is_linear_scaling(tmp_path, key):
    _, file = written("llama", tmp_path, **{key: 4.0})
    scaling = architecture(GGUF(file).config()).trunk.rotary_scaling
    assert (scaling.kind, scaling.factor) == ("linear", 4.0)


def test_a_damaged_head_is_refused_or_read_right(tmp_path):
    _, file = written("llama", tmp_path)
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    opened = GGUF(file)
    shapes = {name: tensor.shape for name, tensor in to_ours(opened.weights(), opened.config()).items()}
    refusals = 0
    for _ in range(150):
        at, value = int(random.integers(0, 1200)), int(random.integers(0, 256))
        file.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        try:
            opened = GGUF(file)
            weights = to_ours(opened.weights(), opened.config())
        except CheckpointError:
            refusals += 1
        else:  # the byte was in a name of a token, or in a number that changes no shape
            assert {name: tensor.shape for name, tensor in weights.items()} == shapes
    assert 20 < refusals < 150


def test_a_quantisation_that_the_package_does_not_know_is_told(tmp_path, monkeypatch):
    _, file = written("llama", tmp_path)

    def unknown(*_):
        raise NotImplementedError

    monkeypatch.setattr(gguf.quants, "dequantize", unknown)
    with pytest.raises(CheckpointError, match=r"quantised as F32.*expected another quantisation"):
        GGUF(file).weights()


@pytest.mark.parametrize("index", ["{}", '{"weight_map": null}', '{"weight_map": {"a": 5}}', '{"weight_map": []}'])
def test_an_index_without_a_map_is_told(tmp_path, index):
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(CheckpointError, match="no weight_map"):
        read_weights(tmp_path)


def test_no_folder_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="is no folder"):
        read_weights(tmp_path / "missing")
