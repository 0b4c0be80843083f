"""Further sets of adapters of one expert, and adapters of words."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from worlds import TINY, World

from plait.data.pack import collate
from plait.errors import ConfigError
from plait.model import lora
from plait.model.transformer import TrunkConfig

SETS = {"image_given": 4, "image_given+mine": 2, "audio_given+mine": 3}


def batch_of(world, samples=None):
    rng = np.random.default_rng(0)
    rows = [world.encoder.row(sample, rng) for sample in samples or world.samples()]
    return collate([[row] for row in rows], max(map(len, rows)), world.vocabulary)


def moved(model):
    """The model, whose adapters all add something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".adapters." in name:
                parameter.normal_(std=0.1, generator=generator)
    return model


def hidden(model, batch):
    with torch.no_grad():
        return model.hidden(batch)


@pytest.mark.parametrize("split", [{}, {"image_written": 16}])
def test_two_sets_of_an_expert_are_one_of_their_ranks(split):
    world = World()
    config = TINY.model_copy(update={"adapters": SETS, "split": split})
    model = moved(world.model(config))
    joined = world.model(TINY.model_copy(update={"adapters": {"image_given": 6, "audio_given": 3}, "split": split}))
    weights = model.state_dict()
    for name in joined.state_dict():
        end, _, expert = name.rpartition(".")
        if ".adapters." in name:
            sets = [f"{end}.{one}" for one in sorted(SETS) if lora.expert_of(one) == expert]
            weights[name] = torch.cat([weights.pop(one) for one in sets], dim=0 if end.endswith("down") else 1)
    joined.load_state_dict(weights)
    batch = batch_of(world)
    torch.testing.assert_close(hidden(joined, batch), hidden(model, batch), atol=1e-5, rtol=1e-5)


def test_gates_and_spans_agree_on_several_sets():
    numbers = {"shared": 0, "image_given": 1, "audio_given": 3}
    ranks = {"image_given": 2, "image_given+b": 3, "shared+a": 1}
    expert = torch.tensor([[0, 1, 3, 1, 0]])
    adapters = lora.Adapters(6, 5, ranks)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(5, 6)
    sums = [way(expert, numbers, ranks).add(torch.zeros(5, 5), x, adapters) for way in (lora.spans, lora.gates)]
    torch.testing.assert_close(*sums)
    assert not sums[0][2].any()  # of an expert without a set


def test_adapters_of_words_change_words_and_train():
    world = World()
    model = moved(world.model(TINY.model_copy(update={"adapters": {"shared+mine": 2, "image_given": 2}})))
    batch = batch_of(world)
    bare = world.model(TINY.model_copy(update={"adapters": {"image_given": 2}}))
    bare.load_state_dict({n: t for n, t in model.state_dict().items() if not n.endswith("+mine")})
    words = ((batch.expert == 0) & (batch.row >= 0)).flatten()
    assert (hidden(model, batch) != hidden(bare, batch))[words].any()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("+mine"))
    sum(of.loss.sum() for of in model.token_losses(batch).values()).backward()
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if n.endswith("up.shared+mine"))


@pytest.mark.parametrize("name", ["image_given+a.b", "image_given+", "+mine", "a b"])
def test_a_name_that_no_module_can_have_is_refused(name):
    with pytest.raises(ValidationError, match="expected an expert, or one and a name"):
        TrunkConfig(**TINY.model_dump() | {"adapters": {name: 2}})


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(ValidationError, match="expected one from 1 on"):
        TrunkConfig(**TINY.model_dump() | {"adapters": {"image_given": rank}})


def test_an_unknown_expert_is_refused():
    with pytest.raises(ConfigError, match="video_given"):
        World().model(TINY.model_copy(update={"adapters": {"video_given+mine": 2}}))
