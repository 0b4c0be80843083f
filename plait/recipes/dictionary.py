"""The picture dictionary: drawings, photographs, human speech and many languages, in every cell of the grid.

plait data build dictionary && plait train dictionary && plait eval runs/dictionary
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from plait.contract import Modality, Sample
from plait.corpus import build as corpus
from plait.corpus.collect import archives_of, collect_all
from plait.data import sources
from plait.data.loader import PackConfig
from plait.data.sequence import FlowConfig
from plait.data.sources import fetch
from plait.errors import ConfigError, DataError
from plait.eval.suite import FolderRows, Suite
from plait.files import MANIFEST, manifest_of, write_whole
from plait.recipe import Recipe, Sampling
from plait.tasks.boxes import move
from plait.tasks.dictionary import TASKS
from plait.train.optim import OptimConfig

SOURCES = (
    "emoji", "stamps", "openclipart", "clothes", "maps", "bccd", "prompts", "voices", "music", "scripture", "declaration",
    "interface", "conversations", "quiz", "glosses", "medquad", "letters", "nouns",
)  # fmt: skip
EVERY = {"clothes": 6}  # 70,000 photographs would outweigh all drawings
FORMAT = 10

RECIPE = Recipe(
    name="dictionary",
    data="data/dictionary",
    modalities={
        "text": {"vocab_size": 16384, "careless": 0.1},
        "image": {
            "patch": 32, "channels": 3, "max_patches": 4, "mean": 0.6, "std": 0.55, "crop": 0.15, "colour": 0.15, "erase": 0.08,
        },
        "audio": {"frames": 8, "block": 8, "max_seconds": 8.0, "noise": 0.3, "room": 0.3},
    },
    flow=FlowConfig(time_mean=-3.2, time_std=1.3),
    pack=PackConfig(length=320, sequences=13),
    optim=OptimConfig(lr=0.005, fall=1.0, wide_share=0.03),
    weights={  # a row with pictures takes a fifth of the tokens of one with sound or verses
        "name": 14.0, "caption": 1.5, "category": 2.5, "clothes": 1.5, "colour": 1.0, "count": 3.5, "where": 2.5, "detect": 5.0,
        "blood": 0.3,
        "draw": 12.0, "restyle": 6.0, "tone": 3.0, "translate-name": 3.0, "translate": 1.2, "written-language": 0.2,
        "answer": 0.3, "chat": 0.3, "define": 0.4, "medical": 1.0, "say": 2.0, "say-picture": 0.8, "transcribe": 2.5,
        "translate-speech": 0.7, "speaker": 0.25, "spoken-language": 0.5, "sound": 0.15, "draw-heard": 0.8, "respeak": 0.7,
    },
    vary=dict.fromkeys(("count", "where", "colour", "speaker", "blood"), 0.5)
    | dict.fromkeys(
        ("draw", "say", "translate-name", "translate", "written-language", "answer", "chat", "define", "medical"), 0.3
    )
    | dict.fromkeys(("name", "caption", "category", "clothes", "detect"), 0.3)
    | dict.fromkeys(("spoken-language", "sound", "translate-speech"), 0.7)
    | {"transcribe": 0.5},
    loss_weights={"image": 6.0, "audio": 2.0},  # what context can still save of them is a fraction of a unit, of text several
    principal=384,
    steps=4800,
    sampling=Sampling(max_tokens=240),
)  # fmt: skip

STILL = {"move": 0.0, "crop": 0.0, "erase": 0.0}  # all stays where it is; only the light changes
# Where a variation would change the answer, it is off for the task.
VARY_WITH: dict[str, dict[str, dict[str, Any]]] = {
    "name": {"image": {"colour": 0.0, "erase": 0.0}},  # tones of skin, hands of a clock
    "clothes": {"image": {"flip": True}},  # names of drawings tell left from right
    "count": {"image": STILL},
    "where": {"image": STILL},
    "blood": {"image": STILL},
    "colour": {"image": {"colour": 0.0, "erase": 0.0, "crop": 0.0, "flip": True}},
    "speaker": {"audio": {"pitch": 0}},
}
SIDED = re.compile(r"\b(left|right)(wards?)?\b|o[’']clock|thirty|clockwise")


def boxes_moved(sample: Sample, rng: np.random.Generator) -> Sample:
    """Picture and boxes moved, and mirrored where the name of what is asked for does not tell left from right or an hour."""
    return move(sample, rng, flip=not SIDED.search(str(sample.meta.get("label", "")).casefold()))


ALTER = {"detect": boxes_moved}


def build(folder: Path, say: Callable[[str], None] = print, names: Sequence[str] = SOURCES) -> dict[str, Any]:
    """Fetch, collect, split and pack; returns the manifest, which is also written there. What is complete is kept.

    `names` are the sources to take. One that cannot be had is said, noted in the manifest, and the rest goes on. Raises
    ConfigError for an unknown one, DataError when none can be had, when a split leaks, or when the folder holds something
    else, be it data of other sources.
    """
    unknown = sorted(set(names) - set(SOURCES))
    if unknown:
        raise ConfigError(f"got source {', '.join(unknown)}; expected sources of this recipe: {', '.join(SOURCES)}")
    names = [name for name in SOURCES if name in set(names)]
    manifest = manifest_of(folder)
    if manifest.get("recipe") == RECIPE.name and manifest.get("format") == FORMAT:
        if manifest["asked"] != names:
            raise DataError(
                f"{folder} was built of {', '.join(manifest['asked'])}; got {', '.join(names)}: choose another --folder for "
                "it, or remove that one"
            )
        if not _found(manifest["missing"], say) and not _changed(manifest["archives"], say):
            return manifest
    collected = folder / "collected"
    if folder.exists() and not collected.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} holds something that is not of this recipe; choose an empty folder for the data")
    for old in [*folder.glob("*.jsonl"), *folder.glob("train-*.tar*"), folder / MANIFEST]:
        old.unlink(missing_ok=True)
    shutil.rmtree(folder / "composites", ignore_errors=True)
    collected.mkdir(parents=True, exist_ok=True)
    here, missing = fetch.several([sources.module(name).SOURCE for name in names], fetch.places(), say)
    if not here:
        raise DataError(f"no source of {', '.join(names)} can be had: {'; '.join(missing.values())}")
    unpacked = {one.name: fetch.places() / one.name for one in here}
    counts, failed = collect_all(unpacked, collected.resolve(), say, EVERY)
    say("grouping, splitting")
    made = corpus.split(corpus.load(counts, collected.resolve()))
    corpus.add_composites(made, folder.resolve() / "composites")
    say("rows")
    written = corpus.write(made, folder, say)
    facts = {name: corpus.read_facts(fetch.places(), name) for name in counts}
    manifest = {
        "recipe": RECIPE.name,
        "format": FORMAT,
        "asked": names,
        "sources": corpus.manifest_sources(facts, counts),
        "missing": sorted(missing),
        "archives": {name: archives_of(place) for name, place in unpacked.items()},
        "notes": [f"{name} left out: {why}" for name, why in (missing | failed).items()]
        + [f"{n}: {w}" for n, w in written["few"].items()],
        "counts": {place: len(groups) for place, groups in made.splits.items()},
        "joined": made.joined,
        "tasks": written["tasks"],
        "files": written["files"],
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def _found(missing: Sequence[str], say: Callable[[str], None]) -> bool:
    """Whether one of the sources that a build did without can be had by now."""
    if not missing:
        return False
    here, _ = fetch.several([sources.module(name).SOURCE for name in missing], fetch.places(), say)
    say(f"{', '.join(one.name for one in here)}: there by now, so all is built anew" if here else "still without those")
    return bool(here)


def _changed(archives: Mapping[str, str], say: Callable[[str], None]) -> bool:
    """Whether sources that a build was made of, or that failed in it, have been fetched anew from other archives since."""
    now = {name: archives_of(fetch.places() / name) for name in archives}
    others = [name for name, was in archives.items() if now[name] not in ("", was)]
    if others:
        say(f"{', '.join(others)}: fetched from other archives since, so all is built anew")
    return bool(others)


def suite(folder: Path, known: Mapping[str, Modality]) -> Suite:
    """What `plait eval` measures on the data in `folder`."""
    from plait.eval.plain import black, mean_and_spread_of_mel, pixels, silence

    return Suite(
        tasks=[
            task for task in TASKS if any((folder / f"{task.name}.{split}.jsonl").is_file() for split in task.splits)
        ],
        rows=FolderRows(folder, known),
        judges={},
        judges_at=folder / "judges",
        blank={"image": black, "audio": silence},
        in_words=lambda attribute, label: str(label),
        features={"image": partial(pixels, channels=3), "audio": mean_and_spread_of_mel},
        cascade=True,
    )
