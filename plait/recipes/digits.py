"""The grid in minutes: handwritten digits, spoken number words, number words to 99.

    plait demo            (build, train, evaluate, report)

1,500 steps, on two cores; the last fifth of them hides some of what is given, so that explanations may (docs/explaining.md). What three
seeds reach on held-out data, cell by cell, is in docs/results.md, which scripts/readme_numbers.py writes from docs/demo.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from plait.contract import Message, Modality, Part, Sample
from plait.data.loader import PackConfig
from plait.data.rows import dump_row
from plait.data.sequence import FlowConfig
from plait.data.sources import espeak, handwriting, prompts
from plait.errors import DataError, MissingError
from plait.eval.suites import Cycle, FolderRows, Suite
from plait.recipes.recipe import Recipe
from plait.runtime.files import MANIFEST, atomic_write
from plait.tasks.digits import BY_NAME, DIGITS, LANGUAGES, SPOKEN_AS, TASKS, VOICES, Clip, Picture, Pool, word
from plait.tasks.task import Item
from plait.train.optim import OptimConfig

ROWS_A_TASK = 12_000
ROWS_A_TEST = 500
ROWS_A_DEV = 200  # for choosing settings; the report does not use them
PICTURE_SHARES = {"test": 0.2, "judge": 0.2, "dev": 0.04}  # the rest trains the model
DISTORTED_COPIES = 2  # of each training picture
SETTINGS = {"train": 12, "judge": 6, "test": 4, "dev": 2}  # (rate, pitch) settings a voice
FORMAT = 2

RECIPE = Recipe(
    name="digits",
    data="data/digits",
    modalities={
        "text": {"vocab_size": 768},
        "image": {"patch": 28, "channels": 1, "max_patches": 1},
        "audio": {"frames": 8, "block": 8, "max_seconds": 4.0},
    },
    flow=FlowConfig(time_mean=-1.8, time_std=1.1, mask_prob=0.05, mask_from=0.8),
    pack=PackConfig(length=192, sequences=21),
    optim=OptimConfig(lr=0.005, decay_fraction=1.0),
    weights={
        "translate": 1.0,
        "sum": 0.2,
        "draw": 0.8,
        "say": 1.6,
        "read": 0.5,
        "next": 1.6,
        "say-picture": 1.8,
        "hear-digit": 0.3,
        "hear-language": 0.2,
        "hear-speaker": 0.15,
        "draw-heard": 1.6,
        "change-voice": 1.5,
        "change-language": 1.6,
        "step": 2.6,
        "name-next": 0.2,
        "name-step": 0.5,
        "same": 1.3,
        "larger": 0.3,
    },
    steps=1500,
)


def _pictures(folder: Path, notes: list[str], manifest: dict[str, Any]) -> dict[str, list[Picture]]:
    """Write PNG files, by split: stratified by digit, fixed seed. Test and judge pictures never train the model."""
    data = handwriting.load(folder / "cache", notes)
    manifest["sources"].append({"what": "handwritten digits", "from": data.source, "licence": data.licence})
    pictures: dict[str, list[Picture]] = {split: [] for split in SETTINGS}
    rng = np.random.default_rng([2026, 20])
    ends = dict(zip(PICTURE_SHARES, np.cumsum(list(PICTURE_SHARES.values())), strict=True))
    for digit in DIGITS:
        order = rng.permutation(np.flatnonzero(data.labels == digit))
        for number, index in enumerate(order):
            position = number / len(order)
            split = next((name for name, end in ends.items() if position < end), "train")
            name = f"media/{split}/picture-{digit}-{index}.png"
            Image.fromarray(data.images[index]).save(folder / name)
            pictures[split].append(Picture(name, digit))
    return pictures


def _distort(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Rotate, scale, shear and shift a picture a little about its centre, as another hand might have written it."""
    turn, slant = rng.normal(0.0, 0.12), rng.normal(0.0, 0.12)
    width_scale, height_scale = rng.normal(1.0, 0.08, 2)
    centre = (np.array(picture.size) - 1) / 2
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ [[width_scale, slant], [0.0, height_scale]]
    shift = centre - matrix @ centre + rng.normal(0.0, 0.04, 2) * picture.size
    coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
    return picture.transform(picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)


