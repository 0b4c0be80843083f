"""How far a run is, from its newest checkpoint and its log."""

import json

import pytest
from worlds import TINY, World

from plait.errors import CheckpointError
from plait.model.multimodal import MultimodalTransformer
from plait.train import checkpoint
from plait.train.status import POINTS, status_of


def saved(run, state):
    model = MultimodalTransformer(TINY, World().vocabulary)
    recipe = {"name": "mine", "steps": 40}
    checkpoint.save(run / "checkpoints" / "step-00000020", model, model.state_dict(), recipe, state)


def test_steps_time_left_and_curves(tmp_path):
    saved(tmp_path, checkpoint.TrainState({}, {"step": 20, "tokens": 500, "seconds": 120.0}))
    log = ["prepared", *(json.dumps({"step": step, "loss/text": 1 / step, "fill": 0.9}) for step in range(1, 31))]
    (tmp_path / "train.log").write_text("\n".join(log) + "\n")
    status = status_of(tmp_path)
    assert (status["name"], status["step"], status["saved"], status["steps"]) == ("mine", 30, 20, 40)
    assert status["minutes"] == 2.0
    assert status["minutes_left"] == pytest.approx(1.0)
    assert list(status["curves"]) == ["text"]
    assert len(status["curves"]["text"]) == POINTS
    assert status["curves"]["text"][-1] == (30, 1 / 30)


def test_a_checkpoint_without_training_state_is_refused(tmp_path):
    saved(tmp_path, None)
    with pytest.raises(CheckpointError, match="holds no training state"):
        status_of(tmp_path)
