"""Trains what a bundle holds: python run_bundle.py DIR --minutes 9. Needs no network, and of packages only torch,
numpy, safetensors, tokenizers, Pillow and transformers; the others come along as wheels.

The parts are checked against their hashes, joined and unpacked once. Stages run one after the other; a stage that is done
is not run again, one that was stopped goes on. What moved comes out as safetensors in files of at most 16 MiB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import IO, Any

MIB = 2**20
MANIFEST = "bundle.json"
UNPACKED, SITE, RUNS = "unpacked", "site", "runs"


def joined(folder: Path, manifest: dict[str, Any]) -> Any:
    """The parts as one readable stream. Exits with a message for a part that is missing or damaged."""
    for part in manifest["parts"]:
        file = folder / part["name"]
        if not file.is_file():
            sys.exit(f"{file} is missing; expected all {len(manifest['parts'])} parts of the bundle beside {MANIFEST}")
        with file.open("rb") as stream:
            got = hashlib.file_digest(stream, "sha256").hexdigest()
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


def imported(work: Path) -> Path:
    """The checkpoint that the first stage starts from, made once from the language model that came along."""
    from plait.pretrained import importer
    from plait.train import checkpoint

    base, source = work / "base", work / UNPACKED / "source"
    if not (base / checkpoint.CONFIG).is_file():
        files = sorted(source.iterdir())
        model = importer.to_model(importer.read(files[0] if len(files) == 1 else source))
        checkpoint.save(base, model, model.state_dict(), {"name": "base"})
    return base


def train(work: Path, stages: list[dict[str, Any]], args: argparse.Namespace, begin: float) -> Path:
    """Run the stages within the time; returns the run of the last one that was begun."""
    from plait.recipes.overrides import override
    from plait.recipes.recipe import Recipe
    from plait.train import checkpoint
    from plait.train.run import prepare
    from plait.train.run import train as train_recipe

    root = work / UNPACKED
    base = imported(work)
    last = work / RUNS
    for settings in stages:
        name = settings["name"]
        if args.only and name != args.only:
            continue
        recipe = Recipe(**{**settings, "data": str(root / "data"), "features": str(work / "features")})
        init = base if recipe.init == "base" else work / RUNS / recipe.init
        overrides = [entry for entry in args.set if not entry.startswith("@") or entry.startswith(f"@{name}.")]
        recipe = override(
            recipe, [f"init={init}", *(entry.split(".", 1)[1] if entry[0] == "@" else entry for entry in overrides)]
        )
        run = work / RUNS / (args.run or name)
        steps = checkpoint.steps_of(run)
        last = run
        if steps and (checkpoint.read_counters(steps[-1]) or {}).get("step", 0) >= recipe.steps:
            continue
        left = 60 * args.minutes - (time.monotonic() - begin)
        if left <= 0:
            print(f"no time left before {name}; run again to go on", flush=True)
            break
        prepare(run, resume=bool(steps), overwrite=False)
        train_recipe(recipe, run, resume=bool(steps), prepared=True, max_seconds=left - args.reserve)
    return last


def collect(run: Path, out: Path, megabytes: float) -> None:
    """What moved in a run, averaged, in bfloat16: safetensors of at most `megabytes` MiB, and what describes them."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    from plait.train import checkpoint

    folder = checkpoint.locate(run)
    config = checkpoint.read_config(folder)
    patterns = config["recipe"]["trainable"]
    from fnmatch import fnmatchcase

    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(folder / checkpoint.WEIGHTS)
    keep = ("flows.*.axes", "flows.*.variance", "flows.*.mean", *patterns)
    moved = {
        n: t.to(torch.bfloat16) if t.ndim > 1 else t for n, t in weights.items() if any(fnmatchcase(n, p) for p in keep)
    }
    shards: list[dict[str, Any]] = [{}]
    size = 0.0
    for name, tensor in sorted(moved.items()):
        bytes_of = tensor.numel() * tensor.element_size()
        if size + bytes_of > (megabytes - 0.25) * MIB:
            shards.append({})
            size = 0.0
        shards[-1][name] = tensor.contiguous()
        size += bytes_of
    for number, shard in enumerate(shards):
        save_file(shard, out / f"moved-{number:02d}.safetensors")
    for file in (folder / "config.json", run / "train.json", run / "train.log", folder / "train_state.json"):
        if file.is_file():
            shutil.copy(file, out / file.name)
    print(
        f"{len(moved)} tensors, {sum(t.numel() for t in moved.values()) / 1e6:.1f} M numbers in {len(shards)} files at {out}"
    )


def main() -> None:
    """Parse the arguments, unpack, train, collect."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the parts and bundle.json lie")
    parser.add_argument("--minutes", type=float, default=1e9, help="that all may take together")
    parser.add_argument("--reserve", type=float, default=20.0, help="seconds of them for saving and collecting")
    parser.add_argument("--work", type=Path, help="folder for what is unpacked and trained; DIR/work if not given")
    parser.add_argument("--out", type=Path, help="folder for what moved; WORK/out if not given")
    parser.add_argument("--only", default="", help="the one stage to run")
    parser.add_argument("--run", default="", help="name of the run's folder, if it is not the stage's")
    parser.add_argument("--set", action="append", default=[], help="key=value, or @STAGE.key=value for one stage")
    parser.add_argument("--shard-mib", type=float, default=16.0)
    args = parser.parse_args()
    work = (args.work or args.folder / "work").resolve()
    manifest = unpack(args.folder, work)
    sys.path[:0] = [str(work / UNPACKED), str(work / SITE)]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    os.environ["PLAIT_SOURCES"] = str(work / UNPACKED / "weights")
    print(f"unpacked after {time.monotonic() - begin:.0f} s", flush=True)
    run = train(work, manifest["stages"], args, begin)
    if (run / "checkpoints").is_dir():
        collect(run, args.out or work / "out", args.shard_mib)
    print(f"done after {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