def _distorted_copies(folder: Path, pictures: Iterable[Picture]) -> list[Picture]:
    """Write distorted copies of the training pictures, as inputs only; pictures to draw stay as scanned."""
    rng = np.random.default_rng([2026, 24])
    copies = []
    for picture in pictures:
        with Image.open(folder / picture.path) as original:
            for number in range(DISTORTED_COPIES):
                name = picture.path.replace(".png", f"-{number}.png")
                _distort(original, rng).save(folder / name)
                copies.append(Picture(name, picture.digit))
    return copies


def _clips(folder: Path, manifest: dict[str, Any]) -> dict[str, list[Clip]]:
    """Write FLAC files, by split: every digit, language and voice at the (rate, pitch) settings of the split."""
    rng = np.random.default_rng([2026, 21])
    clips: dict[str, list[Clip]] = {split: [] for split in SETTINGS}
    settings = {}
    with espeak.Espeak() as speaker:
        for voice in VOICES:
            pairs = [(int(r), int(p)) for r in range(140, 211, 5) for p in range(45, 56)]  # pitch 50 +- 10 %
            order = iter(rng.permutation(len(pairs)))
            for split, count in SETTINGS.items():
                for number in range(count):
                    rate, pitch = pairs[next(order)]
                    settings[f"{split}/{voice}/{number}"] = [rate, pitch]
                    for language, spoken_as in SPOKEN_AS.items():
                        for digit in DIGITS:
                            name = f"media/{split}/clip-{language}-{digit}-{voice}-{rate}-{pitch}.flac"
                            samples = speaker.say(word(digit, language), f"{spoken_as}+{voice}", rate, pitch)
                            soundfile.write(folder / name, samples, espeak.RATE)
                            clips[split].append(Clip(name, digit, language, voice))
    manifest["settings"] = settings
    manifest["sources"].append({"what": "synthetic speech", "from": "espeak-ng", "licence": espeak.LICENCE})
    return clips


def _recorded_clips(folder: Path, manifest: dict[str, Any]) -> list[Clip]:
    """Write recorded number words for the reality check; none, and a note in `manifest`, where they are unavailable."""
    clips = []
    try:
        for language in sorted(LANGUAGES.keys() & prompts.LANGUAGES):
            for digit, samples in prompts.digits(language, folder / "cache").items():
                name = f"media/recorded/{language}-{digit}.flac"
                soundfile.write(folder / name, samples, prompts.RATE)
                clips.append(Clip(name, digit, language, ""))
    except (DataError, MissingError) as error:
        manifest["notes"].append(f"recorded number words left out: {error}")
        return []
    source = {"what": "recorded number words, tested on only", "from": "Debian asterisk-core-sounds-*-g722"}
    manifest["sources"].append({**source, "licence": prompts.SOURCE.licence})
    return clips


def _reality_check(clips: Iterable[Clip]) -> dict[str, list[Sample]]:
    """Rows of the reality check, by task: which digit, and which language, is this?"""
    rows: dict[str, list[Sample]] = {"hear-digit": [], "hear-language": []}
    for clip in clips:
        slots = {"audio": Part("audio", clip.path)}
        labels = {"digit": word(clip.digit, "en"), "language": LANGUAGES[clip.language]}
        for name, attribute in (("hear-digit", "digit"), ("hear-language", "language")):
            task = BY_NAME[name]
            item = Item(slots, Part("text", labels[attribute]), {attribute: labels[attribute]})
            rows[name].append(task.sample(task.phrasings[0], item))
    return rows


