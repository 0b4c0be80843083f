"""What a reader saw, in words: the nearest answer of the data stands among the features, as the table has its words."""

import numpy as np
import pytest
import torch
from PIL import Image

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.features import FeatureReader
from plait.data.pack import collate
from plait.data.sequence import CTC, MATCH, Encoder
from plait.data.vocabulary import Vocabulary
from plait.modalities.image import readers
from plait.model.memory import AnswerMemory, Directions, directions
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.train import checkpoint
from plait.train.objectives.align import answers_to_remember

V, D, TOKENS, WORDS = 50, 8, 5, 3


@pytest.fixture
def table():
    return Directions(torch.randn(V, D, generator=torch.Generator().manual_seed(0)) * 2.0, 2.0, torch.float32)


def pointing_at(table, answer):
    """Features of a medium that all lie in the mean direction of an answer's words."""
    return (table.centre + 3.0 * table.means([answer])).expand(TOKENS, D)


def memory_of(*answers):
    memory = AnswerMemory(TOKENS, WORDS)
    memory.remember((f"answer {number}", ids) for number, ids in enumerate(answers))
    return memory


ANSWERS = (4, 9), (7,), (1, 2, 3, 5)


def test_words_of_the_nearest_answer_take_the_last_places(table):
    memory = memory_of(*ANSWERS)
    given = torch.cat([pointing_at(table, ANSWERS[number]) for number in (2, 0, 1)])
    shown = memory(given, table).view(3, TOKENS, D)
    assert torch.equal(shown[:, : TOKENS - WORDS], given.view(3, TOKENS, D)[:, : TOKENS - WORDS])
    for place, expected in enumerate(((1, 2, 3), (4, 9), (7,))):
        words = shown[place, TOKENS - WORDS :]
        torch.testing.assert_close(words[: len(expected)], table.weight[list(expected)] / 2.0)
        assert not words[len(expected) :].any(), "a short answer leaves zeros"


def test_a_memory_without_answers_changes_nothing(table):
    given = torch.randn(2 * TOKENS, D)
    assert AnswerMemory(TOKENS, WORDS)(given, table) is given


def test_answers_join_those_that_are_known_in_the_order_of_their_texts(table):
    memory = AnswerMemory(TOKENS, WORDS)
    memory.remember([("cat", [3]), ("bee", [4]), ("", [])])
    memory.remember([("ant", [5]), ("cat", [3])])
    assert (memory.texts, memory.answers) == (("ant", "bee", "cat"), ((5,), (4,), (3,)))
    assert memory.nearest(pointing_at(table, (4,)), table).tolist() == [1]


def test_the_memory_passes_no_gradient_to_what_it_asks_with(table):
    given = torch.cat([pointing_at(table, (7,))]).requires_grad_()
    memory_of(*ANSWERS)(given, table).sum().backward()
    assert given.grad[: TOKENS - WORDS].abs().min() > 0
    assert not given.grad[TOKENS - WORDS :].any()


class Eye:
    """A reader with the picture's mean colour, four times."""

    name, version, width = "mean-colour", "1", 3
    tokens, words, letters = 4, 2, 0

    def prepare(self, modality, part):
        return np.asarray(part.value, np.float32)

    def vary(self, prepared, rng):
        return prepared

    def load(self, device):
        return lambda prepared: [np.tile(p.mean(axis=(0, 1)) / 255, (4, 1)).astype(np.float16) for p in prepared]


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


def test_the_trunk_reads_the_words_where_the_features_stood(model):
    batch = batch_of(model)
    before = model.embed(batch)[0]
    model.remember({Eye.name: ["red"]})
    after = model.embed(batch)[0]
    changed = (before != after).any(dim=-1).nonzero().flatten().tolist()
    places = batch.clean[Eye.name].index.tolist()
    assert changed == places[-2:]
    ids = model.vocabulary.modalities["text"].read(Part("text", "red")).blocks[0].tokens
    words = model.tables["text"].weight[torch.as_tensor(ids[:2])]
    torch.testing.assert_close(after[changed][: len(words)], words)


def test_a_table_that_moves_is_compared_anew(model):
    first = model.directions()
    assert model.directions() is first
    with torch.no_grad():
        model.tables["text"].weight.add_(1.0)
    assert not torch.equal(model.directions().centre, first.centre)


def test_a_checkpoint_keeps_what_its_memories_know(model, tmp_path):
    model.remember({Eye.name: ["red", "Grüße, “ja”"]})
    folder = checkpoint.save(tmp_path / "saved", model, model.state_dict(), {})
    loaded, _ = checkpoint.load(folder, torch.float32)
    assert loaded.memories[Eye.name].texts == ("Grüße, “ja”", "red")
    torch.testing.assert_close(loaded.embed(batch_of(loaded)), model.embed(batch_of(model)))
    (folder / checkpoint.ANSWERS).write_text('{"mean-colour": ["blue"]}')
    with pytest.raises(checkpoint.CheckpointError, match="answers"):
        checkpoint.load(folder, torch.float32)


def test_answers_of_another_reader_are_left_out(model):
    model.remember({"another-eye": ["red"], Eye.name: ["blue"]})
    assert {name: memory.texts for name, memory in model.memories.items()} == {Eye.name: ("blue",)}


def test_the_words_come_in_the_arithmetic_of_today(model):
    first = model.directions()
    model.dtype = torch.bfloat16
    assert (first.dtype, model.directions().dtype) == (torch.float32, torch.bfloat16)


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
    assert answers_to_remember(rows, alignment, model.vocabulary) == {Eye.name: ["cat", "ant"]}


def test_directions_are_of_unit_length_from_the_mean(table):
    assert torch.allclose(table[torch.arange(V)].norm(dim=-1), torch.ones(V))
    torch.testing.assert_close(directions(table.centre + 2.0, table.centre), torch.full((D,), D**-0.5))
