"""Kill -9 a training many times, at random moments and in the middle of saves, and check each time that what is left is
whole and that the resumed run ends bit-exactly where an undisturbed one ends.

    python benchmarks/kill_campaign.py --kills 100 --data data/digits
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

from plait.train import checkpoint

STEPS = 40
SETTINGS = [
    "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", f"steps={STEPS}", "save_every=2", "log_every=5",
    "pack.sequences=2", "dtype=float32", "optim.warmup=5",
]  # fmt: skip


def command(data: Path, out: Path) -> list[str]:
    resume = ["--resume"] if out.exists() else []
    base = [sys.executable, "-m", "plait", "train", "digits", f"data={data}", *SETTINGS]
    return [*base, "--out", str(out), "--threads", "1", *resume]


def image(out: Path) -> str:
    """Hash of weights, averages, optimizer state and counters (without seconds) of the last checkpoint."""
    folder = checkpoint.steps_of(out)[-1]
    counters = json.loads((folder / checkpoint.STATE_JSON).read_text())
    counters.pop("seconds")
    digest = hashlib.sha256(json.dumps(counters, sort_keys=True).encode())
    for file in (checkpoint.WEIGHTS, checkpoint.STATE_TENSORS):
        for name, tensor in sorted(load_file(folder / file).items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def kill_when(process: subprocess.Popen[bytes], due: Callable[[], bool]) -> bool:
    """Kill once `due`; False if the process ended before."""
    while process.poll() is None and not due():
        time.sleep(0.0005)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def one_kill(data: Path, out: Path, source: random.Random) -> tuple[str, bool]:
    """Start or resume, and kill: in a save, or some time after the first new checkpoint, or during start-up."""
    kind = source.choice(["in a save", "in a save", "at random", "at random", "at start"])
    if kind == "in a save":
        checkpoint.sweep(out)  # so that what appears is a new one; other kinds leave this to the run
    process = subprocess.Popen(command(data, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if kind == "in a save":
        delay = source.uniform(0.0, 0.02)
        seen: list[float] = []

        def due() -> bool:
            if not seen and any(out.glob("checkpoints/*.partial")):
                seen.append(time.monotonic())
            return bool(seen) and time.monotonic() - seen[0] >= delay
    else:
        first, wait = checkpoint.steps_of(out)[-1:], source.uniform(0.0, 1.0)
        began: list[float] = [time.monotonic()] if kind == "at start" else []
        wait = source.uniform(0.0, 6.0) if kind == "at start" else wait

        def due() -> bool:
            if not began and checkpoint.steps_of(out)[-1:] != first:
                began.append(time.monotonic())
            return bool(began) and time.monotonic() - began[0] >= wait

    return kind, kill_when(process, due)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--data", type=Path, default=Path("data/digits"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    source = random.Random(given.seed)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        subprocess.run(command(given.data, whole), check=True, capture_output=True)
        expected = image(whole)
        kills: dict[str, int] = {}
        partial, runs, wrong = 0, 0, 0
        while sum(kills.values()) < given.kills:
            runs += 1
            out = Path(folder) / f"run-{runs}"
            for _ in range(source.randint(2, 6)):
                kind, hit = one_kill(given.data, out, source)
                kills[kind] = kills.get(kind, 0) + hit
                partial += bool(list(out.glob("checkpoints/*.partial")))
                for step in checkpoint.steps_of(out):
                    checkpoint.load(step)  # raises for anything that is not whole
                if checkpoint.steps_of(out) and checkpoint.steps_of(out)[-1].name == checkpoint.STEP_NAME.format(STEPS):
                    break
            done = subprocess.run(command(given.data, out), capture_output=True, text=True, check=False)
            same = done.returncode == 0 and image(out) == expected
            wrong += not same
            print(
                f"run {runs}: {'bit-exact' if same else 'DIFFERENT ' + done.stderr[-500:]}; kills so far {kills}",
                flush=True,
            )
            shutil.rmtree(out)
    facts = {
        "kills": sum(kills.values()),
        "by_moment": kills,
        "half_written_left": partial,
        "runs": runs,
        "wrong": wrong,
    }
    print(json.dumps({"benchmark": "kill_campaign", **facts, "minutes": round((time.monotonic() - begin) / 60, 1)}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
