"""What differs enters by its own tokens, leaves by the answer's place, and nothing else than the patch changes the pass."""

import json

import numpy as np
import pytest
import torch
from test_lens import TRUNKS, answered, asked, model_of, subject_of
from worlds import TINY, World, text

from plait.errors import ConfigError
from plait.explain.explanation import Subject
from plait.explain.patching import GIVEN, REST, _groups, _Patched, patch
from plait.explain.patching_page import patching_page
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
def test_what_differs_enters_by_its_tokens_and_leaves_by_the_answer_s_place(config, kind, monkeypatch):
    monkeypatch.setattr("plait.explain.patching.LEAST", 1e-5)  # models of drawn weights hardly tell two pictures apart
    world = World()
    patching = patch(subject_of(world, config), *questions(world), answer_of(world, kind))
    assert patching.labels[0] == "image"
    assert patching.labels[-1] == REST
    restored = np.array(patching.restored)
    assert restored.shape == (len(patching.labels), config.num_layers + 1)
    assert patching.is_telling
    enters = np.isin(patching.labels, ["image", GIVEN])
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
    longer = asked(world.part("image", 0), *clean[0].parts[1:])
    with pytest.raises(ConfigError, match="expected a counterfactual of as many tokens"):
        patch(subject, clean, longer, answer_of(world, "text"))
    with pytest.raises(ConfigError, match="empty answer"):
        patch(subject, clean, clean, answered())
    bounded = Subject(subject.engine, subject.config, subject.inside, most_tokens=50)
    with pytest.raises(ConfigError, match="tokens to compute"):
        patch(bounded, clean, clean, answer_of(world, "text"))


def test_the_same_question_has_nothing_to_patch_and_pages_show_the_others():
    world, subject = World(), subject_of(World())
    clean, other = questions(world)
    same = patch(subject, clean, clean, answer_of(world, "text"))
    assert not same.is_telling
    assert "nothing to patch" in same.table()
    told = patch(subject, clean, other, answer_of(world, "text"))
    assert json.loads(told.to_json())["labels"] == list(told.labels)
    page = patching_page(told)
    assert page.count("<tr>") == TINY.num_layers + 2
    assert "Where the answer is" in page
