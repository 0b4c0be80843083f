"""Trains what a bundle holds: python run_bundle.py DIR --minutes 9. Needs no network, and of packages only torch,
numpy, safetensors, tokenizers, Pillow and transformers; the others come along as wheels.

The parts are checked against their hashes, joined and unpacked once. A training that was stopped goes on. The checkpoint comes
out in bfloat16, in files of at most 16 MiB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import IO, Any

MIB = 2**20
MANIFEST = "bundle.json"
INIT, WEIGHTS = "init.plait", "weights"
UNPACKED, SITE, RUNS = "unpacked", "site", "runs"


def joined(folder: Path, manifest: dict[str, Any]) -> Any:
    """The parts as one readable stream. Exits with a message for a part that is missing or damaged."""
    for part in manifest["parts"]:
        file = folder / part["name"]
        if not file.is_file():
            sys.exit(f"{file} is missing; expected all {len(manifest['parts'])} parts of the bundle beside {MANIFEST}")
        got = hashlib.sha256(file.read_bytes()).hexdigest()
        if got != part["sha256"]:
            sys.exit(f"{file} has sha256 {got[:12]}; expected {part['sha256'][:12]}: copy it again")
    return Joined([folder / part["name"] for part in manifest["parts"]])


class Joined:
    """Files read one after the other."""

    def __init__(self, files: list[Path]) -> None:
        self.files = list(files)
        self.stream: IO[bytes] | None = None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        found = b""
        while len(found) < size and (self.stream or self.files):
            if self.stream is None:
                self.stream = self.files.pop(0).open("rb")
            piece = self.stream.read(size - len(found))
            if piece:
                found += piece
            else:
                self.stream.close()
                self.stream = None
        return found


def unpack(folder: Path, work: Path) -> dict[str, Any]:
    """Check and unpack the bundle into `work`, once; install its wheels there. Returns the manifest."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version != manifest["python"]:
        sys.exit(
            f"this is Python {version}; the bundle was made for {manifest['python']}: plait bundle --python {version}"
        )
    done = work / "unpacked.json"
    if not done.is_file() or json.loads(done.read_text()) != manifest:
        work.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=joined(folder, manifest), mode="r|gz") as tar:
            tar.extractall(work / UNPACKED, filter="data")
        wheels = sorted(str(wheel) for wheel in (work / UNPACKED / "wheels").glob("*.whl"))
        if wheels:
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
            subprocess.run([*command, "--upgrade", "--target", str(work / SITE), *wheels], check=True)
        done.write_text(json.dumps(manifest))
    return manifest


def train(work: Path, settings: dict[str, Any], args: argparse.Namespace, begin: float) -> Path:
    """Train the recipe, or go on with it, within the time; returns its run folder."""
    from plait.recipes.overrides import override
    from plait.recipes.recipe import Recipe
    from plait.train.checkpoint import STAGES
    from plait.train.run import train as train_recipe

    root = work / UNPACKED
    changes = {"data": str(root / "data"), "features": str(work / "features")}
    if (root / INIT).is_file():
        changes["init"] = str(root / INIT)
    recipe = override(Recipe(**settings | changes), args.set)
    run = work / RUNS / (args.run or recipe.name)
    seconds = 60 * args.minutes - (time.monotonic() - begin) - args.reserve
    begun = (run / "checkpoints").is_dir() or (run / STAGES).is_dir()
    if seconds <= 0:
        print(f"no time left to train {recipe.name}; run again to go on", flush=True)
    else:
        train_recipe(recipe, run, resume=begun, max_seconds=seconds)
    stages = [run / STAGES / name for name in recipe.stages]
    return next((place for place in [run, *reversed(stages)] if (place / "checkpoints").is_dir()), run)


def collect(run: Path, out: Path, megabytes: float) -> None:
    """The newest checkpoint of a run in bfloat16, in files of at most `megabytes` MiB, with the run's log beside it."""
    from plait.train import checkpoint

    shutil.rmtree(out, ignore_errors=True)
    checkpoint.lean(checkpoint.locate(run), out, "bfloat16", megabytes)
    for name in ("train.json", "train.log"):
        if (run / name).is_file():
            shutil.copy(run / name, out / name)
    files = sorted(out.glob("*.safetensors"))
    print(f"{sum(file.stat().st_size for file in files) / MIB:.1f} MiB of weights in {len(files)} files at {out}")


def main() -> None:
    """Parse the arguments, unpack, train, collect."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the parts and bundle.json lie")
    parser.add_argument("--minutes", type=float, default=1e9, help="that all may take together")
    parser.add_argument("--reserve", type=float, default=20.0, help="seconds of them for saving and collecting")
    parser.add_argument("--work", type=Path, help="folder for what is unpacked and trained; DIR/work if not given")
    parser.add_argument("--out", type=Path, help="new folder for the checkpoint; WORK/out if not given")
    parser.add_argument("--run", default="", help="name of the run's folder, if it is not the recipe's")
    parser.add_argument("--set", action="append", default=[], help="key=value, such as stages.align.steps=400")
    parser.add_argument("--shard-mib", type=float, default=16.0)
    args = parser.parse_args()
    work = (args.work or args.folder / "work").resolve()
    manifest = unpack(args.folder, work)
    sys.path[:0] = [str(work / UNPACKED), str(work / SITE)]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    os.environ["PLAIT_SOURCES"] = str(work / UNPACKED / WEIGHTS)
    print(f"unpacked after {time.monotonic() - begin:.0f} s", flush=True)
    run = train(work, manifest["recipe"], args, begin)
    if (run / "checkpoints").is_dir():
        collect(run, args.out or work / "out", args.shard_mib)
    print(f"done after {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
