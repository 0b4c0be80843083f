"""A checkpoint's words as a GGUF file: read back they are what they were, and llama.cpp's own settings are there."""

import json

import pytest
import torch
from test_exporting import TEXT, folder_of
from worlds import World

from plait import api, registry
from plait.errors import CheckpointError, ConfigError
from plait.pretrained import exporter, gguf_exporter
from plait.pretrained.gguf import GGUF
from plait.runtime.files import sha256_of
from plait.train import checkpoint

BYTE_LEVEL = ("llama", "smollm3", "qwen2", "qwen3")


@pytest.mark.parametrize("family", BYTE_LEVEL)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_written_is_read_back(family, precision, tmp_path):
    (source := tmp_path / "source").mkdir()
    rotates = {"no_rope_layers": [1, 1, 1]} if family == "smollm3" else {}  # every fourth does not, for llama.cpp
    run = api.import_model(folder_of(family, source, **rotates), tmp_path / "run", lambda line: None)
    file = api.export(run, tmp_path / "words.gguf", precision, to="gguf")
    again = api.import_model(file, tmp_path / "again", lambda line: None)
    (before, _), (after, _) = (checkpoint.load(folder) for folder in (run, again))
    assert exporter.bare(after.trunk.config) == exporter.bare(before.trunk.config).model_copy(
        update={"norm_eps": after.trunk.config.norm_eps}
    )
    assert after.trunk.config.norm_eps == pytest.approx(before.trunk.config.norm_eps, rel=1e-5)
    states = before.state_dict(), after.state_dict()
    assert {*states[0]} == {*states[1]}
    for name, tensor in states[0].items():
        if name.startswith(("trunk.", "tables.text", "categorical.text")):
            expected = tensor.to(torch.bfloat16).float() if precision == "bfloat16" and tensor.ndim == 2 else tensor
            assert torch.equal(states[1][name], expected), name
    old, new = (model.vocabulary.modalities["text"] for model in (before, after))
    ids = [modality.read(registry.as_part(TEXT)).blocks[0].tokens.tolist() for modality in (old, new)]
    assert ids[0] == ids[1]
    assert after.vocabulary.template.source == before.vocabulary.template.source
    assert after.vocabulary.end == before.vocabulary.end


def test_eight_bits_are_near(tmp_path):
    (source := tmp_path / "source").mkdir()
    run = api.import_model(folder_of("llama", source), tmp_path / "run", lambda line: None)
    file = api.export(run, tmp_path / "words.gguf", "int8", to="gguf")
    weights, read = checkpoint.load(run)[0].state_dict(), GGUF(file).weights()
    table = read["embed_tokens.weight"]
    error = (table - weights["tables.text.weight"]).abs().max() / weights["tables.text.weight"].abs().max()
    assert 0 < error < 0.01


def test_what_llama_cpp_cannot_run_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(CheckpointError, match="no model of transformers has this trunk"):
        gguf_exporter.write(World().model(), tmp_path / "file.gguf")
    (source := tmp_path / "source").mkdir()
    run = api.import_model(folder_of("llama", source), tmp_path / "run", lambda line: None)
    with pytest.raises(ConfigError, match=r"precision=int4 for GGUF; expected one of float32"):
        api.export(run, tmp_path / "file.gguf", "int4", to="gguf")
    api.export(run, tmp_path / "file.gguf", to="gguf")
    with pytest.raises(ConfigError, match="exists; expected a new file"):
        api.export(run, tmp_path / "file.gguf", to="gguf")
    with pytest.raises(ConfigError, match=r"precision=int8 for --to huggingface"):
        api.export(run, tmp_path / "folder", "int8", to="huggingface")


def test_another_way_to_cut_is_refused(tmp_path):
    (source := tmp_path / "source").mkdir()
    run = api.import_model(folder_of("llama", source), tmp_path / "run", lambda line: None)
    (file,) = run.glob("*tokenizer*.json")
    stored = json.loads(file.read_text(encoding="utf-8"))
    stored["pre_tokenizer"] = {"type": "Whitespace"}
    file.write_text(json.dumps(stored), encoding="utf-8")
    config = json.loads((run / checkpoint.CONFIG).read_text(encoding="utf-8"))
    config["sha256"][file.name] = sha256_of(file)
    (run / checkpoint.CONFIG).write_text(json.dumps(checkpoint.sealed(config)), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"not one of byte-level merges.*--to huggingface"):
        api.export(run, tmp_path / "words.gguf", to="gguf")
    assert not list(tmp_path.glob("words.gguf*"))
