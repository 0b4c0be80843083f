"""Scores with units hidden are those of a row that was never given them; units are where people see them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from worlds import SETTINGS, Columns, World, templated, text

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError
from plait.explain.scorer import Scorer, Target
from plait.explain.units import MOST_UNITS
from plait.infer.engine import Engine
from plait.infer.likelihood import pair_log_likelihoods
from plait.modalities.image import readers


@pytest.fixture(params=[False, True], ids=["marks", "template"])
def engine(request):
    world = templated(World()) if request.param else World()
    engine = Engine(world.model())
    engine.world = world
    return engine


def question(world, *parts):
    return (Message("user", tuple(parts)),)


def said(*parts):
    return Message("assistant", tuple(parts))


def test_the_score_of_words_is_their_log_probability(engine):
    asked, answer = question(engine.world, engine.world.part("image", 2), text("what is this?")), text("yes")
    scorer = Scorer(engine, asked, said(answer))
    [score] = scorer.scores(scorer.none_hidden[None])
    words = engine.model.vocabulary.modalities["text"].read(answer).blocks[0].tokens
    tokens = [Scorer(engine, asked, said(answer), Target(0, n, n + 1)) for n in range(len(words))]
    assert score == pytest.approx(sum(float(one.scores(one.none_hidden[None])[0]) for one in tokens), abs=1e-4)
    whole = pair_log_likelihoods(engine, [(asked, answer)])[0]
    assert whole < score, "the closing <end> is no part of what is explained"


def test_hidden_tokens_are_as_if_never_given(engine):
    """What the model makes of a row with hidden tokens hangs on nothing but those that are left."""
    world = engine.world
    one, other = (
        Scorer(engine, question(world, Part("image", np_picture(8, seed)), text("what is this?")), said(text("yes")))
        for seed in (0, 1)
    )
    hidden = np.array([unit.kind == "image" for unit in one.units])
    assert hidden.sum() == 4, "a unit a patch"
    shown, without = (
        [float(scorer.scores(mask[None])[0]) for scorer in (one, other)] for mask in (one.none_hidden, hidden)
    )
    assert shown[0] != pytest.approx(shown[1], abs=1e-3), "else the picture makes no difference"
    assert without[0] == pytest.approx(without[1], abs=1e-5)


def test_many_masks_score_as_each_does_alone(engine, monkeypatch):
    from plait.explain import scorer as scoring

    world = engine.world
    scorer = Scorer(
        engine, question(world, world.part("audio", 2), text("say it in German")), said(world.part("image", 4))
    )
    masks = np.random.default_rng(0).random((7, len(scorer.units))) < 0.5
    monkeypatch.setattr(scoring, "TOKENS_A_BATCH", 3 * len(scorer.row))
    together = scorer.scores(masks)
    alone = np.concatenate([scorer.scores(mask[None]) for mask in masks])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(set(alone.round(5))) > 3


def test_the_noise_of_a_target_is_drawn_once(engine):
    world = engine.world
    scorer = Scorer(engine, question(world, text("draw seven")), said(world.part("image", 4)))
    again = Scorer(engine, question(world, text("draw seven")), said(world.part("image", 4)))
    other = Scorer(engine, question(world, text("draw seven")), said(world.part("image", 4)), seed=1)
    scores = [float(one.scores(one.none_hidden[None])[0]) for one in (scorer, again, other)]
    assert scores[0] == scores[1] != scores[2]


def test_tokens_of_a_drawing_are_targets_of_their_own(engine):
    world = engine.world
    picture = world.part("image", 4)
    tokens = len(world.modalities["image"].read(picture).blocks[0].tokens)
    asked = question(world, text("draw seven"))
    whole = Scorer(engine, asked, said(picture))
    each = [Scorer(engine, asked, said(picture), Target(0, n, n + 1)) for n in range(tokens)]
    scores = [float(one.scores(one.none_hidden[None])[0]) for one in each]
    assert float(whole.scores(whole.none_hidden[None])[0]) == pytest.approx(np.mean(scores), abs=1e-4)
    assert len(set(np.round(scores, 5))) == tokens


def test_what_comes_after_a_target_is_no_unit(engine):
    """Of words written before a token, and of blocks said before one, it may be told how they mattered."""
    world = engine.world
    scorer = Scorer(engine, question(world, text("what?")), said(text("yes zwei"), world.part("image", 3)), Target(1))
    assert {(unit.message, unit.part) for unit in scorer.units} == {(0, 0), (1, 0)}
    first = Scorer(
        engine, question(world, text("what?")), said(text("yes zwei"), world.part("image", 3)), Target(0, 0, 1)
    )
    assert {(unit.message, unit.part) for unit in first.units} == {(0, 0)}


def test_words_are_units_and_a_long_sound_has_not_too_many():
    world = World()
    engine = Engine(world.model())
    sound = Part("audio", (np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1, 16_000))
    scorer = Scorer(engine, question(world, text("say it in German, please"), sound), said(text("yes")))
    words = [
        "".join("say it in German, please"[slice(*map(int, u.region["characters"]))])
        for u in scorer.units
        if u.kind == "text"
    ]
    assert words == ["say", " it", " in", " German", ",", " please"]
    seconds = [unit.region["seconds"] for unit in scorer.units if unit.kind == "audio"]
    assert len(seconds) <= MOST_UNITS
    assert seconds[0][0] == 0
    assert all(one[1] == pytest.approx(other[0]) for one, other in pairwise(seconds))
    tokens = [token for unit in scorer.units for token in unit.tokens]
    assert len(tokens) == len(set(tokens)), "no token belongs to two units"


def test_a_picture_that_is_read_is_read_again_without_a_piece(monkeypatch):
    """A reader looks at all of a picture: its features change, its tokens are not hidden."""
    monkeypatch.setitem(readers.READERS, Columns.name, Columns())
    world = World()
    world.modalities["image"] = registry.build("image", {**SETTINGS["image"], "reader": Columns.name})
    world.vocabulary = Vocabulary(world.modalities)
    engine = Engine(world.model())
    picture = Part("image", np_picture(8).convert("RGB"))
    scorer = Scorer(engine, question(world, picture, text("what?")), said(text("yes")))
    hidden = np.array([unit.piece == 0 and unit.kind == "image" for unit in scorer.units])
    assert hidden.sum() == 1
    row = scorer.row_without(hidden)
    assert (row.copy >= 0).all()
    changed = (row.clean["columns"].inputs != scorer.row.clean["columns"].inputs).any(axis=1)
    assert changed.tolist() == [True, *[False] * 7], "the piece covers a column of pixels and no more"


@pytest.mark.parametrize(
    ("target", "what"), [(Target(3), "part 3"), (Target(0, 5, 9), "tokens 5 to 9"), (Target(0, 2, 1), "tokens 2 to 1")]
)
def test_targets_that_are_not_there_are_refused(engine, target, what):
    with pytest.raises(ConfigError, match=what):
        Scorer(engine, question(engine.world, text("what?")), said(text("yes")), target)


def test_nothing_given_is_nothing_to_explain(engine):
    with pytest.raises(ConfigError, match="hidden"):
        Scorer(engine, question(engine.world, text("")), said(text("yes")))


def test_a_fewer_token_picture_is_hidden_by_pieces():
    world = World()
    engine = Engine(world.model())
    small = Part("image", np_picture(4))
    scorer = Scorer(engine, question(world, small, text("what?")), said(text("yes")))
    pieces = [unit for unit in scorer.units if unit.kind == "image"]
    assert {unit.piece for unit in pieces} == set(range(36))
    assert not any(unit.tokens for unit in pieces)
    hidden = np.array([unit.kind == "image" and unit.piece > 0 for unit in scorer.units])
    row = scorer.row_without(hidden)
    assert (row.copy >= 0).all()
    assert not np.array_equal(row.clean["image"].inputs, scorer.row.clean["image"].inputs)
    assert len(row) == len(scorer.row)
    all_of_it = np.array([unit.kind == "image" for unit in scorer.units])
    row = scorer.row_without(all_of_it)
    assert (row.copy < 0).sum() == 1, "with nothing of it left the picture itself is hidden"


def np_picture(side, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side), np.uint8))


def test_sample_is_not_changed(engine):
    asked = question(engine.world, engine.world.part("image", 2), text("what?"))
    before = Sample(asked)
    scorer = Scorer(engine, asked, said(text("yes")))
    scorer.scores(np.ones((1, len(scorer.units)), bool))
    assert Sample(asked) == before
    assert torch.is_grad_enabled()
