"""Alignment of features with words: the losses are what their definitions say, and only spellers and askers learn."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from worlds import Columns

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data import sequence
from plait.data.features import FeatureReader
from plait.data.letters import spelled
from plait.data.pack import collate
from plait.data.row import Alignment
from plait.data.sequence import CTC, FIND, MATCH, Encoder
from plait.data.vocabulary import Vocabulary
from plait.modalities.image import readers
from plait.model.memory import directions
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.train import trainer
from plait.train.config import TrainingConfig
from plait.train.objectives import align
from plait.train.objectives.align import OTHERS, SHARPNESS, Align, answers_to_match, words_to_expect


def table_of(model):
    """All embeddings of words in units of their root mean square, and their mean."""
    table = model.tables["text"].weight.detach() / model.trunk.config.embedding_rms
    return table, table.mean(dim=0)


class FourColumns(Columns):
    """The same of pictures with four columns, with two places for words."""

    name = "four-columns"
    tokens, words, letters = 4, 2, 0


def picture(seed, columns=4):
    rng = np.random.default_rng(seed)
    return Part("image", Image.fromarray(rng.integers(0, 256, (2, columns, 3), np.uint8)))


def world_of(monkeypatch, reader):
    """A model whose pictures the reader reads, and what makes a batch of (task, picture, answer)."""
    monkeypatch.setitem(readers.READERS, reader.name, reader)
    modalities = registry.build_all({"text": {}, "image": {"patch": 2, "max_patches": 8, "reader": reader.name}})
    vocabulary = Vocabulary(modalities)
    model = MultimodalTransformer(TrunkConfig(dim=16, num_layers=1, num_heads=2), vocabulary)
    model.ask({reader.name: ["name", "colour"]}, seed=0)
    features = FeatureReader(modalities, vocabulary.readers, torch.device("cpu"))
    alignment = {"spell": CTC, "name": MATCH, "colour": MATCH}
    encoder = Encoder(vocabulary, features=features, alignment=alignment)

    def batch(*rows):
        samples = [
            Sample(
                (Message("user", (part, Part("text", "what?"))), Message("assistant", (Part("text", answer),))), task
            )
            for task, part, answer in rows
        ]
        return collate([[encoder.row(s, np.random.default_rng(0)) for s in samples]], 128, vocabulary)

    return model, batch


@pytest.fixture
def world(monkeypatch):
    return world_of(monkeypatch, Columns())


@pytest.fixture
def seen(monkeypatch):
    return world_of(monkeypatch, FourColumns())


def features_of(part):
    return torch.from_numpy(Columns().load(None)([Columns().prepare(None, part)])[0]).float()


def test_features_stand_before_the_picture_s_own_blocks_and_belong_to_it(world):
    model, batch = world
    vocabulary = model.vocabulary
    made = batch(("name", picture(0), "ab"))
    names = [vocabulary.names[i] if 0 <= i < len(vocabulary.names) else i for i in made.ids[0, :9].tolist()]
    assert names[:7] == ["<user>", "<open:image>", "<features:columns>", -1, -1, -1, -1]
    assert names[7] == "<open:image>"
    assert made.expert[0, 1:8].tolist() == [vocabulary.expert("image", written=False)] * 7
    block = made.block[0, 3:7].tolist()
    assert len(set(block)) == 1


def test_what_the_assistant_shows_has_no_features(world):
    model, _ = world
    shown = Sample((Message("user", (Part("text", "draw"),)), Message("assistant", (picture(1),))))
    encoder = Encoder(model.vocabulary, features=lambda part, rng: pytest.fail("a reader read what is written"))
    row = encoder.row(shown, np.random.default_rng(0))
    assert "columns" not in row.clean
    assert model.vocabulary.ids["<features:columns>"] not in row.ids


def test_ctc_is_the_sum_over_all_ways_to_spell():
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    logs, target = logits[0].log_softmax(-1), [1, 2]
    ways = [
        sum(logs[t, s] for t, s in enumerate(way))
        for way in itertools.product(range(3), repeat=4)
        if [s for t, s in enumerate(way) if s and (t == 0 or way[t - 1] != s)] == target
    ]
    found = align.ctc(logits, torch.tensor([4]), [torch.tensor(target)])
    torch.testing.assert_close(found, -torch.logsumexp(torch.stack(ways), 0))


def test_every_row_is_spelled_by_its_own_features(world, monkeypatch):
    model, batch = world
    monkeypatch.setattr(sequence, "hide_in_features", lambda features, frames, rng: features)
    rows = ("spell", picture(2, 8), "abba"), ("name", picture(4), "a"), ("spell", picture(3, 5), "Cab!")
    found = Align(True, ("spell",)).sums(model, batch(*rows))[CTC]
    expected = 0.0
    for (_, part, _), answer in ((rows[0], "abba"), (rows[2], "cab")):
        features = features_of(part)
        logits = model.spellers["columns"](features, torch.tensor([len(features)]))
        expected += align.ctc(logits, torch.tensor([2 * len(features)]), [torch.from_numpy(spelled(answer))])
    torch.testing.assert_close(found, expected)


def test_a_row_with_too_few_features_gives_nothing(world):
    model, batch = world
    assert Align(True, ("spell", "name")).sums(model, batch(("spell", picture(3, 2), "abcdef")))[CTC] == 0
    assert Align(True, ("spell", "name")).sums(model, batch(("spell", picture(3, 3), "abcdef")))[CTC] > 0


@pytest.mark.parametrize("others", [(), ("d", "bc", "efg")])
def test_match_picks_the_own_answer_among_the_distinct_ones_of_its_task(seen, others):
    model, batch = seen
    rows = [
        ("name", picture(4), "a"),
        ("name", picture(5), "bc"),
        ("colour", picture(7), "x"),
        ("name", picture(6), "a"),
    ]
    table, centre = table_of(model)
    read = model.vocabulary.modalities["text"].read
    ids = {answer: read(Part("text", answer)).blocks[0].tokens for answer in ("a", "bc", *others)}
    objective = Align(True, (), {"name": [tuple(ids[answer].tolist()) for answer in others]})
    found = objective.sums(model, batch(*rows))[MATCH]
    named = torch.stack([directions(table[tokens], centre).mean(0) for tokens in ids.values()])
    expected = 0.0  # that of the one colour is zero: nothing to choose from
    for _, part, answer in (row for row in rows if row[0] == "name"):
        features = features_of(part)
        vectors = model.askers["four-columns/name"](features, torch.zeros(4, 0), torch.ones(4))
        logits = SHARPNESS * F.normalize(directions(vectors, centre).sum(0), dim=0) @ F.normalize(named, dim=1).T
        expected -= logits.log_softmax(0)[("a", "bc").index(answer)]
    torch.testing.assert_close(found, expected)


def learned_from(model, objective, rows):
    sum(objective.sums(model, rows).values()).backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_only_the_speller_learns_to_spell(world):
    model, batch = world
    rows, objective = batch(("spell", picture(7), "ab")), Align(True, ("spell", "name"))
    assert (objective.counts(rows)[CTC], objective.counts(rows)[MATCH]) == (2, 0)
    learned = learned_from(model, objective, rows)
    assert learned
    assert all(name.startswith("spellers.columns.") for name in learned)


def test_only_the_asker_of_a_question_learns_from_its_answers(seen):
    model, batch = seen
    rows, objective = batch(("name", picture(8), "c"), ("name", picture(1), "d")), Align(True, ("spell", "name"))
    assert (objective.counts(rows)[CTC], objective.counts(rows)[MATCH]) == (0, 2)
    learned = learned_from(model, objective, rows)
    assert learned
    assert all(name.startswith("askers.four-columns/name.") for name in learned)


def test_beside_pretraining_every_group_is_there(world):
    model, batch = world
    objective = Align(False, ("spell", "name"))
    rows = batch(("spell", picture(9), "ab"))
    sums = objective.sums(model, rows)
    assert set(sums) == set(objective.groups(model)) == {"grammar", "image", "text", CTC, MATCH, FIND}
    assert set(objective.counts(rows)) >= set(sums)


def test_the_answers_to_match_are_distinct_and_a_bounded_sample():
    aligned = (
        ("spell", CTC, [1]),
        ("name", MATCH, [2, 3]),
        ("colour", MATCH, [2]),
        ("name", MATCH, [2, 3]),
        ("name", MATCH, [4]),
    )
    rows = [None, *(Alignment(how, task, np.array(answer)) for task, how, answer in aligned)]
    found = answers_to_match(rows)
    assert {task: sorted(answers) for task, answers in found.items()} == {"name": [(2, 3), (4,)], "colour": [(2,)]}
    many = answers_to_match(Alignment(MATCH, "name", np.array([n])) for n in range(2 * OTHERS))["name"]
    assert len(many) == len(set(many)) == OTHERS
    assert max(many) > (OTHERS,)


def test_words_to_expect_are_those_of_the_answers_of_aligned_tasks():
    def row(answer):
        return Sample((Message("user", (Part("text", "what?"),)), Message("assistant", (Part("text", answer),))), "any")

    rows = {"spell": [row("A cat."), row("a cat")], "name": [row("dog")], "talk": [row("eel")]}
    expected = {"a": 2, "cat": 2, "dog": 1}
    assert words_to_expect(rows, {"spell": CTC, "name": MATCH}) == expected
    assert words_to_expect(rows, {"name": MATCH}) == {}, "no sound is aligned"


def test_alignment_alone_learns_from_the_aligned_tasks_only():
    aligned, other = (Sample((Message("user", (Part("text", "?"),)),), task) for task in ("name", "draw"))
    alone, beside = (Align(alone, ("name", "spell")) for alone in (True, False))
    assert (alone.learns_from(aligned), alone.learns_from(other)) == (True, False)
    assert beside.learns_from(other)


def test_rows_with_several_answers_are_not_aligned(seen):
    model, _ = seen
    encoder = Encoder(model.vocabulary, alignment={"name": MATCH})
    asked, answered = Message("user", (Part("text", "?"),)), Message("assistant", (Part("text", "a"),))
    assert encoder.alignment_of(Sample((asked, answered), "name")).answer.tolist()
    assert encoder.alignment_of(Sample((asked, answered, asked, answered), "name")) is None


@pytest.mark.parametrize("kind", ["world", "seen"])
def test_where_nothing_is_aligned_every_learner_has_a_gradient_of_zero(kind, request):
    """Or ranks without sounds or pictures would wait for the others for ever."""
    model, batch = request.getfixturevalue(kind)
    sums = Align(True, ("spell", "name")).sums(model, batch(("talk", picture(1), "a")))
    assert (float(sums[CTC].detach()), float(sums[MATCH].detach())) == (0.0, 0.0)
    sum(sums.values()).backward()
    learners = [*model.spellers.parameters(), *model.askers.parameters()]
    assert learners
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in learners)


@pytest.mark.parametrize(("weights", "shown"), [({}, {"columns"}), ({"alone": 0.0}, set())])
def test_a_training_tells_which_readers_media_it_shows_without_words(world, tmp_path, weights, shown):
    """A row that is not drawn shows nothing, nor do pictures with words beside them."""
    model, _ = world
    question, answer = Part("text", "which?"), Message("assistant", (Part("text", "ab"),))
    rows = {
        "alone": [Sample((Message("user", (picture(0),)), answer), "alone")],
        "asked": [Sample((Message("user", (picture(1), question)), answer), "asked")],
    }
    recipe = TrainingConfig(name="tiny", data=str(tmp_path), modalities={}, weights=weights, pack={"length": 64})
    trainer.build(recipe, rows, model)
    assert model.shown_wordless == shown
