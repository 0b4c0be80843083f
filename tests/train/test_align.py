"""Alignment of features with words: the losses are what their definitions say, and only projectors learn."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.features import FeatureReader
from plait.data.letters import spelled
from plait.data.pack import collate
from plait.data.sequence import CTC, MATCH, Encoder
from plait.data.vocabulary import Vocabulary
from plait.modalities.image import readers
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.train.objectives import align
from plait.train.objectives.align import OTHERS, SHARPNESS, Align, answers_to_match, directions, hidden_in_part


def table_of(model):
    """All embeddings of words in units of their root mean square, and their mean."""
    table = model.tables["text"].weight.detach() / model.trunk.config.embedding_rms
    return table, table.mean(dim=0)


class Columns:
    """A reader with a feature a column of the picture: its mean colour."""

    name, version, width = "columns", "1", 4
    tokens = words = 0
    letters = 2

    def prepare(self, modality, part):
        return np.asarray(part.value, np.float32)

    def vary(self, prepared, rng):
        return prepared

    def load(self, device):
        return lambda prepared: [np.pad(p.mean(axis=0) / 255, ((0, 0), (0, 1))).astype(np.float16) for p in prepared]


def picture(seed, columns=4):
    rng = np.random.default_rng(seed)
    return Part("image", Image.fromarray(rng.integers(0, 256, (2, columns, 3), np.uint8)))


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setitem(readers.READERS, "columns", Columns())
    modalities = registry.build_all({"text": {}, "image": {"patch": 2, "max_patches": 8, "reader": "columns"}})
    vocabulary = Vocabulary(modalities)
    model = MultimodalTransformer(TrunkConfig(dim=16, num_layers=1, num_heads=2), vocabulary)
    features = FeatureReader(modalities, vocabulary.readers, torch.device("cpu"))
    encoder = Encoder(vocabulary, features=features, alignment={"spell": CTC, "name": MATCH})

    def batch(*rows):
        samples = [
            Sample(
                (Message("user", (part, Part("text", "what?"))), Message("assistant", (Part("text", answer),))), task
            )
            for task, part, answer in rows
        ]
        return collate([[encoder.row(s, np.random.default_rng(0)) for s in samples]], 128, vocabulary)

    return model, batch


def projected(model, part):
    features = torch.from_numpy(Columns().load(None)([Columns().prepare(None, part)])[0]).float()
    return model.embedders["columns"](features, torch.zeros(len(features), 0), torch.ones(len(features)))


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
    monkeypatch.setattr(align, "hidden_in_part", lambda features, counts, frames: features)
    rows = ("spell", picture(2, 8), "abba"), ("name", picture(4), "a"), ("spell", picture(3, 5), "Cab!")
    found = Align(True, ("spell",)).sums(model, batch(*rows))[CTC]
    expected = 0.0
    for (_, part, _), answer in ((rows[0], "abba"), (rows[2], "cab")):
        features = torch.from_numpy(Columns().load(None)([Columns().prepare(None, part)])[0]).float()
        logits = model.spellers["columns"](features, torch.tensor([len(features)]))
        expected += align.ctc(logits, torch.tensor([2 * len(features)]), [torch.from_numpy(spelled(answer))])
    torch.testing.assert_close(found, expected)


def test_what_is_hidden_depends_on_the_features_alone():
    features, counts = torch.randn(60, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([20] * 3)
    first = hidden_in_part(features, counts, 2)
    assert torch.equal(first, hidden_in_part(features, counts, 2))
    assert not torch.equal(first, hidden_in_part(features + 0.01, counts, 2))


def test_stretches_and_bands_are_hidden_and_the_rest_is_nearly_itself():
    torch.manual_seed(0)
    counts = torch.tensor([25] * 40)
    features = torch.randn(1000, 2 * 50)
    hidden = hidden_in_part(features, counts, 2) == 0.0
    whole = hidden.all(dim=1)
    assert 0.03 < whole.float().mean() < 0.25
    bands = hidden.view(40, 25, 2, 50).all(dim=1)
    assert torch.equal(bands[:, 0], bands[:, 1]), "the same band of each frame"
    lacking = bands[:, 0].float().mean(dim=1)
    assert 5 < (lacking > 0).sum() < 35
    assert lacking.max() <= align.BAND[1] + 0.02
    kept = hidden_in_part(features, counts, 2)[~hidden] - features[~hidden]
    assert 0 < kept.abs().mean() < align.NOISE


def test_a_row_with_too_few_features_gives_nothing(world):
    model, batch = world
    assert Align(True, ("spell", "name")).sums(model, batch(("spell", picture(3, 2), "abcdef")))[CTC] == 0
    assert Align(True, ("spell", "name")).sums(model, batch(("spell", picture(3, 3), "abcdef")))[CTC] > 0


@pytest.mark.parametrize("others", [(), ("d", "bc", "efg")])
def test_match_picks_the_own_answer_among_the_distinct_ones(world, others):
    model, batch = world
    rows = [("name", picture(4), "a"), ("name", picture(5), "bc"), ("name", picture(6), "a")]
    table, centre = table_of(model)
    read = model.vocabulary.modalities["text"].read
    ids = {answer: read(Part("text", answer)).blocks[0].tokens for answer in ("a", "bc", *others)}
    found = Align(True, (), [tuple(ids[answer].tolist()) for answer in others]).sums(model, batch(*rows))[MATCH]
    named = torch.stack([directions(table[tokens], centre).mean(0) for tokens in ids.values()])
    expected = 0.0
    for _, part, answer in rows:
        mean = directions(projected(model, part), centre).sum(0)
        logits = SHARPNESS * F.normalize(mean, dim=0) @ F.normalize(named, dim=1).T
        expected -= logits.log_softmax(0)[("a", "bc").index(answer)]
    torch.testing.assert_close(found, expected)


def test_only_projectors_learn_from_alignment_alone(world):
    model, batch = world
    rows = batch(("spell", picture(7), "ab"), ("name", picture(8), "c"), ("name", picture(1), "d"))
    objective = Align(True, ("spell", "name"))
    assert objective.counts(rows)[CTC] == 2
    assert objective.counts(rows)[MATCH] == 2
    sum(objective.sums(model, rows).values()).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learned
    assert all(name.startswith(("embedders.columns.", "spellers.columns.")) for name in learned)
    assert {name.split(".")[0] for name in learned} == {"embedders", "spellers"}


def test_beside_pretraining_every_group_is_there(world):
    model, batch = world
    objective = Align(False, ("spell", "name"))
    rows = batch(("spell", picture(9), "ab"))
    sums = objective.sums(model, rows)
    assert set(sums) == set(objective.groups(model)) == {"grammar", "image", "text", CTC, MATCH}
    assert set(objective.counts(rows)) >= set(sums)


def test_the_answers_to_match_are_distinct_and_a_bounded_sample():
    rows = [None, (CTC, np.array([1])), (MATCH, np.array([2, 3])), (MATCH, np.array([2, 3])), (MATCH, np.array([4]))]
    assert sorted(answers_to_match(rows)) == [(2, 3), (4,)]
    many = answers_to_match((MATCH, np.array([n])) for n in range(2 * OTHERS))
    assert len(many) == len(set(many)) == OTHERS
    assert max(many) > (OTHERS,)


def test_alignment_alone_learns_from_the_aligned_tasks_only():
    aligned, other = (Sample((Message("user", (Part("text", "?"),)),), task) for task in ("name", "draw"))
    alone, beside = (Align(alone, ("name", "spell")) for alone in (True, False))
    assert (alone.learns_from(aligned), alone.learns_from(other)) == (True, False)
    assert beside.learns_from(other)
