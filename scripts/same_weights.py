"""Which weights of two checkpoints differ, by name, and whether all that differ fit some patterns: the exit code is 1 where others do.

python scripts/same_weights.py BEFORE AFTER --but 'finders.*' 'trunk.layers.*.image_given'
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors import safe_open

from plait.train import checkpoint


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint's own files, as they lie there."""
    tensors = {}
    for file in sorted(checkpoint.locate(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as reader:
            tensors |= {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118  it is no mapping
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--but", nargs="*", default=[], help="patterns of names that may differ")
    options = parser.parse_args()
    before, after = stored(options.before), stored(options.after)
    differing = sorted(
        name
        for name in {*before, *after}
        if name not in before or name not in after or not torch.equal(before[name], after[name])
    )
    others = [name for name in differing if not any(fnmatchcase(name, pattern) for pattern in options.but)]
    print(f"{len(before)} and {len(after)} tensors; {len(differing)} differ, {len(others)} of them beside what may")
    if others:
        sys.exit(", ".join(others[:20]))


if __name__ == "__main__":
    main()
