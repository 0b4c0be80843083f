"""A frozen encoder of pictures and a frozen language model, fused by a small transformer that draws a new picture.

    plait data build fuse && plait train fuse && plait fuse cat.png "Turn it into line art." --out new.png

The founding example of many a tutorial: ResNet-50 and GPT-2 to 512 numbers, concatenated, through a transformer, decoded into a
picture. Here EfficientNet-Lite0 and SmolLM2 read, each feature becomes a token of 512 numbers, and the decoder is a flow over
patches, trained on pairs of emoji of which one is an edit of the other: another style, another tone of skin. Any reader stands in
their place: `plait import resnet-50/` and `plait import gpt2/ --reader` say their names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plait.contract import Modality
from plait.data.corpus import build as corpus
from plait.data.corpus.collect import gather
from plait.data.loader import PackConfig
from plait.data.sequence import FlowConfig
from plait.data.sources import fetch
from plait.errors import DataError
from plait.eval.suites import FolderRows, Suite
from plait.model.transformer import TrunkConfig
from plait.recipes.recipe import Recipe, Sampling
from plait.runtime.files import MANIFEST, atomic_write, manifest_of
from plait.tasks import dictionary
from plait.train.optim import OptimConfig

SOURCES = ("emoji",)
EDITS = ("restyle", "tone")
TASKS = tuple(task for task in dictionary.TASKS if task.name in EDITS)
FORMAT = 1

RECIPE = Recipe(
    name="fuse",
    data="data/fuse",
    modalities={
        "text": {"vocab_size": 1024, "reader": "smollm2_135m_instruct", "raw": False},
        "image": {
            "patch": 32, "channels": 3, "max_patches": 4, "mean": 0.6, "std": 0.55,
            "reader": "efficientnet_lite0", "raw": False,
        },
    },
    trunk=TrunkConfig(dim=512, num_layers=4, num_heads=8),
    flow=FlowConfig(copies=4, time_mean=-2.6, time_std=1.3),
    pack=PackConfig(length=320, sequences=8),
    optim=OptimConfig(lr=0.005, decay_fraction=1.0, flow_lr_scale=0.03),
    weights={"restyle": 2.0, "tone": 1.0},
    pca=384,
    steps=1000,
    sampling=Sampling(steps=12),
)  # fmt: skip


def build(folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Fetch emoji in several styles and write the pairs; returns the manifest, which it also writes. Keeps a complete build.

    Raises DataError where the emoji cannot be had, when a split leaks, or when the folder holds anything else.
    """
    manifest = manifest_of(folder)
    if manifest.get("recipe") == RECIPE.name and manifest.get("format") == FORMAT:
        return manifest
    gathered = gather(folder, SOURCES, say, {})
    if not gathered.counts:
        raise DataError(f"nothing to learn from can be had: {'; '.join(gathered.notes)}")
    say("grouping, splitting")
    dataset = corpus.split(corpus.load(gathered.counts, gathered.folder))
    say("rows")
    written = corpus.write(dataset, folder, say, TASKS)
    facts = {name: corpus.read_facts(fetch.places(), name) for name in gathered.counts}
    manifest = {
        "recipe": RECIPE.name,
        "format": FORMAT,
        "sources": corpus.manifest_sources(facts, gathered.counts),
        "notes": gathered.notes + [f"{name}: {why}" for name, why in written["few"].items()],
        "counts": {split: len(groups) for split, groups in dataset.splits.items()},
        "tasks": written["tasks"],
        "files": written["files"],
    }
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def suite(folder: Path, modalities: Mapping[str, Modality]) -> Suite:
    """The evaluation of `plait eval` on the data in `folder`."""
    return Suite(
        tasks=list(TASKS),
        rows=FolderRows(folder, modalities),
        judges={},
        judges_at=folder / "judges",
        in_words=lambda attribute, label: str(label),
    )
