"""The wheel, installed into an empty environment, is the whole program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(
    not os.environ.get("CI"), reason="installs torch once more: in continuous integration (CI=true) only"
)
def test_the_wheel_is_enough(tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("plait-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env/bin/python"
    pins = tmp_path / "pins.txt"  # the versions that the tests ran with, torch's own build included
    pins.write_text((ROOT / "requirements.lock").read_text())
    run(python, "-m", "pip", "install", "--quiet", "--constraint", pins, wheel)
    elsewhere = {"cwd": tmp_path}
    assert "train" in run(tmp_path / "env/bin/plait", "--help", **elsewhere)
    assert "torch" in run(tmp_path / "env/bin/plait", "doctor", **elsewhere)
    code = "import plait.recipes as r; print(r.module('digits').TASKS[0].name, r.names())"
    assert "translate" in run(python, "-c", code, **elsewhere)
    listed = run(
        python,
        "-c",
        "import plait.eval, pathlib; print(*pathlib.Path(plait.eval.__file__).parent.rglob('*.html'))",
        **elsewhere,
    )
    assert "report.html" in listed
