"""What a reader saw, in words: the nearest answer of the data stands among the features, as the table has its words."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from worlds import PixelReader

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.features import FeatureReader
from plait.data.pack import collate
from plait.data.sequence import CTC, MATCH, Encoder
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError
from plait.modalities.image import readers
from plait.model.memory import AnswerMemory, Directions, beside_answers, directions, pointing, rooms
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.train import checkpoint
from plait.train.objectives.align import answers_to_remember

V, D, TOKENS, WORDS = 50, 8, 5, 3


@pytest.fixture
def table():
    return Directions(torch.randn(V, D, generator=torch.Generator().manual_seed(0)) * 2.0, 2.0)


def memory_of(*answers):
    memory = AnswerMemory()
    memory.remember((f"answer {number}", ids) for number, ids in enumerate(answers))
    return memory


ANSWERS = (4, 9), (7,), (1, 2, 3, 5)


def shown_beside(table, vectors, **answers):
    """Media with TOKENS features and WORDS places, beside which the answers (memory, those pointed to) stand."""
    asked = {name: (memory, table.means(wanted)) for name, (memory, wanted) in answers.items()}
    return beside_answers(vectors, TOKENS, WORDS, asked, table).view(-1, TOKENS + WORDS, D)


def test_words_of_the_nearest_answer_take_the_places_after_the_features(table):
    given = torch.randn(3 * (TOKENS + WORDS), D)
    pointed_to = [ANSWERS[number] for number in (2, 0, 1)]
    shown = shown_beside(table, given, name=(memory_of(*ANSWERS), pointed_to))
    assert torch.equal(shown[:, :TOKENS], given.view(3, TOKENS + WORDS, D)[:, :TOKENS])
    for place, expected in enumerate(((1, 2, 3), (4, 9), (7,))):
        words = shown[place, TOKENS:]
        torch.testing.assert_close(words[: len(expected)], table.weight[list(expected)] / 2.0)
        assert not words[len(expected) :].any(), "a short answer leaves zeros"


def test_every_question_has_its_own_places(table):
    colours, names = memory_of((11,), (12,)), memory_of(*ANSWERS)
    given = torch.zeros(2 * (TOKENS + WORDS), D)
    shown = shown_beside(table, given, name=(names, [(7,), (4, 9)]), colour=(colours, [(12,), (11,)]))
    first, second = shown[:, TOKENS:]
    torch.testing.assert_close(first[:2], table.weight[[12, 7]] / 2.0)
    assert not first[2].any()
    torch.testing.assert_close(second, table.weight[[11, 4, 9]] / 2.0)


def test_a_long_answer_among_many_is_cut():
    memory = memory_of((1, 2, 3, 4, 5, 6), *((number,) for number in range(99)))
    assert memory.longest == 1
    assert memory_of((1, 2, 3), (4,)).longest == 3


def test_the_short_answers_have_room_first():
    assert rooms({"name": 9, "colour": 1, "kind": 4}, 12) == {"colour": 1, "kind": 4, "name": 7}
    assert rooms({"name": 9, "kind": 9}, 12) == {"kind": 9, "name": 3}
    assert rooms({}, 12) == {}


def test_without_answers_the_places_are_empty(table):
    given = torch.randn(2 * (TOKENS + WORDS), D)
    shown = shown_beside(table, given)
    assert torch.equal(shown[:, :TOKENS], given.view(2, TOKENS + WORDS, D)[:, :TOKENS])
    assert not shown[:, TOKENS:].any()


def test_answers_join_those_that_are_known_in_the_order_of_their_texts(table):
    memory = AnswerMemory()
    memory.remember([("cat", [3]), ("bee", [4, 1]), ("", [])])
    memory.remember([("ant", [5]), ("cat", [3])])
    assert (memory.texts, memory.answers) == (("ant", "bee", "cat"), ((5,), (4, 1), (3,)))
    assert memory.longest == 2
    assert memory.nearest(table.means([(4, 1)]), table) == [(4, 1)]


def test_the_directions_of_a_medium_s_features_are_added(table):
    vectors = torch.randn(2 * TOKENS, D)
    sums = pointing(vectors, TOKENS, table)
    torch.testing.assert_close(sums[1], sum(directions(vector, table.centre) for vector in vectors[TOKENS:]))


class Eye(PixelReader):
    """The picture's mean colour, twice."""

    name, width = "mean-colour", 3
    tokens, words = 2, 2

    def features(self, pixels):
        return np.tile(pixels.mean(axis=(0, 1)), (2, 1))


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setitem(readers.READERS, Eye.name, Eye())
    modalities = registry.build_all({"text": {}, "image": {"patch": 2, "max_patches": 8, "reader": Eye.name}})
    return MultimodalTransformer(TrunkConfig(dim=16, num_layers=1, num_heads=2), Vocabulary(modalities))


def batch_of(model):
    picture = Part("image", Image.new("RGB", (2, 2), (200, 30, 90)))
    sample = Sample((Message("user", (picture,)), Message("assistant", (Part("text", "red"),))), "name")
    features = FeatureReader(model.vocabulary.modalities, model.vocabulary.readers, torch.device("cpu"))
    encoder = Encoder(model.vocabulary, features=features)
    return collate([[encoder.row(sample, np.random.default_rng(0))]], 64, model.vocabulary)


