"""Language models that read words: their features are the hidden states of transformers' own classes, and a model learns from them."""

import json
import pickle

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from typer.testing import CliRunner
from worlds import SETTINGS, text

from plait import api, registry
from plait.cli import app
from plait.contract import Message, Part, Sample
from plait.data.chat_template import ChatTemplate
from plait.data.features import FeatureReader, content_hash
from plait.data.sequence import Encoder
from plait.data.vocabulary import Vocabulary, features_mark
from plait.errors import CheckpointError, ConfigError, RowError
from plait.modalities.text import readers
from plait.model.sides import chosen, sides_of_parameter

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
FAMILIES = {
    "gpt2": transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32, vocab_size=512),
    "llama": transformers.LlamaConfig(**SMALL, vocab_size=512),
    "bert": transformers.BertConfig(**SMALL, vocab_size=512),
    "roberta": transformers.RobertaConfig(**SMALL, vocab_size=512, max_position_embeddings=34),
    "distilbert": transformers.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=24, vocab_size=512),
}
TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}{% endfor %}"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def sources(monkeypatch, tmp_path):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path / "sources"))


def stored(family, folder):
    """A small model with random weights and a tokenizer, as transformers saves it."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(FAMILIES[family]).eval()
    model.save_pretrained(folder)
    (folder / readers.TOKENIZER).write_text(json.dumps(registry.build("text").state()["tokenizer_json"]))
    return model


def reader_of(source):
    said = []
    api.import_model(source, say=said.append, reader=True)
    name = said[0].split("modalities.text.reader=")[1].split()[0]
    modality = registry.build("text", {"reader": name, "raw": False})
    return modality, registry.reader_of(modality)


@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_read_as_transformers_reads_them(family, tmp_path):
    model = stored(family, tmp_path / family)
    modality, reader = reader_of(tmp_path / family)
    texts = ("Draw a red heart.", "", "yes and no " * 100)
    prepared = [reader.prepare(modality, text(each)) for each in texts]
    lengths = [len(ids) for ids in prepared]
    assert lengths[0] > 3
    assert lengths[1] == 1, "an empty text is read as a full stop"
    assert lengths[2] == reader.longest == {"gpt2": 30, "roberta": 32}.get(family, readers.LONGEST)
    together = reader.load(CPU)(prepared)
    for ids, features in zip(prepared, together, strict=True):
        assert features.shape == (len(ids), reader.width)
        assert reader.width == 16
        with torch.no_grad():
            alone = model(torch.from_numpy(ids)[None]).last_hidden_state[0]
        np.testing.assert_allclose(features.astype(np.float32), alone.numpy(), atol=5e-3)


def test_a_language_model_becomes_a_reader_only_where_that_is_asked_for(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    stored("bert", tmp_path / "bert")
    answer = CliRunner().invoke(app, ["import", str(tmp_path / "gpt2")])
    assert answer.exit_code != 0, "it would be a checkpoint, which needs a folder"
    taken = CliRunner().invoke(app, ["import", str(tmp_path / "gpt2"), "--reader"])
    assert taken.exit_code == 0, taken.output
    assert "modalities.text.reader=gpt2_" in taken.output
    assert "modalities.text.reader=bert_" in CliRunner().invoke(app, ["import", str(tmp_path / "bert")]).output


def test_a_model_without_its_tokenizer_is_refused_and_nothing_is_left(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    (tmp_path / "gpt2" / readers.TOKENIZER).unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read.*save_pretrained"):
        api.import_model(tmp_path / "gpt2", reader=True)
    assert not list((tmp_path / "sources" / "encoders").iterdir())


def test_what_is_no_text_is_refused():
    with pytest.raises(RowError, match="got int; expected a string"):
        readers.SmolLM2().prepare(None, Part("text", 7))


def test_words_are_known_by_themselves_and_never_taken_for_the_name_of_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    named = text(str(tmp_path / "a.txt"))
    before = content_hash(named)
    (tmp_path / "a.txt").write_text("another")
    assert content_hash(named) == before != content_hash(text("a.txt"))


def test_a_row_holds_the_features_and_none_of_the_ids_of_what_is_asked(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    modality, reader = reader_of(tmp_path / "gpt2")
    modalities = registry.build_all(SETTINGS) | {"text": modality}
    vocabulary = Vocabulary(modalities)
    features = FeatureReader(modalities, vocabulary.readers, CPU)
    question, answer = "Draw a red heart.", "yes"
    sample = Sample((Message("user", (text(question),)), Message("assistant", (text(answer),))), "talk")
    row = Encoder(vocabulary, features=features).row(sample, np.random.default_rng(0))
    offset = vocabulary.offsets["text"]
    written = [int(index) - offset for index in row.ids if index >= offset]
    assert modality.write(modality.read(text(answer))).value == answer
    assert written == modality.read(text(answer)).blocks[0].tokens.tolist()
    assert vocabulary.ids[features_mark(reader.name)] in row.ids
    np.testing.assert_array_equal(row.clean[reader.name].inputs, features(text(question)))
    both = registry.build("text", {"reader": reader.name})
    other = Vocabulary(modalities | {"text": both})
    with_ids = Encoder(other, features=features).row(sample, np.random.default_rng(0))
    assert len(with_ids) == len(row) + len(both.read(text(question)).blocks[0].tokens)


def test_a_reader_beside_a_chat_template_is_refused(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    modality, _ = reader_of(tmp_path / "gpt2")
    with pytest.raises(ConfigError, match="beside a chat template; expected ''"):
        Vocabulary({"text": modality}, ChatTemplate(TEMPLATE, {"<|im_start|>": 0, "<|im_end|>": 1}, {}))


def test_its_settings_come_back_with_the_state(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    modality, reader = reader_of(tmp_path / "gpt2")
    again = registry.build("text", json.loads(json.dumps(modality.state())))
    assert (again.reader, again.raw) == (reader.name, False)
    assert "reader" not in registry.build("text").state()


def test_an_encoder_without_some_of_its_weights_is_refused(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    file = tmp_path / "gpt2" / "model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor for name, tensor in tensors.items() if ".1." not in name}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"gpt2 lacks 12 of its weights, such as h\.1\.attn"):
        api.import_model(tmp_path / "gpt2", reader=True)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"gpt2 cannot be opened by transformers"):
        api.import_model(tmp_path / "gpt2", reader=True)
    assert not list((tmp_path / "sources" / "encoders").iterdir())


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    config = FAMILIES["gpt2"].to_dict() | {"vocab_size": 100}
    transformers.AutoModel.from_config(transformers.GPT2Config(**config)).save_pretrained(tmp_path / "gpt2")
    (tmp_path / "gpt2" / readers.TOKENIZER).write_text(json.dumps(registry.build("text").state()["tokenizer_json"]))
    with pytest.raises(CheckpointError, match="numbers tokens up to 255, the model knows 100"):
        api.import_model(tmp_path / "gpt2", reader=True)


def test_padding_and_truncation_of_the_tokenizer_are_off(tmp_path):
    stored("bert", tmp_path / "bert")
    file = tmp_path / "bert" / readers.TOKENIZER
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(file))
    _, reader = reader_of(tmp_path / "bert")
    assert [len(reader.prepare(None, text(words))) for words in ("Hi.", "Hello there.")] == [3, 12]


def test_a_reader_travels_to_other_processes_by_its_name(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    _, reader = reader_of(tmp_path / "gpt2")
    reader.load(CPU)
    assert len(pickle.dumps(reader)) < 1000
    again = pickle.loads(pickle.dumps(reader))
    assert (again.name, again.version, again.width) == (reader.name, reader.version, reader.width)
    assert (
        pickle.loads(pickle.dumps(readers.READERS["smollm2_135m_instruct"])) is readers.READERS["smollm2_135m_instruct"]
    )


def test_words_that_no_file_can_hold_are_refused(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    modality, reader = reader_of(tmp_path / "gpt2")
    for read in (modality.read, lambda part: reader.prepare(modality, part)):
        with pytest.raises(RowError, match="characters that UTF-8 can write"):
            read(text("\udcff"))


def test_what_is_asked_for_as_a_reader_and_is_none_says_so(tmp_path):
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "t5"}')
    stored("gpt2", tmp_path / "gpt2")
    for source, dest, error, message in (
        (tmp_path / "t5", None, CheckpointError, "of the family 't5', which nothing reads with"),
        ("smollm2-135m-instruct", None, CheckpointError, "modalities.text.reader=smollm2_135m_instruct"),
        (tmp_path / "gpt2", tmp_path / "new", ConfigError, "beside --reader; expected none"),
    ):
        with pytest.raises(error, match=message):
            api.import_model(source, dest, reader=True)
    assert not (tmp_path / "new").exists()


def test_what_reads_words_moves_with_words(tmp_path):
    stored("gpt2", tmp_path / "gpt2")
    modality, reader = reader_of(tmp_path / "gpt2")
    vocabulary = Vocabulary(registry.build_all(SETTINGS) | {"text": modality})
    assert sides_of_parameter(f"embedders.{reader.name}.out.weight", vocabulary) == {"text"}
    sides, _ = chosen(["text"], vocabulary)
    assert sides == {"text"}
