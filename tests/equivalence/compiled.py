"""Losses and gradients of a compiled trunk beside the plain one's, with and without layers of some experts' own; run by
test_fast_and_slow.py without its type checks, which torch.compile cannot trace. Prints `ok`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
import torch
from torch._dynamo.utils import counters
from worlds import TINY, World

from plait.data.pack import collate
from plait.train.objectives.pretrain import Pretrain

world = World()
rows = [world.encoder.row(sample, np.random.default_rng(n)) for n, sample in enumerate(world.samples())]
batches = [collate([rows[first : first + 6]], 512, world.vocabulary) for first in (0, 5)]
OWN = {"adapters": {"image_given": 4}, "split": {"image_written": 16, "audio_written": 16}}
SPLIT = TINY.model_copy(update={"num_layers": 4, **OWN})
for config in (TINY, SPLIT):
    plain, compiled = world.model(config), world.model(config)
    compiled.compile_trunk()
    assert compiled.state_dict().keys() == plain.state_dict().keys(), "a checkpoint would have other names"
    counters.clear()
    for batch in batches:
        losses = Pretrain().sums(plain, batch), Pretrain().sums(compiled, batch)
        for group, value in losses[0].items():
            torch.testing.assert_close(losses[1][group], value, atol=1e-4, rtol=1e-4)
        for loss in losses:
            sum(loss.values()).backward()
    for (name, a), b in zip(plain.named_parameters(), compiled.named_parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(b[1].grad, a.grad, atol=1e-3, rtol=1e-2, msg=name)
    graphs = counters["stats"]["unique_graphs"]
    # Layers share them: not one a layer.
    assert graphs < config.num_layers, f"{graphs} graphs for {config.num_layers} layers"
print("ok")
