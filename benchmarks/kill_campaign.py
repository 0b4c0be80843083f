"""Kill a training many times, with SIGKILL, at random moments and during saves.

Checks each time that the checkpoints on disk load, and that the resumed run ends bit-exactly like an undisturbed one.

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
    """The command that starts the run in `out`, or resumes it if the folder exists."""
    resume = ["--resume"] if out.exists() else []
    base = [sys.executable, "-m", "plait", "train", "digits", f"data={data}", *SETTINGS]
    return [*base, "--out", str(out), "--threads", "1", *resume]


def fingerprint(out: Path) -> str:
    """Hash of the last checkpoint: EMA weights, raw weights, optimizer state, and counters other than seconds."""
    folder = checkpoint.steps_of(out)[-1]
    counters = json.loads((folder / checkpoint.STATE_JSON).read_text())
    counters.pop("seconds")
    digest = hashlib.sha256(json.dumps(counters, sort_keys=True).encode())
    for file in (checkpoint.WEIGHTS, checkpoint.STATE_TENSORS):
        for name, tensor in sorted(load_file(folder / file).items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def kill_when(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> bool:
    """Kill the process once `condition` holds; False if it ended before."""
    while process.poll() is None and not condition():
        time.sleep(0.0005)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def start_and_kill(data: Path, out: Path, rng: random.Random) -> tuple[str, bool]:
    """Start or resume the run and kill it: during a save, some time after its first new checkpoint, or during start-up.

    Returns the kind of moment, and whether the kill came before the run ended.
    """
    kind = rng.choice(["in a save", "in a save", "at random", "at random", "at start"])
    if kind == "in a save":
        checkpoint.sweep(out)  # leftovers, so that a partial checkpoint is new; otherwise the run sweeps
    process = subprocess.Popen(command(data, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if kind == "in a save":
        delay = rng.uniform(0.0, 0.02)
        save_times: list[float] = []

        def condition() -> bool:
            if not save_times and any(out.glob("checkpoints/*.partial")):
                save_times.append(time.monotonic())
            return bool(save_times) and time.monotonic() - save_times[0] >= delay
    else:
        last_before, delay = checkpoint.steps_of(out)[-1:], rng.uniform(0.0, 1.0)
        start_times: list[float] = [time.monotonic()] if kind == "at start" else []
        delay = rng.uniform(0.0, 6.0) if kind == "at start" else delay

        def condition() -> bool:
            if not start_times and checkpoint.steps_of(out)[-1:] != last_before:
                start_times.append(time.monotonic())
            return bool(start_times) and time.monotonic() - start_times[0] >= delay

    return kind, kill_when(process, condition)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--data", type=Path, default=Path("data/digits"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    start_time = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference"
        subprocess.run(command(arguments.data, reference), check=True, capture_output=True)
        expected = fingerprint(reference)
        kills: dict[str, int] = {}
        partial, runs, wrong = 0, 0, 0
        while sum(kills.values()) < arguments.kills:
            runs += 1
            out = Path(folder) / f"run-{runs}"
            for _ in range(rng.randint(2, 6)):
                kind, was_killed = start_and_kill(arguments.data, out, rng)
                kills[kind] = kills.get(kind, 0) + was_killed
                partial += bool(list(out.glob("checkpoints/*.partial")))
                for step in checkpoint.steps_of(out):
                    checkpoint.load(step)  # raises for an incomplete checkpoint
                if checkpoint.steps_of(out) and checkpoint.steps_of(out)[-1].name == checkpoint.STEP_NAME.format(STEPS):
                    break
            finished = subprocess.run(command(arguments.data, out), capture_output=True, text=True, check=False)
            is_exact = finished.returncode == 0 and fingerprint(out) == expected
            wrong += not is_exact
            print(
                f"run {runs}: {'bit-exact' if is_exact else 'DIFFERENT ' + finished.stderr[-500:]}; kills so far {kills}",
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
    print(
        json.dumps({"benchmark": "kill_campaign", **facts, "minutes": round((time.monotonic() - start_time) / 60, 1)})
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
