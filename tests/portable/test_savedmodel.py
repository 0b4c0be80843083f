"""TensorFlow's SavedModel: in the environment that PLAIT_TENSORFLOW names the Python of (scripts/to_savedmodel.py says how to make one)."""

import os
import subprocess
from pathlib import Path

import pytest
from worlds import TINY, World

from plait.portable import exporter

pytest.importorskip("onnx")
PYTHON = os.environ.get("PLAIT_TENSORFLOW", "")
SCRIPT = Path(__file__).parents[2] / "scripts" / "to_savedmodel.py"


def run(*arguments):
    return subprocess.run(
        [PYTHON, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.skipif(not PYTHON, reason="needs PLAIT_TENSORFLOW")
def test_every_graph_becomes_a_saved_model_that_gives_the_same(tmp_path):
    split = {"num_layers": 3, "adapters": {"image_given": 4}, "split": {"audio_written": 16}}
    folder = exporter.write(World().model(TINY.model_copy(update=split)), tmp_path / "graphs")
    done = run(folder, tmp_path / "saved", "--new", "5", "--kept", "7")  # axes are told by their lengths
    assert done.returncode == 0, done.stderr[-2000:]
    graphs = {path.stem for path in folder.glob("*.onnx")}
    assert {path.parent.name for path in (tmp_path / "saved").rglob("saved_model.pb")} == graphs
    words = [line.split() for line in done.stdout.splitlines()]
    told = {line[0]: float(line[1]) for line in words if len(line) == 2 and line[0] in graphs}
    assert set(told) == graphs
    assert max(told.values()) < 1e-4
    again = run(folder, tmp_path / "saved")
    assert again.returncode == 1
    assert "is there already; expected a new folder" in again.stderr
