"""A checkpoint's words as a folder of transformers: what was imported comes out as it went in, and answers alike."""

import json

import pytest
import torch
import transformers
from test_families import FAMILIES
from test_importing import TEMPLATE
from test_tokenizers import SPECIAL, trained
from typer.testing import CliRunner
from worlds import World

from plait import api
from plait.cli import app
from plait.errors import CheckpointError
from plait.pretrained import exporter
from plait.train import checkpoint

LLAMAS = [name for name in FAMILIES if name != "gpt-2"]
TEXT = "Hello worlds, so lines: 你好 and\n two  spaces"


def folder_of(family, place, **changes):
    """A small model of a family with a tokenizer and a template, as transformers saves it."""
    configuration, _ = FAMILIES[family]
    tokenizer = trained("smollm")
    tokenizer.save(str(place / "tokenizer.json"))
    (place / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": TEMPLATE, "eos_token": SPECIAL[2], "tokenizer_class": "PreTrainedTokenizerFast"})
    )
    settings = configuration.to_dict() | {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": None} | changes
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(type(configuration)(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.tie_weights()
    model.save_pretrained(place)
    return place


@pytest.mark.parametrize("family", LLAMAS)
def test_what_goes_in_comes_out(family, tmp_path):
    (source := tmp_path / "source").mkdir()
    before = transformers.AutoModelForCausalLM.from_pretrained(folder_of(family, source)).eval()
    run = api.import_model(source, tmp_path / "run", lambda line: None)
    target = api.export(run, tmp_path / "out", to="huggingface")
    after = transformers.AutoModelForCausalLM.from_pretrained(target).eval()
    assert type(after) is type(before)
    states = before.state_dict(), after.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=0, rtol=0, msg=name)
    old, new = (transformers.AutoTokenizer.from_pretrained(place) for place in (source, target))
    ids = new(TEXT, add_special_tokens=False).input_ids
    assert ids == old(TEXT, add_special_tokens=False).input_ids
    assert new.decode(ids) == old.decode(ids)
    asked = [{"role": "user", "content": "Hello"}]
    laid_out = [each.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) for each in (old, new)]
    assert laid_out[0] == laid_out[1]
    assert new.eos_token == SPECIAL[2]
    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits for model in (before, after)]
    torch.testing.assert_close(*logits, atol=1e-6, rtol=0)
    again = api.import_model(target, tmp_path / "again", lambda line: None)
    first, second = (checkpoint.load(place)[0].state_dict() for place in (run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_head_of_its_own_goes_along(tmp_path):
    (source := tmp_path / "source").mkdir()
    run = api.import_model(folder_of("llama", source, tie_word_embeddings=False), tmp_path / "run", lambda line: None)
    result = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "out"), "--to", "huggingface"])
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "out") in result.output
    loaded = [transformers.AutoModelForCausalLM.from_pretrained(place) for place in (source, tmp_path / "out")]
    assert torch.equal(*(model.lm_head.weight for model in loaded))
    assert not torch.equal(loaded[1].lm_head.weight, loaded[1].model.embed_tokens.weight)


def test_other_trunks_and_full_folders_are_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"no model of transformers has this trunk \(pre-norm, layer, norms of queries"
    ):
        exporter.write(World().model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (source := tmp_path / "source").mkdir()
    run = api.import_model(folder_of("llama", source), tmp_path / "run", lambda line: None)
    with pytest.raises(CheckpointError, match="is there already; expected a new folder"):
        api.export(run, source, to="huggingface")