def _write(path: Path, samples: Iterable[Sample]) -> dict[str, Any]:
    """Write a JSONL file; returns its number of rows and sha256 for the manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [dump_row(sample) for sample in samples]
    text = "\n".join(lines) + "\n"
    path.write_text(text, encoding="utf-8")
    return {"rows": len(lines), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _labelled_documents(media: Iterable[Picture | Clip]) -> Iterable[Sample]:
    """Yield a document with its labels for each medium, for judges, ceilings and baselines."""
    for item in media:
        if isinstance(item, Picture):
            part = Part("image", item.path)
            labels: dict[str, Any] = {"digit": item.digit}
        else:
            part = Part("audio", item.path)
            labels = {"digit": item.digit, "language": item.language, "speaker": item.voice}
        yield Sample((Message("user", (part,)),), "labelled", {"labels": labels})


def build(folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Fetch pictures, synthesise speech, split, and write rows to `folder`; returns the manifest, which it also writes there.

    Keeps a complete build; builds an incomplete one anew. Raises DataError where the folder holds anything else,
    MissingError without espeak-ng.
    """
    manifest: dict[str, Any] = {}
    if (folder / MANIFEST).is_file():
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("format") == FORMAT:
            return manifest
    is_own_folder = (folder / "cache").is_dir() or (folder / MANIFEST).is_file()
    if not is_own_folder and folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} holds something that is not of this recipe; choose an empty folder for the data")
    shutil.rmtree(folder / "media", ignore_errors=True)
    shutil.rmtree(folder / "judges", ignore_errors=True)  # they were fitted to the removed media
    for rows in manifest.get("files", {}):  # they name the removed media
        (folder / rows).unlink(missing_ok=True)
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    for split in (*SETTINGS, "recorded"):
        (folder / "media" / split).mkdir(parents=True)
    manifest = {"format": FORMAT, "sources": [], "notes": [], "files": {}}
    say("pictures")
    pictures = _pictures(folder, manifest["notes"], manifest)
    say("speech")
    clips = _clips(folder, manifest)
    say("rows")
    files = manifest["files"]
    rng = np.random.default_rng([2026, 22])
    pool = Pool(pictures["train"], clips["train"], "train", rng, _distorted_copies(folder, pictures["train"]))
    files["train.jsonl"] = _write(
        folder / "train.jsonl",
        (task.sample(pool.pick(task.trained_phrasings), task.make(pool)) for task in TASKS for _ in range(ROWS_A_TASK)),
    )
    for number, task in enumerate(TASKS):
        for split in (*task.splits, "dev"):
            media = "dev" if split == "dev" else "test"
            held_out_pool = Pool(pictures[media], clips[media], split, np.random.default_rng([2026, 23, number]))
            phrasings = [task.held_out_phrasing] if split == "phrasing" else task.trained_phrasings
            count = ROWS_A_DEV if split == "dev" else ROWS_A_TEST
            name = f"{task.name}.{split}.jsonl"
            samples = (task.sample(held_out_pool.pick(phrasings), task.make(held_out_pool)) for _ in range(count))
            files[name] = _write(folder / name, samples)
    for name, recorded in _reality_check(_recorded_clips(folder, manifest)).items():
        if recorded:
            files[f"{name}.recorded.jsonl"] = _write(folder / f"{name}.recorded.jsonl", recorded)
    for split in SETTINGS:
        files[f"labelled-{split}.jsonl"] = _write(
            folder / f"labelled-{split}.jsonl", _labelled_documents([*pictures[split], *clips[split]])
        )
    manifest["languages"] = LANGUAGES
    manifest["counts"] = {split: {"pictures": len(pictures[split]), "clips": len(clips[split])} for split in SETTINGS}
    # last, because the manifest marks the build as complete
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def _judges() -> dict[str, Callable[[], Any]]:
    from plait.eval.judges import Judge
    from plait.modalities.audio.judge import sound_view
    from plait.modalities.image.judge import picture_view

    classes_of_speech: dict[str, list[Any]] = {
        "digit": list(DIGITS),
        "language": list(LANGUAGES),
        "speaker": list(VOICES),
    }
    return {
        "image": lambda: Judge({"digit": list(DIGITS)}, picture_view()),
        "audio": lambda: Judge(classes_of_speech, sound_view()),
    }


def _in_words(attribute: str, label: Any) -> str:
    """A label in the words of the model's answers."""
    if attribute == "digit":
        return word(int(label), "en")
    return LANGUAGES.get(label, str(label))


def suite(folder: Path, modalities: Mapping[str, Modality]) -> Suite:
    """The evaluation of `plait eval` on the data in `folder`."""
    return Suite(
        tasks=TASKS,
        rows=FolderRows(folder, modalities),
        judges=_judges(),
        judges_at=folder / "judges",
        in_words=_in_words,
        cycles=(
            Cycle("text->image->text", "draw", "read", "digit"),
            Cycle("text->audio->text", "say", "hear-digit", "digit"),
            Cycle("text->audio->text", "say", "hear-language", "language"),
            Cycle("text->audio->text", "say", "hear-speaker", "speaker"),
        ),
    )
