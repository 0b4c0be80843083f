"""Two processes with four sequences each give the losses and gradients of one process with eight."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from plait.data.loader import Loader, PackConfig
from plait.train import trainer
from plait.train.objectives.pretrain import Pretrain


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
    losses = trainer.accumulate(model, loader.next_step(), Pretrain(), {})
    assert losses == pytest.approx(together["losses"], rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together["gradients"][name], parameter.grad, atol=2e-5, rtol=1e-3)


def test_torchrun_gives_the_losses_of_one_process(small_digits, tmp_path):
    """The real command under torchrun, two CPU processes, against the same command alone."""
    settings = [
        "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", "steps=8", "log_every=1", "pack.sequences=4", "dtype=float32",
        "optim.warmup=2", "--threads", "1",
    ]  # fmt: skip
    command = ["-m", "plait", "train", "digits", f"data={small_digits}", *settings]
    starters = {
        "alone": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }
    losses = {}
    for name, starter in starters.items():
        out = tmp_path / name
        done = subprocess.run([*starter, *command, "--out", str(out)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        entries = [json.loads(line) for line in (out / "train.log").read_text().splitlines() if line.startswith("{")]
        assert [entry["step"] for entry in entries] == list(range(1, 9)), "two processes wrote"
        losses[name] = [value for entry in entries for key, value in sorted(entry.items()) if key.startswith("loss/")]
        assert len(list((out / "checkpoints").iterdir())) == 1
    assert losses["two"] == pytest.approx(losses["alone"], rel=2e-3, abs=2e-4)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed under /proc on Linux only")
def test_no_thread_outlives_the_group(tmp_path):
    """An optimizer made inside must not keep the group: gloo's threads would meet the interpreter's end."""
    script = tmp_path / "leave.py"
    script.write_text(
        "import torch\n"
        "from pathlib import Path\n"
        "from plait.train import distributed\n"
        "def threads():\n"
        "    return [name.read_text().strip() for name in Path('/proc/self/task').glob('*/comm')]\n"
        "with distributed.joined() as (rank, _):\n"
        "    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])\n"
        "    distributed.any_rank(False)\n"
        "    assert any('gloo' in name for name in threads()), threads()\n"
        f"Path(r'{tmp_path}', str(rank)).write_text(' '.join(threads()))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in "01":
        assert "gloo" not in (tmp_path / rank).read_text()