def test_the_trunk_reads_the_words_after_the_features(model):
    batch = batch_of(model)
    before = model.embed(batch)[0]
    model.ask({Eye.name: ["name"]}, seed=0)
    model.remember({Eye.name: {"name": ["red"]}})
    model.unlearned.clear()
    after = model.embed(batch)[0]
    changed = (before != after).any(dim=-1).nonzero().flatten().tolist()
    places = batch.clean[Eye.name].index.tolist()
    assert changed == places[-2:]
    ids = model.vocabulary.modalities["text"].read(Part("text", "red")).blocks[0].tokens
    words = model.tables["text"].weight[torch.as_tensor(ids[:2])]
    torch.testing.assert_close(after[changed][: len(words)], words)


def test_what_never_learned_to_ask_gets_no_answer(model):
    batch = batch_of(model)
    model.ask({Eye.name: ["name"]}, seed=0)
    model.remember({Eye.name: {"name": ["red"]}})
    assert model.unlearned == {f"askers.{Eye.name}/name"}
    places = batch.clean[Eye.name].index[-2:]
    assert not model.embed(batch)[0][places].any()
    model.unlearned.clear()
    assert model.embed(batch)[0][places].any()


def test_a_question_may_be_called_as_modules_are(model):
    model.ask({Eye.name: ["type", "items"]}, seed=0)
    model.remember({Eye.name: {"type": ["red"]}})
    assert model.memories[Eye.name, "type"].texts == ("red",)
    for name in ("what.is.it", ""):
        with pytest.raises(ConfigError, match="without a dot"):
            model.ask({Eye.name: [name]}, seed=0)


def test_asking_again_keeps_what_was_learned(model):
    model.ask({Eye.name: ["name"]}, seed=0)
    model.remember({Eye.name: {"name": ["red"]}})
    before = {name: parameter.clone() for name, parameter in model.askers.named_parameters()}
    model.ask({Eye.name: ["name", "colour"], "another-eye": ["name"]}, seed=1)
    assert set(model.memories) == {(Eye.name, "name"), (Eye.name, "colour")}
    assert model.memories[Eye.name, "name"].texts == ("red",)
    now = dict(model.askers.named_parameters())
    assert all(torch.equal(now[name], parameter) for name, parameter in before.items())
    assert len(now) == 2 * len(before)


def test_a_table_that_moves_is_compared_anew(model):
    first = model.directions()
    assert model.directions() is first
    with torch.no_grad():
        model.tables["text"].weight.add_(1.0)
    assert not torch.equal(model.directions().centre, first.centre)


def test_a_checkpoint_keeps_what_its_memories_know(model, tmp_path):
    model.ask({Eye.name: ["name", "colour"]}, seed=0)
    model.remember({Eye.name: {"name": ["red", "Grüße, “ja”"], "colour": ["blue"]}})
    model.unlearned.discard(f"askers.{Eye.name}/name")
    folder = checkpoint.save(tmp_path / "saved", model, model.state_dict(), {})
    loaded, _ = checkpoint.load(folder, torch.float32)
    assert {asked: memory.texts for asked, memory in loaded.memories.items()} == {
        (Eye.name, "name"): ("Grüße, “ja”", "red"),
        (Eye.name, "colour"): ("blue",),
    }
    assert loaded.unlearned == {f"askers.{Eye.name}/colour"}
    torch.testing.assert_close(loaded.embed(batch_of(loaded)), model.embed(batch_of(model)))
    (folder / checkpoint.ANSWERS).write_text('{"mean-colour": {"name": ["blue"]}}')
    with pytest.raises(checkpoint.CheckpointError, match="answers"):
        checkpoint.load(folder, torch.float32)


def test_what_learned_another_layout_is_refused(model, tmp_path):
    folder = checkpoint.save(tmp_path / "saved", model, model.state_dict(), {})
    config = json.loads((folder / checkpoint.CONFIG).read_text())
    del config["unlearned"]
    (folder / checkpoint.CONFIG).write_text(checkpoint.as_json(checkpoint.sealed(config | {"format": 7})))
    with pytest.raises(checkpoint.CheckpointError, match="what mean-colour sees as format 7 laid it out"):
        checkpoint.load(folder, torch.float32)


def test_answers_to_what_is_not_asked_are_left_out(model):
    model.ask({Eye.name: ["name"]}, seed=0)
    model.remember({"another-eye": {"name": ["red"]}, Eye.name: {"name": ["blue"], "colour": ["green"]}})
    assert {asked: memory.texts for asked, memory in model.memories.items()} == {(Eye.name, "name"): ("blue",)}


def test_answers_come_from_tasks_that_are_matched(model):
    picture = Part("image", Image.new("RGB", (2, 2)))

    def row(task, answer, *given):
        return Sample(
            (Message("user", (*given, Part("text", "?"))), Message("assistant", (Part("text", answer),))), task
        )

    rows = {
        "name": [row("name", "cat", picture), row("name", "ant", picture), row("name", "cat", picture)],
        "spell": [row("spell", "bee", picture)],
        "talk": [row("talk", "hello", picture)],
        "guess": [row("guess", "a word without a picture")],
    }
    alignment = {"name": MATCH, "spell": CTC, "guess": MATCH, "gone": MATCH}
    assert answers_to_remember(rows, alignment, model.vocabulary) == {Eye.name: {"name": ["cat", "ant"]}}


def test_directions_are_of_unit_length_from_the_mean(table):
    assert torch.allclose(table[torch.arange(V)].norm(dim=-1), torch.ones(V))
    torch.testing.assert_close(directions(table.centre + 2.0, table.centre), torch.full((D,), D**-0.5))
