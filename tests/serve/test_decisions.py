"""Calibrated choices, asked by OpenAI's own client where it knows them."""

import base64

import numpy as np
import openai
import pytest
from conftest import small_model

from plait.contract import Message, Part
from plait.infer.likelihood import log_likelihoods

CHOICE = {
    "type": "choice",
    "name": "number",
    "instructions": "Which?",
    "choices": [{"value": "seven"}, {"value": "zwei"}],
}
pytestmark = pytest.mark.skipif(not hasattr(openai.OpenAI, "decisions"), reason="this client is older than decisions")


def decide(client, *questions, given="draw seven", **options):
    return client.decisions.create(model="tiny", input=given, questions=list(questions), extra_body=options)


def test_a_choice_has_the_shares_of_its_likelihoods(client):
    (answer,) = decide(client, CHOICE).answers
    asked = (Message("user", (Part("text", "draw seven"), Part("text", "Which?\nAnswer with one of: seven, zwei."))),)
    scores = log_likelihoods(small_model().engine, [asked], [Part("text", "seven"), Part("text", "zwei")])[0]
    expected = np.exp(scores - np.logaddexp.reduce(scores))
    assert [told.probability for told in answer.probabilities] == pytest.approx(expected, abs=1e-5)
    assert (answer.type, answer.name) == ("choice", "number")
    assert answer.confidence == pytest.approx(expected.max(), abs=1e-5)
    assert answer.choice == ("seven", "zwei")[expected.argmax()]


def test_predicates_and_scores(client):
    levels = [{"label": "low", "description": "nearly none"}, {"label": "middle"}, {"label": "high"}]
    decision = decide(
        client,
        {"type": "predicate", "instructions": "It is a number."},
        {"type": "score", "instructions": "How large?", "levels": levels},
        {"type": "choice", "instructions": "Right?", "choices": [{"value": True}, {"value": False}]},
    )
    predicate, score, choice = decision.answers
    assert 0 < predicate.probability < 1
    assert score.score == pytest.approx(sum(told.value * told.probability for told in score.probabilities))
    assert sum(told.probability for told in score.probabilities) == pytest.approx(1)
    assert isinstance(choice.choice, bool)
    assert decision.usage.input_tokens > 0


def test_a_picture_is_judged_and_what_is_likely_anyway_is_taken_out(client, png):
    image = {"type": "input_image", "image_url": "data:image/png;base64," + base64.b64encode(png).decode()}
    given = [{"role": "user", "content": [image]}]
    (plain,) = decide(client, CHOICE, given=given).answers
    (calibrated,) = decide(client, CHOICE, given=given, calibration="content-free").answers
    assert plain.probabilities != calibrated.probabilities
    (empty,) = decide(client, CHOICE, given=".", calibration="content-free").answers
    assert sum(told.probability for told in empty.probabilities) == pytest.approx(1)


def test_what_is_not_sure_enough_is_refused(client):
    refused, answered = (
        decide(client, CHOICE, {"type": "predicate", "instructions": "x"}, refuse_below=1.0).answers,
        decide(client, CHOICE).answers,
    )
    assert [answer.type for answer in refused] == ["refusal", "refusal"]
    assert refused[0].name == "number"
    assert answered[0].type == "choice"


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ({"type": "choice", "instructions": "x", "choices": [{"value": "a"}]}, "at least 2"),
        ({"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": "a"}]}, "alike"),
        ({"type": "choice", "instructions": "x", "choices": [{"value": "Yes"}, {"value": True}]}, "alike"),
        ({"type": "wish", "instructions": "x"}, "questions[0]"),
        ({"type": "predicate"}, "instructions"),
    ],
)
def test_a_bad_question_is_refused(client, question, word):
    with pytest.raises(openai.BadRequestError) as caught:
        decide(client, question)
    assert word in str(caught.value)
