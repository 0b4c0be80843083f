"""Two processes with four sequences each give the losses and gradients of one process with eight."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from plait.data.loader import Loader, PackConfig
from plait.train import loop


def test_two_ranks_are_one(world, tmp_path):
    script = Path(__file__).with_name("two_ranks.py")
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path / "meeting"), str(tmp_path / "out.pt")],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    together = torch.load(tmp_path / "out.pt", weights_only=True)
    loader = Loader(world.samples(), {}, world.encoder, PackConfig(length=160, sequences=8), 0)
    model = world.model()
    losses = loop.accumulate(model, loader.next_step(), {})
    assert losses == pytest.approx(together["losses"], rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together["gradients"][name], parameter.grad, atol=2e-5, rtol=1e-3)
