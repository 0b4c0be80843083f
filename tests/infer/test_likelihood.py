"""Answers to one question share it in a sequence, and are as likely as each is alone."""

import numpy as np
import pytest
from worlds import World, templated, text

from plait.contract import Message
from plait.data.row import lay_out_clean
from plait.infer import likelihood
from plait.infer.engine import Engine
from plait.infer.likelihood import Packed, log_likelihoods, pair_log_likelihoods

ANSWERS = [text("seven"), text("eight"), text("it is seven"), text("s")]


@pytest.fixture(params=[False, True], ids=["marks", "template"])
def engine(request):
    world = templated(World()) if request.param else World()
    engine = Engine(world.model())
    engine.world = world
    return engine


def questions_of(world):
    """Two with a picture that differs in nothing but its pixels, one in words."""
    asked = [(Message("user", (world.part("image", number), text("which?"))),) for number in (2, 3)]
    return [*asked, (Message("user", (text("which?"),)),)]


def test_shared_questions_change_no_likelihood(engine, monkeypatch):
    questions = questions_of(engine.world)
    shared = log_likelihoods(engine, questions, ANSWERS)
    packings = []

    def alone(rows):
        packings.append(len(rows))
        return [Packed([number], 0, len(row)) for number, row in enumerate(rows)]

    monkeypatch.setattr(likelihood, "_packed", alone)
    slow = log_likelihoods(engine, questions, ANSWERS)
    assert packings == [len(questions) * len(ANSWERS)]
    np.testing.assert_allclose(shared, slow, atol=1e-4)
    assert len({tuple(row) for row in slow.round(5)}) == len(questions), "else a question makes no difference"


def test_a_question_lies_once_in_a_sequence_and_others_side_by_side(engine):
    encoder, questions = engine.encoder, questions_of(engine.world)
    pairs = [(question, answer) for question in questions[:2] for answer in ANSWERS] + [(questions[2], ANSWERS[0])]
    rows = [lay_out_clean(encoder.scored(likelihood.Sample(question), answer)) for question, answer in pairs]
    packed = likelihood._packed(rows)
    assert [sequence.rows for sequence in packed] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert [sequence.shared > 0 for sequence in packed] == [True, True, False]
    assert packed[0].length == sum(map(len, rows[:4])) - 3 * packed[0].shared


def test_no_sequence_grows_beyond_its_bound(engine, monkeypatch):
    """What has no room beside the question's other answers begins another sequence with it."""
    monkeypatch.setattr(likelihood, "LONGEST", 30)
    questions = questions_of(engine.world)
    pack, lengths = likelihood._packed, []
    monkeypatch.setattr(likelihood, "_packed", lambda rows: lengths.append(pack(rows)) or lengths[-1])
    bounded = log_likelihoods(engine, questions, ANSWERS)
    assert all(sequence.length <= 30 or len(sequence.rows) == 1 for sequence in lengths[0])
    assert len(lengths[0]) > len(questions)
    monkeypatch.undo()
    np.testing.assert_allclose(bounded, log_likelihoods(engine, questions, ANSWERS), atol=1e-4)


def test_pairs_of_different_questions_keep_their_order(engine):
    questions = questions_of(engine.world)
    pairs = [(question, answer) for answer in ANSWERS for question in questions]
    across = log_likelihoods(engine, questions, ANSWERS)
    np.testing.assert_allclose(pair_log_likelihoods(engine, pairs), across.T.ravel(), atol=1e-4)
