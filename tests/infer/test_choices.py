"""Answers from a closed list: always one of it, chosen token by token as if nothing else could be said."""

import numpy as np
import pytest
import static_loop
import torch
from worlds import World, text

from plait.contract import Message
from plait.errors import ConfigError
from plait.infer.choices import Choices
from plait.infer.engine import Engine
from plait.infer.request import Request

WORLD = World()
LIST = ("draw", "draw seven", "yes", "zwei", "四")


def asking(choices=LIST, **settings):
    return Request((Message("user", (text("what is this?"),)),), to="text", choices=choices, **settings)


def said(answer):
    return answer.message.parts[0].value


def test_an_answer_is_one_of_the_list():
    model = WORLD.model()
    found = set()
    for seed in range(12):
        with torch.no_grad():
            model.categorical["text"].logits.bias.normal_(std=4.0, generator=torch.Generator().manual_seed(seed))
        (answer,) = Engine(model).generate([asking()])
        assert answer.reason == "stop"
        found.add(said(answer))
    assert found <= set(LIST)
    assert len(found) > 2, "they are not always the same"


def test_the_engine_goes_the_way_of_its_slow_twin():
    model = WORLD.model().eval()
    (answer,) = Engine(model).generate([asking()])
    slow = static_loop.answer(model, WORLD.encoder, asking())
    assert [b.tokens.tolist() for b in answer.segments[0].blocks] == [
        b.tokens.tolist() for b in slow.segments[0].blocks
    ]


def test_a_text_that_begins_another_may_end_or_go_on():
    modality, vocabulary = WORLD.modalities["text"], WORLD.vocabulary
    choices = Choices(modality, ("draw", "draw seven"), vocabulary.offsets["text"], vocabulary.end)
    for token in modality.read(text("draw")).blocks[0].tokens:
        choices.take(int(token) + vocabulary.offsets["text"])
    legal = choices.legal().tolist()
    assert vocabulary.end in legal
    assert len(legal) == 2


def test_beside_others_a_choice_is_what_it_is_alone():
    engine = Engine(WORLD.model())
    requests = [asking(), asking(choices=("yes", "no")), Request(asking().messages, to="text", max_tokens=4)]
    together = engine.generate(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = Engine(WORLD.model()).generate([request])
        assert np.array_equal(alone.segments[0].blocks[0].tokens, answer.segments[0].blocks[0].tokens)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"choices": "yes"}, "expected texts"),
        ({"choices": ("yes", "")}, "not empty"),
        ({"choices": ("a",), "to": None}, "to='text'"),
    ],
)
def test_impossible_choices_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        Request(**{"messages": asking().messages, "to": "text", **settings})
