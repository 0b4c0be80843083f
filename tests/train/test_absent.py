"""What no row of a step reaches: its gradient stays absent, on several ranks as on one; where another rank has it, zeros stand in."""

import numpy as np
import pytest
import torch
from worlds import World

from plait.data.pack import collate
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.train import trainer
from plait.train.objectives.pretrain import Pretrain

WORLD = World()
IMAGE, AUDIO = "image_written", "audio_written"


def model_of():
    config = TrunkConfig(dim=32, num_layers=1, num_heads=2, hidden=48, split={IMAGE: 16, AUDIO: 16})
    return MultimodalTransformer(config, WORLD.vocabulary, seed=0)


def batch_of(kind):
    samples = [sample for sample in WORLD.samples() if sample.task == f"text->{kind}"]
    return collate([[WORLD.encoder.row(samples[0], np.random.default_rng(3))]], 200, WORLD.vocabulary)


def with_gradient(model):
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_expert_that_a_rank_lacks(monkeypatch, elsewhere):
    """The other rank of two, as this one sees it: it has the audio's expert or it does not."""
    alone = model_of()
    trainer.accumulate(alone, [batch_of("image")], Pretrain(), {})
    assert not any(AUDIO in name for name in with_gradient(alone))
    assert any(IMAGE in name for name in with_gradient(alone))

    model = model_of()
    names = [name for name, _ in model.named_parameters()]

    def summed(tensors):
        for tensor in tensors:
            if tensor.shape == (len(names),) and elsewhere:  # who has a gradient
                tensor += torch.tensor([float(AUDIO in name) for name in names])

    monkeypatch.setattr(trainer, "ranks", lambda: (0, 2))
    monkeypatch.setattr(trainer, "sum_over_ranks", summed)
    trainer.accumulate(model, [batch_of("image")], Pretrain(), {})
    there = with_gradient(model)
    assert {name for name in there if AUDIO not in name} == with_gradient(alone)
    of_audio = {name for name in names if AUDIO in name}
    assert of_audio & there == (of_audio if elsewhere else set())
    assert all(not model.get_parameter(name).grad.any() for name in of_audio & there)
