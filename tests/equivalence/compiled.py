"""Losses and gradients of a compiled trunk beside the plain one's; run by test_fast_and_slow.py without its type checks,
which torch.compile cannot trace. Prints `ok`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
import torch
from worlds import World

from plait.data.pack import collate
from plait.train.objectives.pretrain import Pretrain

world = World()
rows = [world.encoder.row(sample, np.random.default_rng(n)) for n, sample in enumerate(world.samples())]
batch = collate([rows[:6]], 512, world.vocabulary)
plain, compiled = world.model(), world.model()
compiled.compile_trunk()
assert compiled.state_dict().keys() == plain.state_dict().keys(), "a checkpoint would have other names"
losses = Pretrain().sums(plain, batch), Pretrain().sums(compiled, batch)
for group, value in losses[0].items():
    torch.testing.assert_close(losses[1][group], value, atol=1e-4, rtol=1e-4)
for loss in losses:
    sum(loss.values()).backward()
for (name, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
    if a.grad is not None:
        torch.testing.assert_close(b.grad, a.grad, atol=1e-3, rtol=1e-2, msg=name)
print("ok")
