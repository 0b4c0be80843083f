"""An interrupted and resumed run ends bit by bit where a straight one does: in bfloat16, in micro-batches, with augmentation, of
part of the weights, and in two processes under torchrun."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from interrupted import STOPS_AT, leaving, straight_and_resumed
from safetensors.torch import load_file
from tiny_rows import config, write_rows

from plait.errors import ConfigError
from plait.train import checkpoint, trainer
from plait.train import run as runs

KINDS = ("text", "image")
AUGMENT = {
    "text": {
        "share": 0.7,
        "modalities": {
            "text": {"careless": 0.5},
            "audio": {"noise": 0.5, "room": 0.5},
            "image": {"erase": 0.2, "flip": True},
        },
    },
    "image": {"share": 0.5, "modalities": {"text": {"careless": 1.0}}},
}
SETTINGS = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "micro": {"pack": {"length": 96, "sequences": 3, "micro": 1}},
    "augment": {"augment": AUGMENT},
    "part": {"trainable": ("flows.*", "trunk.layers.1.*"), "tied": ("text",)},
    "all": {
        "dtype": "bfloat16", "augment": AUGMENT, "pack": {"length": 96, "sequences": 3, "micro": 2}, "pca": 3,
        "flow": {"copies": 2, "context_noise_prob": 1.0}, "optim": {"name": "adamw", "warmup": 1, "flow_lr_scale": 0.2},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("resume") / "data", KINDS)


def last(run: Path) -> Path:
    folder = checkpoint.steps_of(run)[-1]
    assert folder.name == checkpoint.STEP_NAME.format(8)
    return folder


def state_of(run: Path) -> dict[str, torch.Tensor]:
    """Averages, weights and states of optimizers at the end of a run."""
    files = [load_file(last(run) / name) for name in (checkpoint.WEIGHTS, checkpoint.STATE_TENSORS)]
    assert all(files)
    return files[0] | files[1]


def counters_of(run: Path) -> dict:
    counters = checkpoint.read_counters(last(run))
    assert counters.pop("seconds") > 0
    return counters


def assert_ended_alike(folder: Path) -> None:
    straight, resumed = folder / "straight", folder / "resumed"
    some, others = state_of(straight), state_of(resumed)
    assert set(some) == set(others)
    assert [name for name in some if some[name].dtype != others[name].dtype] == []
    assert [name for name in some if not torch.equal(some[name], others[name])] == []
    assert counters_of(straight) == counters_of(resumed)
    logs = [(run / "train.log").read_text() for run in (straight, resumed)]
    assert "resumed at step 3" in logs[1]
    losses = [losses_of(log) for log in logs]
    assert losses[0] == losses[1]
    assert sorted(losses[0]) == list(range(1, 9))


def losses_of(log: str) -> dict[int, dict[str, float]]:
    """Of every step; a step that was taken twice counts as it was taken last."""
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {entry["step"]: {key: value for key, value in entry.items() if "loss" in key} for entry in entries}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_ends_where_a_straight_one_does(name, data, tmp_path):
    straight_and_resumed(config(data, KINDS, save_every=3, **SETTINGS[name]), tmp_path)
    assert_ended_alike(tmp_path)
    if name in ("augment", "bfloat16"):  # the setting does something at all
        runs.train(config(data, KINDS, save_every=3), tmp_path / "usual", threads=1)
        usual, changed = state_of(tmp_path / "usual"), state_of(tmp_path / "straight")
        assert any(not torch.equal(usual[name], changed[name]) for name in usual)


def test_rows_that_waited_are_drawn_again(data, tmp_path):
    """What was drawn and found no place is in the saved state, or the test above would resume with none of them."""
    settings = config(data, KINDS, save_every=3)
    runs.train(settings, tmp_path / "run", threads=1)
    assert counters_of(tmp_path / "run")["loader"]["waiting"]


def test_two_processes_resume_as_one(tmp_path):
    """Under torchrun, with sound too, in bfloat16, micro-batches and with augmentation."""
    kinds = (*KINDS, "audio")
    settings = config(
        write_rows(tmp_path / "data", kinds), kinds, save_every=3, dtype="bfloat16", augment=AUGMENT,
        pack={"length": 96, "sequences": 4, "micro": 1},
    )  # fmt: skip
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("interrupted.py")
    done = subprocess.run(
        [*starter, str(script), settings.model_dump_json(), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "threads in each of 2 processes" in (tmp_path / "resumed/train.log").read_text()
    assert_ended_alike(tmp_path)


def test_the_interruption_leaves_no_later_checkpoint(data, tmp_path, monkeypatch):
    """Or the runs above resume from where they were, and nothing is tested."""
    monkeypatch.setattr(trainer, "one_step", leaving)
    with pytest.raises(SystemExit):
        runs.train(config(data, KINDS, save_every=3), tmp_path / "run", threads=1)
    (only,) = checkpoint.steps_of(tmp_path / "run")
    assert int(only.name[-8:]) == 3 < STOPS_AT


@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": "bfloat16"}, {"augment": AUGMENT}, {"trainable": ("trunk.*",)}, {"tied": ("text",)},
        {"pack": {"length": 96, "sequences": 2, "micro": 1}}, {"seed": 1}, {"loss_weights": {"text": 2.0}},
    ],
)  # fmt: skip
def test_a_run_is_not_resumed_with_other_settings(changed, data, tmp_path):
    runs.train(config(data, KINDS, steps=1), tmp_path / "run", threads=1)
    with pytest.raises(ConfigError, match=f"other settings of {next(iter(changed))}"):
        runs.train(config(data, KINDS, steps=1, **changed), tmp_path / "run", threads=1, resume=True)


def test_how_often_it_saves_and_logs_may_change(data, tmp_path):
    run = tmp_path / "run"
    runs.train(config(data, KINDS, steps=2), run, threads=1)
    folder = runs.train(config(data, KINDS, steps=2, save_every=1, log_every=7), run, threads=1, resume=True)
    assert folder == checkpoint.steps_of(run)[-1]
    assert checkpoint.read_counters(folder)["step"] == 2
