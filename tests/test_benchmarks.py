"""The benchmarks run with the package as it is now; their numbers are measured elsewhere."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

from plait.data.vocabulary import Vocabulary
from plait.modalities.text import Text
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig

ROOT = Path(__file__).parents[1]
SHARED = {"side_by_side", "held_out"}  # what several of them use
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in SHARED)
HELP = """
import importlib, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    sys.argv = [name, "--help"]
    try:
        module.main()
    except SystemExit as end:
        assert end.code == 0, name
    else:
        raise AssertionError(f"{name} ran instead of printing its help")
"""


def test_every_benchmark_prints_its_help():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    finished = subprocess.run(
        [sys.executable, "-c", HELP, *BENCHMARKS], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("usage: ") == len(BENCHMARKS) > 5


def test_look_ups_multiply_nothing(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("text_against_gpt2")
    vocabulary = Vocabulary({"text": Text(300)})
    config = TrunkConfig(dim=32, num_layers=1, num_heads=2)
    model = MultimodalTransformer(config, vocabulary)
    in_trunk = sum(p.numel() for p in model.trunk.parameters())
    in_heads = sum((config.dim + 1) * size for size in vocabulary.tables.values())
    assert benchmark.multiplied_weights(model) == in_trunk + in_heads
