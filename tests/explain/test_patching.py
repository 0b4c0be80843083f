"""What differs enters by its own tokens, leaves by the answer's place, and nothing else than the patch changes the pass."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from test_lens import TRUNKS, answered, asked, model_of, subject_of
from worlds import TINY, World, text

from plait.errors import ConfigError
from plait.explain.explanation import Subject
from plait.explain.patching import REST, TOGETHER, NotAlikeError, Patching, _groups, _Patched, patch
from plait.explain.patching_view import patching_view
from plait.explain.scorer import Scorer
from plait.model.attention import prepare
from plait.model.mask import allowed
from plait.model.rope import rotary_table

KINDS = ("text", "image", "audio")


def questions(world):
    """A question and another with the other picture."""
    one, other, clip = world.part("image", 2), world.part("image", 3), world.part("audio", 3)
    return asked(one, text("what is this?"), clip), asked(other, text("what is this?"), clip)


def answer_of(world, kind):
    return answered(text("yes zwei") if kind == "text" else world.part(kind, 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", TRUNKS.values(), ids=TRUNKS)
def test_what_differs_enters_by_its_tokens_and_leaves_by_the_answer_s_place(config, kind):
    world = World()
    patching = patch(subject_of(world, config), *questions(world), answer_of(world, kind))
    assert patching.labels[0] == "image"
    assert patching.labels[-1] == REST
    restored = np.array(patching.restored)
    assert restored.shape == (len(patching.labels), config.num_layers + 1)
    assert abs(patching.difference) > 1e-5  # drawn weights hardly tell two pictures apart
    enters = np.isin(patching.labels, ["image", TOGETHER])
    np.testing.assert_allclose(restored[:, 0], enters, atol=0.02)
    np.testing.assert_allclose(restored[:, -1], np.eye(len(restored))[-1], atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", TRUNKS.values(), ids=TRUNKS)
def test_all_tokens_patched_are_the_question_after_every_layer(config, kind):
    """Written media before, so that experts have tokens that the question and its counterfactual do not share."""
    world = World()
    network = model_of(world, config)
    subject = subject_of(world, config)
    messages = [
        (*asked(text("draw")), answered(world.part("image", seed)), *asked(text("and again"))) for seed in (4, 5)
    ]
    scorer, other = (Scorer(subject.engine, each, answer_of(world, kind)) for each in messages)
    every, none = np.arange(len(scorer.row)), np.zeros(0, int)
    patched = _Patched(scorer, other, network, [every, none])
    [of_question] = scorer.scores_by(network, scorer.batch([scorer.row]))
    [of_other] = other.scores_by(network, other.batch([other.row]))
    for layer in range(config.num_layers + 1):
        np.testing.assert_allclose(patched.scores(layer), [of_question, of_other], atol=1e-4)
    torch.testing.assert_close(network.hidden(other.batch([other.row])), model_of(world, config).hidden(other.batch([other.row])))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", TRUNKS.values(), ids=TRUNKS)
def test_known_layers_are_not_computed_and_change_nothing(config, kind):
    """The slow reference computes every layer of the counterfactual again."""
    world, subject = World(), subject_of(World(), config)
    scorer, other = (Scorer(subject.engine, each, answer_of(world, kind)) for each in questions(world))
    patched = _Patched(scorer, other, model_of(world, config), [tokens for _, tokens in _groups(scorer)])
    quick = [patched.scores(layer) for layer in range(config.num_layers + 1)]
    patched.before = []
    slow = [patched.scores(layer) for layer in range(config.num_layers + 1)]
    np.testing.assert_allclose(quick, slow, atol=1e-5)


@torch.no_grad()
def test_a_patched_pass_is_that_of_layers_by_hand():
    world = World()
    network, subject = model_of(world, TINY), subject_of(world)
    scorer, other = (Scorer(subject.engine, each, answer_of(world, "text")) for each in questions(world))
    groups = [tokens for _, tokens in _groups(scorer)]
    patched = _Patched(scorer, other, network, groups)
    for layer in range(TINY.num_layers + 1):
        scores = patched.scores(layer)
        for number, tokens in enumerate(groups):
            states = []
            for each in (scorer, other):
                state = network.embed(each.batch([each.row]))
                states.append(by_hand(network, each, state, 0, layer))
            states[1][0, tokens] = states[0][0, tokens]
            hidden = network.trunk.norm(by_hand(network, other, states[1], layer, TINY.num_layers)).flatten(0, 1)
            batch = other.batch([other.row])
            loss = network.losses_of(hidden, batch)[""].loss.float()
            assert scores[number] == pytest.approx(-float(loss.sum()), abs=1e-4)


def by_hand(network, scorer, state, first, last):
    """Layers `first` to `last` of the trunk, one after the other."""
    batch, config = scorer.batch([scorer.row]), network.trunk.config
    mask = prepare(allowed(batch.row, batch.block, batch.copy, batch.shares), state.dtype)
    table = rotary_table(batch.position, config.head_width, config.rotary_base, config.rotary_scaling)
    for layer in network.trunk.layers[first:last]:
        state = layer(state, mask, table, None)
    return state.clone()


def test_questions_that_are_not_laid_out_alike_are_refused():
    world, subject = World(), subject_of(World())
    clean, _ = questions(world)
    answer = answer_of(world, "text")
    longer = asked(world.part("image", 0), *clean[0].parts[1:])
    with pytest.raises(NotAlikeError, match=r"got image of \d+ tokens, and of \d+ in the counterfactual"):
        patch(subject, clean, longer, answer)
    one, words, other = world.part("image", 2), text("what is this?"), world.part("image", 3)
    with pytest.raises(NotAlikeError):
        patch(subject, asked(one, words, other), asked(words, one, other), answer)
    with pytest.raises(NotAlikeError, match="line up"):  # as many tokens in all, not word by word
        patch(subject, asked(text("a unseen")), asked(text("unseen a")), answer)
    with pytest.raises(ConfigError, match="empty answer"):
        patch(subject, clean, clean, answered())
    bounded = Subject(subject.engine, subject.config, subject.inside, most_tokens=50)
    with pytest.raises(ConfigError, match="tokens to compute"):
        patch(bounded, clean, clean, answer)


def test_groups_in_several_batches_are_as_in_one(monkeypatch):
    world, subject = World(), subject_of(World())
    at_once = patch(subject, *questions(world), answer_of(world, "text"))
    monkeypatch.setattr("plait.explain.patching.TOKENS_A_BATCH", 1)
    one_by_one = patch(subject, *questions(world), answer_of(world, "text"))
    np.testing.assert_allclose(one_by_one.restored, at_once.restored, atol=1e-2 * np.abs(at_once.restored).max())


def test_another_part_of_the_answer_and_another_noise():
    world, subject = World(), subject_of(World())
    answer = answered(text("yes"), world.part("image", 4))
    words, drawing, otherwise = (
        patch(subject, *questions(world), answer, part=part, seed=seed) for part, seed in ((0, 0), (1, 0), (1, 7))
    )
    assert words.score != pytest.approx(drawing.score, abs=1e-3)
    assert drawing.score != pytest.approx(otherwise.score, abs=1e-6)


TOLD = Patching(
    asked(text("one")), asked(text("two")), answered(text("yes")), 0, ("'one'", REST), -1.0, -3.0, ((1.0, 0.25, -0.004), (0.0, 0.5, 1.0))
)  # fmt: skip


def test_a_table_and_a_page_show_the_numbers():
    assert TOLD.is_telling
    lines = TOLD.table().splitlines()
    assert lines[0] == "Score of the answer: -1.000; after the counterfactual: -3.000"
    assert [line.split() for line in lines[2:]] == [
        ["after", "layer", "0", "1", "2"], ["'one'", "1.00", "0.25", "0.00"], ["all", "others", "0.00", "0.50", "1.00"],
    ]  # fmt: skip
    page = patching_view(TOLD).page()
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr><th scope=\"row\">\d.*?</tr>", page)]
    assert rows == [["0.00", "1.00"], ["0.25", "0.50"], ["1.00", "0.00"]], "the last layer first"
    assert "-3.000" in page
    assert json.loads(TOLD.to_json())["restored"] == [list(row) for row in TOLD.restored]


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"counterfactual_score": -1.01}, "less than 0.02"), ({"restored": ((1.0, 77.5), (0.0, 1.0))}, "little beside")],
)
def test_what_is_not_telling_says_so_everywhere(changes, why):
    told = dataclasses.replace(TOLD, **changes)
    assert not told.is_telling
    for shown in (told.table(), patching_view(told).page()):
        assert why in shown
        assert "nothing to patch" in shown
        assert "<table>" not in shown
    assert json.loads(told.to_json())["restored"] is None
