"""Probes tell what is there and nothing else: planted labels, shuffled ones, and halves that share no medium."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from worlds import TINY, World, templated, text

from plait.contract import Message, Part, Sample
from plait.data.pack import collate
from plait.data.row import lay_out_clean
from plait.errors import ConfigError, RowError
from plait.explain import probing
from plait.explain.explanation import Subject
from plait.explain.probing import PENALTIES, Probed, halves, label_of, mean_states, probe, right
from plait.infer.engine import Engine
from plait.model.transformer import TrunkConfig

ROWS = 60


@pytest.fixture(params=[False, True], ids=["marks", "template"])
def subject(request):
    world = templated(World()) if request.param else World()
    model = world.model(TrunkConfig(**TINY.model_dump() | {"split": {"image_given": 16}}))
    inside = copy.deepcopy(model)
    return Subject(Engine(model), {}, lambda: inside)


def picture(value, rng):
    return Part("image", Image.fromarray(rng.integers(value, value + 60, (8, 8)).astype(np.uint8)))


def rows_of(labels, seed=0, words="what is this?"):
    """Rows whose pictures are darker or lighter by their label; what is asked is the same."""
    rng = np.random.default_rng(seed)
    return [
        Sample(
            (
                Message("user", (text(words), picture(60 * label, rng))),
                Message("assistant", (text("yes"),)),
            ),
            meta={"expect": {"light": label}},
        )
        for label in labels
    ]


def drawn(count=ROWS, seed=1, classes=3):
    return np.random.default_rng(seed).integers(0, classes, count).tolist()


def test_a_planted_label_is_told_and_a_shuffled_one_is_not(subject):
    result = probe(subject, rows_of(drawn()), "expect.light", kind="image")
    assert (result.kind, result.classes, result.trained, result.held_out) == ("image", 3, 30, 30)
    assert len(result.layers) == TINY.num_layers + 1
    assert min(one.accuracy for one in result.layers) > 0.9
    assert max(one.control for one in result.layers) < 0.7
    assert 0.2 < result.majority < 0.6


def test_what_a_part_does_not_say_is_not_told(subject):
    """The label of the pictures, from words before them that are alike in all rows."""
    result = probe(subject, rows_of(drawn()), "expect.light")
    assert result.kind == "text"
    assert all(one.accuracy == pytest.approx(result.majority) for one in result.layers)


def test_words_after_a_picture_are_told_it_by_the_trunk_alone(subject):
    """Words of the question that see the picture have its label after a layer, not before the first."""
    rows = [
        Sample((Message("user", tuple(reversed(row.messages[0].parts))), row.messages[1]), meta=row.meta)
        for row in rows_of(drawn(200))
    ]
    result = probe(subject, rows, "expect.light", kind="text")
    assert result.layers[0].accuracy == pytest.approx(result.majority)
    assert max(one.accuracy for one in result.layers[1:]) > result.majority + 0.2


def test_states_are_means_over_the_part_in_the_row_alone(subject, monkeypatch):
    rows = rows_of(drawn(5)) + rows_of(drawn(4), words="say it in German")
    parts = [Probed.of(subject, row, "image") for row in rows]
    monkeypatch.setattr(probing, "TOKENS_A_BATCH", 3 * len(parts[0].row))
    together = mean_states(subject, parts)
    model = subject.inside()
    for number, one in enumerate(parts):
        batch = collate([[one.row]], len(one.row), model.vocabulary)
        [tokens] = [each.index for each in batch.clean.values()]
        assert tokens.tolist() == one.tokens.tolist()
        with torch.no_grad():
            expected = model.hidden(batch)[tokens].mean(dim=0)
        np.testing.assert_allclose(together[-1, number], expected, atol=1e-5)
    assert together.shape == (TINY.num_layers + 1, len(rows), TINY.dim)


def test_the_answer_is_not_seen(subject):
    """What is probed is a row that ends where the answer begins."""
    [row] = rows_of([1])
    other = Sample((row.messages[0], Message("assistant", (text("zwei"),))), meta=row.meta)
    assert np.array_equal(Probed.of(subject, row, None).row.ids, Probed.of(subject, other, None).row.ids)
    asked = lay_out_clean(subject.engine.encoder.prompt(Sample(row.messages[:1])))
    assert len(Probed.of(subject, row, None).row) == len(asked)


def test_rows_with_the_same_media_stand_in_one_half():
    media = [(Part("image", f"{number % 7}.png"), Part("audio", f"{number % 2}.wav")) for number in range(280)]
    learns = halves(media, np.random.default_rng(0))
    sides = {}
    for of_row, one in zip(media, learns, strict=True):
        sides.setdefault(tuple(part.value for part in of_row), set()).add(bool(one))
    assert len(sides) == 14
    assert all(len(side) == 1 for side in sides.values())
    assert learns.sum() == 140
    apart = halves([(Part("image", np.zeros(1)),) for _ in range(70)], np.random.default_rng(0))
    assert apart.sum() == 35, "media without a path are each their own"


def test_words_part_rows_that_have_no_media(subject):
    rows = [
        Sample((Message("user", (text(words),)), Message("assistant", (text("yes"),))), meta={"n": n % 2})
        for n, words in enumerate(["what?"] * 30)
    ]
    with pytest.raises(ConfigError, match="to learn from one half"):
        probe(subject, rows, "n")


def test_a_probe_is_right_about_what_is_linear_and_no_more():
    rng = np.random.default_rng(0)
    features, learns = rng.standard_normal((400, 8)).astype(np.float32), np.arange(400) % 2 == 0
    linear = (features[:, 0] > 0).astype(int)
    assert min(right(features, linear, learns)[:2]) > 0.9
    exclusive = ((features[:, 0] > 0) ^ (features[:, 1] > 0)).astype(int)
    assert right(features, exclusive, learns)[1] < 0.65
    assert right(features, rng.integers(0, 2, 400), learns)[1] < 0.65


def test_labels_of_rows_that_are_held_out_change_nothing():
    rng = np.random.default_rng(0)
    features, learns = rng.standard_normal((200, 8)).astype(np.float32), np.arange(200) % 2 == 0
    labels = (features[:, 0] + rng.standard_normal(200) > 0).astype(int)
    of_learned, of_others, penalty = right(features, labels, learns)
    turned = right(features, np.where(learns, labels, 1 - labels), learns)
    assert turned == (of_learned, pytest.approx(1 - of_others), penalty)
    assert of_learned < 1


def test_shuffled_labels_get_a_probe_of_the_same_freedom(subject, monkeypatch):
    fits = []

    def recorded(features, labels, learns, penalties=PENALTIES):
        fits.append((penalties, right(features, labels, learns, penalties)))
        return fits[-1][1]

    monkeypatch.setattr(probing, "right", recorded)
    probe(subject, rows_of(drawn()), "expect.light", kind="image")
    assert len(fits) == 2 * (TINY.num_layers + 1)
    for (penalties, (_, _, chosen)), (fixed, (by_heart, _, _)) in zip(fits[::2], fits[1::2], strict=True):
        assert penalties == PENALTIES
        assert fixed == (chosen,)
        assert by_heart > 1 / 3


def test_probing_has_a_table_and_json(subject):
    result = probe(subject, rows_of(drawn()), "expect.light", kind="image")
    data = json.loads(result.to_json())
    assert [set(one) for one in data["layers"]] == [{"accuracy", "control", "by_heart"}] * 3
    assert len(result.table().splitlines()) == 2 + 3


def test_the_same_seed_gives_the_same_numbers(subject):
    rows = rows_of(drawn())
    one, again, other = (probe(subject, rows, "expect.light", kind="image", seed=seed) for seed in (0, 0, 1))
    assert one == again != other


@pytest.mark.parametrize(
    ("rows", "label", "kind", "error", "what"),
    [
        (rows_of(drawn(8)), "expect.light", None, ConfigError, "8 rows; expected at least 20"),
        (rows_of([1] * 30), "expect.light", None, ConfigError, "1 labels"),
        (rows_of(drawn()), "light", None, ConfigError, "no meta.light; expected a label: there is expect"),
        (rows_of(drawn()), "expect.light.more", None, ConfigError, "nothing below it"),
        (rows_of(drawn()), "expect.light", "audio", RowError, "no part of type 'audio'"),
    ],
)
def test_what_cannot_be_probed_is_refused(subject, rows, label, kind, error, what):
    with pytest.raises(error, match=what):
        probe(subject, rows, label, kind=kind)


def test_labels_are_below_names_in_meta():
    sample = Sample((), meta={"digit": 7, "expect": {"voice": "m1"}})
    assert label_of(sample, "digit") == "7"
    assert label_of(sample, "expect.voice") == "m1"
