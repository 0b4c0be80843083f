"""Collects the entries of a source as files of one kind, with a list of their facts and signatures.

Pictures become PNG of a bounded size on white; sound stays as it is or becomes FLAC. A source is collected whole or not
at all, and only once for the same archives.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from plait.contract import Part
from plait.data import sources
from plait.data.corpus import duplicates
from plait.data.corpus.composites import main_colour
from plait.data.sources import LEFT_OUT, Asset, Entry, Medium, fetch
from plait.data.sources.fetch import FACTS
from plait.errors import DataError, PlaitError
from plait.modalities.audio import Audio
from plait.modalities.audio.measure import waveform
from plait.modalities.audio.mel import RATE, log_mel
from plait.runtime.files import MANIFEST, atomic_write
from plait.runtime.pictures import to_canvas

FORMAT = 2
COLLECTED = "collected"  # in the folder of a build
SIDE = 96  # pixels of the longer side of a drawing: half as many again as the recipe's canvas has
BOXED_SIDE = 320  # of a picture with boxes in it, which are smaller things
LEAST_SECONDS, MOST_SECONDS = 0.1, 8.0
SILENT = 1e-4  # peak
LISTED, DONE = "assets.jsonl", "done.json"


class _LeftOutError(Exception):
    """Something that is not taken, and the reason."""


def _picture(medium: Medium, stem: Path, side: int) -> tuple[Path, str, float]:
    """Writes a picture; returns its path, its signature, and the scale to apply to its boxes."""
    assert not isinstance(medium, tuple), "a picture is no (samples, rate)"
    try:
        file = io.BytesIO(medium) if isinstance(medium, bytes) else medium
        canvas = to_canvas(file if isinstance(file, Image.Image) else Image.open(file), 3)
    except (OSError, PlaitError, Image.DecompressionBombError) as error:
        raise _LeftOutError("a picture that cannot be decoded") from error
    scale = min(1.0, side / max(canvas.size))
    if scale < 1.0:
        size = (max(1, round(canvas.width * scale)), max(1, round(canvas.height * scale)))
        canvas = canvas.resize(size, Image.Resampling.LANCZOS)
    if min(canvas.size) < 8:
        raise _LeftOutError("a picture of less than 8 pixels")
    low, high = zip(*canvas.getextrema(), strict=True)
    if all(b - a < 8 for a, b in zip(low, high, strict=True)):
        raise _LeftOutError("a picture of one colour")
    signature = duplicates.picture_signature(canvas)
    target = stem.with_suffix(".png")
    canvas.save(target, compress_level=4)
    return target, str(signature), scale


def _clip(medium: Medium, stem: Path) -> tuple[Path, str]:
    """Links or writes a clip; returns its path and signature."""
    try:
        samples = waveform(Part(Audio.name, medium))
    except PlaitError as error:
        raise _LeftOutError("sound that is damaged") from error
    if len(samples) > MOST_SECONDS * RATE:
        raise _LeftOutError("sound that is too long")
    if len(samples) < LEAST_SECONDS * RATE or float(np.abs(samples).max()) < SILENT:
        raise _LeftOutError("silence, or sound of less than 0.1 s")
    signature = f"{duplicates.clip_signature(log_mel(samples)):x}"
    if isinstance(medium, Path):
        target = stem.with_suffix(medium.suffix.lower())
        try:
            os.link(medium, target)
        except OSError:  # another file system
            shutil.copyfile(medium, target)
        return target, signature
    assert isinstance(medium, tuple)
    target = stem.with_suffix(".flac")
    soundfile.write(target, *medium)
    return target, signature


def _asset(name: str, number: int, entry: Entry, folder: Path) -> Asset:
    media, signatures, facts = {}, {}, dict(entry.facts)
    for what, medium in entry.media.items():
        stem = folder / f"{number:06d}-{what}"
        if what == "picture":
            path, signature, scale = _picture(medium, stem, BOXED_SIDE if "boxes" in facts else SIDE)
            with Image.open(path) as picture:
                if "boxes" in facts:
                    facts["boxes"] = [{**box, "box": [side * scale for side in box["box"]]} for box in facts["boxes"]]
                    facts["size"] = list(picture.size)
                elif entry.kind == "drawing" and (colour := main_colour(picture)):
                    facts["colour"] = colour
        else:
            path, signature = _clip(medium, stem)
        media[what], signatures[what] = path.name, signature
    return Asset(name, entry.kind, entry.key, media, dict(entry.texts), facts, entry.split, signatures)


def archives_of(unpacked: Path) -> str:
    """One hash of the archives that an unpacked source comes from; empty where they are not recorded."""
    facts = unpacked / FACTS
    return hashlib.sha256(facts.read_bytes()).hexdigest() if facts.is_file() else ""


def collect(name: str, unpacked: Path, folder: Path, every: int = 1) -> dict[str, Any]:
    """Collects every `every`-th entry of the unpacked source `name` into `folder/NAME`; returns its counts.

    Does nothing where the same archives are collected already. Raises DataError.
    """
    target, unfinished = folder / name, folder / f"{name}.partial"
    archives = archives_of(unpacked)
    if (target / DONE).is_file():
        done: dict[str, Any] = json.loads((target / DONE).read_text(encoding="utf-8"))
        if (done["format"], done["every"], done.get("archives")) == (FORMAT, every, archives):
            return done
    for old in (target, unfinished):
        shutil.rmtree(old, ignore_errors=True)
    unfinished.mkdir(parents=True)
    kinds: dict[str, int] = {}
    reasons = []
    with (unfinished / LISTED).open("w", encoding="utf-8") as file:
        for number, entry in enumerate(islice(sources.module(name).entries(unpacked), 0, None, every)):
            if entry.kind == LEFT_OUT:
                reasons.append(entry.key)
                continue
            try:
                asset = _asset(name, number, entry, unfinished)
            except _LeftOutError as error:
                reasons.append(str(error))
                continue
            file.write(json.dumps(asdict(asset), ensure_ascii=False) + "\n")
            kinds[entry.kind] = kinds.get(entry.kind, 0) + 1
    done = {
        "format": FORMAT, "source": name, "every": every, "archives": archives, "items": kinds,
        "left_out": duplicates.tally(reasons),
    }  # fmt: skip
    atomic_write(unfinished / DONE, json.dumps(done, indent=1, ensure_ascii=False))
    unfinished.rename(target)
    return done


def collect_all(
    unpacked: Mapping[str, Path], folder: Path, say: Callable[[str], object], every: Mapping[str, int]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Collects several unpacked sources, a process a core; returns the counts of each, and the errors of those that failed.

    `say` gets a line a source. `every` thins out sources that are larger than they are worth.
    """
    counts: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    with ProcessPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        jobs = {name: pool.submit(collect, name, path, folder, every.get(name, 1)) for name, path in unpacked.items()}
        for name, job in jobs.items():
            try:
                counts[name] = job.result()
            except PlaitError as error:
                failed[name] = str(error)
                say(f"{name}: left out: {error}")
                continue
            left = sum(counts[name]["left_out"].values())
            say(
                f"{name}: {', '.join(f'{number} {kind}' for kind, number in counts[name]['items'].items())}; {left} left out"
            )
    return counts, failed


