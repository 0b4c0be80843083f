"""What `plait doctor` measures and foretells."""

import re

import torch
from typer.testing import CliRunner

from plait import api, recipes
from plait.cli import app
from plait.recipes.overrides import override
from plait.train import forecast as forecasts
from plait.train.forecast import forecast

SMALL = [
    "trunk.dim=32",
    "trunk.num_layers=1",
    "trunk.num_heads=2",
    "pack.length=64",
    "pack.sequences=2",
    "dtype=float32",
]


def recipe(*overrides):
    return override(recipes.load("digits"), [*SMALL, "steps=600", *overrides])


def test_the_minutes_are_those_of_the_steps():
    measured = forecast(recipe())
    assert (measured.dtype, measured.threads) == (torch.float32, torch.get_num_threads())
    assert min(measured.gflops, measured.seconds_a_step) > 0
    assert measured.minutes == forecasts.WHOLE_OVER_TRUNK * measured.seconds_a_step * 600 / 60


def test_doctor_says_so(monkeypatch):
    measured = forecasts.Forecast(torch.bfloat16, 2, 2335.2, 0.4, 12.34)
    monkeypatch.setattr(api, "forecast", lambda name, threads: measured)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    said = (
        "speed: 2,335 GFLOP/s in products of bfloat16 matrices on 2 threads; the demo would train for about 12 minutes"
    )
    assert said in result.output
    assert "speed:" not in CliRunner().invoke(app, ["doctor", "--no-speed"]).output


def test_doctor_measures(monkeypatch):
    small = recipe()
    monkeypatch.setattr(api, "settings", lambda name: small)
    result = CliRunner().invoke(app, ["doctor", "--threads", "1"])
    assert re.search(r"speed: [\d,]+ GFLOP/s in products of float32 matrices on 1 threads", result.output), (
        result.output
    )
