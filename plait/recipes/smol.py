"""A small language model that learns to see, hear, draw and speak, and keeps every word it had.

SmolLM2-135M-Instruct is the trunk and stays frozen. Whisper tiny.en and EfficientNet-Lite0, frozen too, read what is given.
First, as stages, a speller learns the letters of what is heard and a projector for each question the answers to what is seen, a finder
to count and to place, a vocoder to write waveforms, and a sketch how letters sound; then adapters of what is given, narrow layers of what is written, embedders and heads.

plait data build smol && plait train smol
plait bundle smol --to bundle && python bundle/run_bundle.py bundle      # on a machine without internet
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from plait.contract import Message, Modality, Sample
from plait.data.augment import AugmentConfig
from plait.data.corpus import build as corpus
from plait.data.corpus import spoken
from plait.data.corpus.collect import gather
from plait.data.loader import PackConfig
from plait.data.sequence import FlowConfig
from plait.data.sources import Asset, fetch
from plait.errors import DataError, PlaitError
from plait.eval.judges import Judge
from plait.eval.metrics.media import CONCEPT
from plait.eval.runner import RECORDED
from plait.eval.suites import FolderRows, Suite
from plait.modalities.image.judge import LARGEST, picture_view
from plait.model.transformer import TrunkConfig
from plait.recipes.recipe import Recipe, Sampling
from plait.recipes.replies import replies
from plait.runtime.files import MANIFEST, atomic_write, manifest_of
from plait.tasks.dictionary.group import Group, hashed
from plait.tasks.smol import TASKS
from plait.tasks.task import REWORDED
from plait.train import bases
from plait.train.optim import OptimConfig

MODALITIES = {
    "text": {},
    "image": {
        "patch": 16, "channels": 3, "max_patches": 16, "mean": 0.6, "std": 0.55, "reader": "efficientnet_lite0", "finder": True,
    },
    "audio": {
        "frames": 8, "block": 8, "max_seconds": 8.0, "reader": "whisper_tiny_en_spelled", "raw": False, "vocoder": 256, "letters": True, "pronounced": True,
    },
}  # fmt: skip
WORDS_OF_READERS = ("spellers.*", "askers.*")  # what tells the words of what is given
SKETCHES = tuple(
    f"embedders.audio.{part}.*" for part in ("sketch", "symbol", "distance")
)  # how letters sound, before the trunk
VARIED = {
    task: AugmentConfig(share=0.75, modalities={"image": {"move": 0.0}})
    for task in (
        "transcribe", "listen", "repeat", "name", "category", "colour", "clothes", "talk", "describe", "say-picture", "draw-heard",
    )
}  # fmt: skip

ALIGN = {
    "trunk": {"adapters": {}, "split": {}, "split_every": {}},
    "trainable": WORDS_OF_READERS,
    "objective": "align",
    "alignment": {"transcribe": "ctc", "name": "match", "colour": "match", "category": "match"},
    "augment": {task: VARIED[task] for task in ("transcribe", "name", "colour", "category")},
    "weights": {"transcribe": 4.0, "name": 2.0, "colour": 0.7, "category": 0.7},
    "optim": {"lr": 1e-3, "warmup": 50, "decay_fraction": 0.7, "lr_scales": {}},
    "loss_weights": {},
    "steps": 1600,
    "ema_decay": 0.99,
}
RECOMPOSED = dict.fromkeys(("count", "where", "detect"), AugmentConfig(share=0.97, transform="composing.recompose"))
FIND = {
    "trunk": {"adapters": {}, "split": {}, "split_every": {}},
    "trainable": ("finders.*",),
    "objective": "align",
    "alignment": {
        "count": "find", "where": "find", "detect": "find", "name": "match", "colour": "match", "category": "match",
    },
    "augment": RECOMPOSED,
    "weights": {"count": 3.5, "where": 2.0, "detect": 4.5, "name": 0.2, "colour": 0.2, "category": 0.2},
    "optim": {"lr": 1.5e-3, "warmup": 50, "decay_fraction": 0.6, "lr_scales": {}},
    "pack": {"length": 512, "sequences": 12},
    "loss_weights": {},
    "variants": 0,
    "steps": 1800,
    "ema_decay": 0.99,
}  # fmt: skip
VOCODER = {
    "trunk": {"adapters": {}, "split": {}, "split_every": {}},
    "trainable": ("codecs.*",),
    "objective": "codec",
    "augment": {},
    "weights": {"say": 1.0, "repeat": 0.2, "say-picture": 0.1, "transcribe": 0.0, "listen": 0.0, "draw-heard": 0.0},
    "optim": {"lr": 1e-3, "betas": (0.8, 0.99), "warmup": 50, "decay_fraction": 0.5, "lr_scales": {}},
    "pack": {"length": 512, "sequences": 6},
    "loss_weights": {},
    "steps": 4000,
    "ema_decay": 0.99,
}
SKETCH = {
    "trunk": {"adapters": {}, "split": {}, "split_every": {}},
    "trainable": SKETCHES,
    "objective": "sketch",
    "flow": {"copies": 1, "null_prob": 0.05},
    "augment": {},
    "weights": {"say": 1.0, "repeat": 0.0, "say-picture": 0.0, "draw-heard": 0.0},
    "optim": {"name": "adamw", "lr": 2e-3, "betas": (0.9, 0.999), "weight_decay": 0.1, "warmup": 100, "lr_scales": {}},
    "pack": {"length": 512, "sequences": 24},
    "loss_weights": {},
    "steps": 5000,
    "ema_decay": 0.99,
}

RECIPE = Recipe(
    name="smol",
    data="data/smol",
    modalities=MODALITIES,
    trunk=TrunkConfig(
        adapters={"image_given": 32, "audio_given": 32}, split={"image_written": 192, "audio_written": 192},
        split_every={"audio_written": 3},
    ),
    init="smollm2-135m-instruct",
    stages={"align": ALIGN, "find": FIND, "vocoder": VOCODER, "sketch": SKETCH},
    trainable=("embedders.*", "flows.*", "tables.marks.*", "categorical.marks.*", "trunk.*.adapters.*", "trunk.experts.*"),
    variants=2,
    flow=FlowConfig(copies=2, time_mean=-2.0, time_std=1.2, mask_prob=0.05),
    pack=PackConfig(length=512, sequences=64),
    # Muon moves layers of what is written; AdamW adapters, marks and projectors at 1e-3, wide maps at 2e-4, the rest at 4e-3.
    optim=OptimConfig(
        name="muon", lr=4e-3, betas=(0.9, 0.98), warmup=100, decay_fraction=0.6, flow_lr_scale=0.05,
        lr_scales=dict.fromkeys(SKETCHES, 0.1) | {f"{place}.*": 0.25 for place in ("*.adapters", "tables.marks", "categorical.marks", "embedders.*_*")},
    ),
    weights={  # what is said without a written word is answered as its words are (docs/adr/0030-sounds-without-words.md)
        "transcribe": 4.0, "speaker": 0.3, "spoken-language": 0.3, "listen": 0.0, "say": 5.0, "repeat": 0.5, "name": 6.0, "category": 1.0, "colour": 1.0, "count": 1.5, "where": 1.0,
        "detect": 1.0, "clothes": 0.7, "talk": 2.0, "describe": 2.0, "draw": 8.0, "restyle": 2.0, "say-picture": 0.7,
        "draw-heard": 1.0,
    },
    augment=VARIED | RECOMPOSED,
    loss_weights={"image": 1.0, "audio": 1.0},
    pca=384,
    steps=4000,
    ema_decay=0.995,
    turns=4,
    sampling=Sampling(max_tokens=240, steps={"audio": 1}, guidance={"audio": 1.0}),  # sound begins at its sketch
)  # fmt: skip

SOURCES = ("emoji", "icons", "openclipart", "clothes", "scripture", "quiz", "glosses", "conversations", "syllables")
PROMPTS = "prompts"  # recordings of people, those in English share-alike: never trained on, the test of real speech
FREE_PROMPTS = ("it", "ru")  # languages of the prompts that are under CC BY 3.0
TAKE_EVERY = {"clothes": 6}
TOGETHER = {"icons": "emoji"}
# Licences of media that weights to be shipped must not learn from.
SHARE_ALIKE = ("CC-BY-SA-4.0", "GPL-3.0-only OR LGPL-3.0-only")
# What two cores are to reach, by task, split and metric.
FLOORS = {
    ("name", "style", "exact match"): 0.45,
    ("name", "test", "right answer of * made likelier by the input: rate"): 0.60,
    ("transcribe", RECORDED, "word error rate"): 0.35,
    ("transcribe", "test", "word error rate"): 0.15,
    ("say", "test", "heard by Whisper tiny.en: word error rate"): 0.40,
    ("colour", "test", "exact match"): 0.92,
    ("count", "test", "exact match"): 0.60,
    ("draw", "test", "depicts it among *, first 10: rate"): 0.30,
    ("detect", "test", "F1 of boxes"): 0.40,
    ("colour", REWORDED, "exact match"): 0.60,
    ("category", REWORDED, "exact match"): 0.60,
}
REPLIED = 0.15  # of spoken sentences, which the language model answers
HOURS = 60.0  # of speech, half of it by Flite: some ninety minutes of two cores
JUDGED = 500  # drawings that a judge is measured on
JUDGE_EPOCHS = 25
FORMAT = 10


def taught(assets: Sequence[Asset]) -> Iterator[Asset]:
    """Assets with their English texts alone, without those that are share-alike and without skin tones, which have the same
    names."""
    for asset in assets:
        licence = asset.facts.get("licence")
        is_free = asset.facts.get("language") in FREE_PROMPTS if asset.source == PROMPTS else licence not in SHARE_ALIKE
        if is_free and not asset.facts.get("tone"):
            yield replace(
                asset,
                source=TOGETHER.get(asset.source, asset.source),
                texts={code: text for code, text in asset.texts.items() if code == "en"},
            )


def recorded(assets: Sequence[Asset]) -> Iterator[Sample]:
    """Rows of real English speech to transcribe: one for each recording that is only tested on."""
    task = next(task for task in TASKS if task.name == "transcribe")
    for asset in assets:
        if asset.source == PROMPTS:
            group = Group(asset.key, [asset], np.random.default_rng(0), seen=False)
            yield from task.samples(group, task.phrasings[:1])


def _why_no_base() -> str:
    """Why the language model that answers cannot be had; empty where it is here. Asks before hours of speech, not after."""
    try:
        with bases.opened(RECIPE.init):
            return ""
    except PlaitError as error:
        return str(error)


def answered(clips: Sequence[Asset], file: Path, say: Callable[[str], None]) -> list[Asset]:
    """Clips, those of questions and some of sentences with the language model's answer to what they say; raises as `replies`
    does."""
    asked = [
        clip.facts.get("words") == "question"
        or (clip.facts.get("words") == "sentence" and hashed(f"reply/{clip.texts['en']}") < REPLIED * 2**64)
        for clip in clips
    ]
    answers = replies(
        RECIPE.init, [clip.texts["en"] for clip, is_asked in zip(clips, asked, strict=True) if is_asked], file, say
    )
    return [
        replace(clip, facts={**clip.facts, "reply": answers[clip.texts["en"]]})
        if is_asked and clip.texts["en"] in answers
        else clip
        for clip, is_asked in zip(clips, asked, strict=True)
    ]


def for_judges(assets: Sequence[Asset], dataset: corpus.Corpus) -> dict[str, list[Sample]]:
    """What a judge of drawings learns from, and is measured on: drawings in styles that the model never draws, and held-out ones
    in styles that it does, each with its concept."""
    drawings = [asset for asset in assets if asset.kind == "drawing" and not asset.facts.get("tone")]
    concept_of = {
        (asset.source, asset.key): name
        for groups in dataset.splits.values()
        for name, members in groups.items()
        for asset in members
    }
    never_drawn = [
        (asset, concept_of[asset.source, asset.key])
        for asset in drawings
        if (asset.facts["style"] == corpus.HELD_OUT_STYLE or asset.facts.get("licence") in SHARE_ALIKE)
        and (asset.source, asset.key) in concept_of
    ]
    concepts = {concept for _, concept in never_drawn}
    tested = [
        (asset, name)
        for name, members in dataset.splits[corpus.TEST].items()
        if name in concepts
        for asset in members
        if asset.kind == "drawing" and asset.facts["style"] != corpus.HELD_OUT_STYLE
    ]
    order = np.random.default_rng([2026, 53]).permutation(len(tested))[:JUDGED]
    chosen = {"judge": never_drawn, corpus.TEST: [tested[index] for index in order]}
    return {
        split: [
            Sample((Message("user", (asset.part("picture"),)),), "labelled", {"labels": {CONCEPT: concept}})
            for asset, concept in pairs
        ]
        for split, pairs in chosen.items()
    }


def build(folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Fetch, collect, split, speak and pack the data; returns the manifest, which it also writes. Keeps a complete build.

    Without Piper there is no speech, and the manifest says so. Raises DataError when no source is available, when a split
    leaks, or when the folder holds anything else.
    """
    manifest = manifest_of(folder)
    if manifest.get("recipe") == RECIPE.name and manifest.get("format") == FORMAT and not manifest["missing"]:
        return manifest
    without_base = _why_no_base()
    gathered = gather(folder, (*SOURCES, PROMPTS), say, TAKE_EVERY)
    missing, notes, counts = dict(gathered.missing), gathered.notes, gathered.counts
    if not set(counts) - {PROMPTS}:
        raise DataError(f"nothing to learn from can be had: {'; '.join(notes)}")
    say("grouping, splitting")
    assets = list(corpus.load(counts, gathered.folder))
    dataset = corpus.split(taught(assets), by_name=True)
    corpus.add_composites(dataset, folder.resolve() / "composites")
    for what, why in _add_speech(dataset, folder, without_base, say).items():
        missing[what] = why
        notes.append(f"no {what}: {why}")
        say(notes[-1])
    say("rows")
    written = corpus.write(dataset, folder, say, TASKS)
    if rows := list(recorded(assets)):
        name = f"transcribe.{RECORDED}.jsonl"
        written["files"][name] = corpus.write_rows(folder / name, rows, folder)
    for split, rows in for_judges(assets, dataset).items():
        name = f"labelled-{split}.jsonl"
        written["files"][name] = corpus.write_rows(folder / name, rows, folder)
    facts = {name: corpus.read_facts(fetch.places(), name) for name in counts}
    manifest = {
        "recipe": RECIPE.name,
        "format": FORMAT,
        "sources": corpus.manifest_sources(facts, counts),
        "missing": sorted(missing),
        "notes": notes + [f"{name}: {why}" for name, why in written["few"].items()],
        "counts": {split: len(groups) for split, groups in dataset.splits.items()},
        "tasks": written["tasks"],
        "files": written["files"],
    }
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def _add_speech(dataset: corpus.Corpus, folder: Path, without_base: str, say: Callable[[str], None]) -> dict[str, str]:
    """Speak texts of the data, and let the language model answer some; returns why what is missing is missing."""
    try:
        clips = spoken.speak(
            spoken.texts_of(dataset.splits),
            folder.resolve() / "spoken",
            fetch.places(),
            HOURS,
            say,
            workers=os.cpu_count() or 1,
        )
    except PlaitError as error:
        return {"spoken": str(error)}
    clips = spoken.without_copies(clips)
    missing = {"replies": without_base} if without_base else {}
    if not without_base:
        clips = answered(clips, folder / "replies.json", say)
    for split, number in Counter(_place(dataset, clip) for clip in clips).items():
        say(f"{split}: {number:,} texts spoken")
    return missing


def _place(dataset: corpus.Corpus, clip: Asset) -> str:
    """Add a clip to the group whose text it speaks; returns the group's split."""
    split = str(clip.facts["split"])
    dataset.splits[split].setdefault(clip.key, []).append(clip)
    return split


def suite(folder: Path, modalities: Mapping[str, Modality]) -> Suite:
    """The evaluation of `plait eval` on the data in `folder`."""
    there = [task for task in TASKS if any((folder / f"{task.name}.{split}.jsonl").is_file() for split in task.splits)]
    rows = FolderRows(folder, modalities)
    _, labels = rows.labelled("judge", "image") if (folder / "labelled-judge.jsonl").is_file() else ([], [])
    concepts = sorted({label[CONCEPT] for label in labels})
    view = picture_view(3, LARGEST, styles=True, epochs=JUDGE_EPOCHS)
    return Suite(
        tasks=there,
        rows=rows,
        judges={"image": partial(Judge, {CONCEPT: concepts}, view)} if concepts else {},
        judges_at=folder / "judges",
        in_words=lambda attribute, label: str(label),
        cascade=True,
        targets=FLOORS,
    )