@dataclass(frozen=True)
class Gathered:
    """The sources of a build: where each is unpacked and what it holds; why others could not be had (`missing`) or read
    (`failed`)."""

    unpacked: Mapping[str, Path]
    counts: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, str]
    failed: Mapping[str, str]
    folder: Path

    @property
    def notes(self) -> list[str]:
        """What was left out, and why."""
        return [f"{name} left out: {why}" for name, why in {**self.missing, **self.failed}.items()]


def gather(folder: Path, names: Sequence[str], say: Callable[[str], object], every: Mapping[str, int]) -> Gathered:
    """Clear what an earlier build wrote into `folder`, then fetch and collect sources there; what is collected is kept.

    Raises DataError when none can be had, or when the folder holds anything that is of no recipe.
    """
    collected = folder / COLLECTED
    if folder.exists() and not collected.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} holds something that is not of this recipe; choose an empty folder for the data")
    for old in [*folder.glob("*.jsonl"), *folder.glob("train-*.tar*"), folder / MANIFEST]:
        old.unlink(missing_ok=True)
    shutil.rmtree(folder / "composites", ignore_errors=True)
    collected.mkdir(parents=True, exist_ok=True)
    available, missing = fetch.several([sources.module(name).SOURCE for name in names], fetch.places(), say)
    if not available:
        raise DataError(f"no source of {', '.join(names)} can be had: {'; '.join(missing.values())}")
    unpacked = {source.name: fetch.places() / source.name for source in available}
    counts, failed = collect_all(unpacked, collected.resolve(), say, every)
    return Gathered(unpacked, counts, missing, failed, collected.resolve())


def assets_of(name: str, folder: Path) -> Iterator[Asset]:
    """The collected assets of a source, with absolute paths. Raises DataError."""
    path = folder / name / LISTED
    if not path.is_file():
        raise DataError(f"{path} is not there; expected the source {name} collected: build the data anew")
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            raw = json.loads(line)
            raw["media"] = {what: str(path.with_name(file)) for what, file in raw["media"].items()}
            yield Asset(**raw)
