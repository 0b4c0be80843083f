"""The picture dictionary: drawings, photographs, human speech and many languages, in every cell of the grid.

plait data build dictionary && plait train dictionary && plait eval runs/dictionary
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.contract import Modality
from plait.data import sources
from plait.data.augment import AugmentConfig
from plait.data.corpus import build as corpus
from plait.data.corpus.collect import archives_of, gather
from plait.data.loader import PackConfig
from plait.data.sequence import FlowConfig
from plait.data.sources import fetch
from plait.errors import ConfigError, DataError
from plait.eval.suites import FolderRows, Suite
from plait.recipes.recipe import Recipe, Sampling
from plait.runtime.files import MANIFEST, atomic_write, manifest_of
from plait.tasks.dictionary import TASKS
from plait.train.optim import OptimConfig

SOURCES = (
    "emoji", "stamps", "openclipart", "clothes", "maps", "bccd", "prompts", "voices", "music", "scripture", "declaration",
    "interface", "conversations", "quiz", "glosses", "medquad", "letters", "nouns",
)  # fmt: skip
TAKE_EVERY = {"clothes": 6}  # one in six: all photographs would outweigh the drawings
FORMAT = 10

STILL = {"move": 0.0, "crop": 0.0, "erase": 0.0}  # nothing moves or disappears; only the light changes
AUGMENT = {
    task: AugmentConfig(share=0.3)
    for task in (
        "draw", "say", "translate-name", "translate", "written-language", "answer", "chat", "define", "medical", "caption",
        "category",
    )
} | {  # variations that would change the answer are off for the task
    "name": AugmentConfig(share=0.3, modalities={"image": {"colour": 0.0, "erase": 0.0}}),  # tones of skin, a clock's hands
    "clothes": AugmentConfig(share=0.3, modalities={"image": {"flip": True}}),  # names of drawings tell left from right
    "detect": AugmentConfig(share=0.3, transform="boxes.move_and_mirror"),
    "count": AugmentConfig(share=0.5, modalities={"image": STILL}),
    "where": AugmentConfig(share=0.5, modalities={"image": STILL}),
    "blood": AugmentConfig(share=0.5, modalities={"image": STILL}),
    "colour": AugmentConfig(
        share=0.5, modalities={"image": {"colour": 0.0, "erase": 0.0, "crop": 0.0, "flip": True}}
    ),
    "speaker": AugmentConfig(share=0.5, modalities={"audio": {"pitch": 0}}),
    "transcribe": AugmentConfig(share=0.5),
    "spoken-language": AugmentConfig(share=0.7),
    "sound": AugmentConfig(share=0.7),
    "translate-speech": AugmentConfig(share=0.7),
}  # fmt: skip

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
    optim=OptimConfig(lr=0.005, decay_fraction=1.0, flow_lr_scale=0.03),
    weights={  # a row with pictures has a fifth of the tokens of one with sound or verses
        "name": 14.0, "caption": 1.5, "category": 2.5, "clothes": 1.5, "colour": 1.0, "count": 3.5, "where": 2.5, "detect": 5.0,
        "blood": 0.3,
        "draw": 12.0, "restyle": 6.0, "tone": 3.0, "translate-name": 3.0, "translate": 1.2, "written-language": 0.2,
        "answer": 0.3, "chat": 0.3, "define": 0.4, "medical": 1.0, "say": 2.0, "say-picture": 0.8, "transcribe": 2.5,
        "translate-speech": 0.7, "speaker": 0.25, "spoken-language": 0.5, "sound": 0.15, "draw-heard": 0.8, "respeak": 0.7,
    },
    augment=AUGMENT,
    loss_weights={"image": 6.0, "audio": 2.0},  # context lowers these losses by a fraction of a unit, that of text by several
    pca=384,
    steps=4800,
    sampling=Sampling(max_tokens=240),
)  # fmt: skip


def build(folder: Path, say: Callable[[str], None] = print, names: Sequence[str] = SOURCES) -> dict[str, Any]:
    """Fetch, collect, split and pack the data; returns the manifest, which it also writes to `folder`. Keeps a complete build.

    `names` are the sources to take. Reports each that is unavailable through `say`, notes it in the manifest and skips it.
    Raises ConfigError for an unknown source, DataError when none is available, when a split leaks, or when the folder
    holds anything else, such as data of other sources.
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
        if not _any_available(manifest["missing"], say) and not _any_changed(manifest["archives"], say):
            return manifest
    gathered = gather(folder, names, say, TAKE_EVERY)
    counts = gathered.counts
    say("grouping, splitting")
    dataset = corpus.split(corpus.load(counts, gathered.folder))
    corpus.add_composites(dataset, folder.resolve() / "composites")
    say("rows")
    written = corpus.write(dataset, folder, say)
    facts = {name: corpus.read_facts(fetch.places(), name) for name in counts}
    manifest = {
        "recipe": RECIPE.name,
        "format": FORMAT,
        "asked": names,
        "sources": corpus.manifest_sources(facts, counts),
        "missing": sorted(gathered.missing),
        "archives": {name: archives_of(path) for name, path in gathered.unpacked.items()},
        "notes": gathered.notes + [f"{n}: {w}" for n, w in written["few"].items()],
        "counts": {split: len(groups) for split, groups in dataset.splits.items()},
        "joined": dataset.joined,
        "tasks": written["tasks"],
        "files": written["files"],
    }
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def _any_available(missing: Sequence[str], say: Callable[[str], None]) -> bool:
    """Whether a source that was unavailable to a build can be fetched now."""
    if not missing:
        return False
    available, _ = fetch.several([sources.module(name).SOURCE for name in missing], fetch.places(), say)
    names = ", ".join(source.name for source in available)
    say(f"{names}: there by now, so all is built anew" if available else "still without those")
    return bool(available)


def _any_changed(archives: Mapping[str, str], say: Callable[[str], None]) -> bool:
    """Whether a source of a build, used or failed in it, has been fetched from other archives since."""
    current = {name: archives_of(fetch.places() / name) for name in archives}
    changed = [name for name, before in archives.items() if current[name] not in ("", before)]
    if changed:
        say(f"{', '.join(changed)}: fetched from other archives since, so all is built anew")
    return bool(changed)


def suite(folder: Path, modalities: Mapping[str, Modality]) -> Suite:
    """The evaluation of `plait eval` on the data in `folder`."""
    return Suite(
        tasks=[
            task for task in TASKS if any((folder / f"{task.name}.{split}.jsonl").is_file() for split in task.splits)
        ],
        rows=FolderRows(folder, modalities),
        judges={},
        judges_at=folder / "judges",
        in_words=lambda attribute, label: str(label),
        cascade=True,
    )
