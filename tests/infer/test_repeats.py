"""Answers that go round end, where the request wants it."""

import pytest
import torch
from worlds import World, text

from plait.contract import Message
from plait.errors import ConfigError
from plait.infer.decoder import LOOP, goes_round
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.recipes.recipe import Sampling


@pytest.mark.parametrize(
    ("ids", "ends"),
    [
        ([7] * LOOP, True),
        ([7] * (LOOP - 1), False),
        ([1, 2, 3, *[4, 5] * 8], True),
        ([4, 5] * 7, False),
        ([1, 2, 3, 4, 5] * 4, True),
        ([1, 2, 3, 4, 5] * 3, False),
        ([9, *[1, 2, 3, 4, 5] * 4, 1], True),
        ([*[1, 2, 3, 4, 5] * 3, 1, 2, 3, 4, 6], False),
        ([], False),
    ],
)
def test_what_goes_round(ids, ends):
    assert goes_round(ids, 4) is ends
    assert not goes_round(ids, 0)


def test_an_answer_that_goes_round_ends_and_others_are_as_they_were():
    model = World().model()
    with torch.no_grad():  # it says one id for ever
        for head in model.categorical.values():
            head.logits.weight.zero_()
        model.categorical["text"].logits.bias[70] = 9.0
    engine = Engine(model)
    asked = Request((Message("user", (text("draw seven"),)),), to="text", max_tokens=40)
    endless = engine.generate([asked])[0].segments[0].blocks[0].tokens.tolist()
    ended = engine.generate([Request(asked.messages, to="text", max_tokens=40, repeats=4)])[0]
    ids = ended.segments[0].blocks[0].tokens.tolist()
    assert len(endless) == 40
    assert goes_round(endless, 4), "else this test looks at nothing"
    assert ids == endless[: len(ids)]
    assert LOOP <= len(ids) < 40
    assert ended.reason == "stop"


def test_recipes_end_such_answers_and_requests_alone_do_not():
    assert (Sampling().repeats, Request((Message("user", (text("a"),)),)).repeats) == (4, 0)
    with pytest.raises(ConfigError, match="repeats=1"):
        Request((Message("user", (text("a"),)),), repeats=1)
