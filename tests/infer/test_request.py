"""Wishes that may be told by modality."""

import pytest
from pydantic import ValidationError

from plait.contract import Message, Part
from plait.errors import ConfigError
from plait.infer.request import GUIDANCE, STEPS, Request
from plait.recipes.recipe import Sampling

ASKED = (Message("user", (Part("text", "Say hello."),)),)


def test_steps_and_guidance_are_one_for_all_or_told_by_modality():
    alike = Request(ASKED, steps=4, guidance=2.0)
    assert [alike.steps_of(name) for name in ("audio", "image")] == [4, 4]
    assert alike.guidance_of("image") == 2.0
    apart = Request(ASKED, steps={"audio": 1}, guidance={"audio": 1.0})
    assert (apart.steps_of("audio"), apart.guidance_of("audio")) == (1, 1.0)
    assert (apart.steps_of("image"), apart.guidance_of("image")) == (STEPS, GUIDANCE)
    assert not apart.guides(["audio"])
    assert apart.guides(["audio", "image"])


@pytest.mark.parametrize("wrong", [{"steps": {"audio": 0}}, {"steps": {"audio": 1.5}}, {"guidance": {"audio": -1.0}}])
def test_what_is_told_of_a_modality_is_checked(wrong):
    with pytest.raises(ConfigError, match="request: "):
        Request(ASKED, **wrong)


def test_a_recipe_may_sample_each_modality_in_its_way():
    assert Sampling(steps={"audio": 1}, guidance={"audio": 1.0}).model_dump()["steps"] == {"audio": 1}
    with pytest.raises(ValidationError):
        Sampling(steps={"audio": 0})
