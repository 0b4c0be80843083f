"""Models that stand on one language model keep it in memory once."""

import dataclasses

import pytest
import torch
from worlds import World

from plait.contract import Message, Part
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model.weights import Base


def standing(sha256="a", dtype=torch.bfloat16):
    """A model whose trunk and table of words are a base's; its other heads are its own."""
    model = World().model(dtype=dtype, tied=("text",))
    of_base = (name for name, _ in model.named_parameters() if name.startswith(("trunk.", "tables.text.")))
    model.base = Base("base", sha256, frozenset(of_base))
    return model.for_inference()


def layers(model):
    return [*model.trunk.modules(), model.categorical["text"]]


def answer(model):
    request = Request((Message("user", (Part("text", "what is this?"),)),), to="text", max_tokens=12)
    return Engine(model).generate([request])[0].message.parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_base_has_is_shared_and_nothing_else(dtype):
    one, two = standing(dtype=dtype), standing(dtype=dtype)
    before = answer(two)
    assert two.share_base(one)
    places = [dict(model.named_parameters()) for model in (one, two)]
    shared = {name for name in places[0] if places[0][name] is places[1][name]}
    assert shared == one.base.tensors
    assert answer(two) == before
    packed = [[id(m.packed) for m in layers(model) if getattr(m, "packed", None) is not None] for model in (one, two)]
    assert packed[0] == packed[1]
    assert bool(packed[0]) == (dtype == torch.bfloat16)


def test_a_tensor_that_moved_in_training_stays_ones_own():
    one, two = standing(), standing()
    moved = min(two.base.tensors)
    two.base = two.base.without([moved])
    assert two.share_base(one)
    assert dict(two.named_parameters())[moved] is not dict(one.named_parameters())[moved]


def test_another_base_or_none_is_not_shared():
    one = standing()
    assert not standing("b").share_base(one)
    alone = standing()
    alone.base = None
    assert not alone.share_base(one)
    assert not one.share_base(alone)
    other = standing()
    other.base = dataclasses.replace(other.base, name="other")
    assert not other.share_base(one)
    assert not standing(dtype=torch.float32).share_base(one)
