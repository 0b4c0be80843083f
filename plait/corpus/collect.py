"""Entries of sources as files of one kind: pictures as PNG of a bounded size on white, sound as it is or as FLAC, and a list
with what each is and how it looks or sounds. One source is collected at a time, whole or not at all, and only once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from plait.contract import Part
from plait.corpus import quality
from plait.corpus.pictures import main_colour
from plait.data import sources
from plait.data.sources import Asset, Entry, Medium
from plait.errors import DataError, PlaitError
from plait.files import write_whole
from plait.modalities.audio import Audio
from plait.modalities.audio.mel import log_mel
from plait.modalities.image import to_canvas

FORMAT = 1
SIDE = 96  # pixels of the longer side of a drawing: half as many again as the recipe's canvas has
BOXED_SIDE = 320  # of a picture with boxes in it, which are smaller things
MOST_SECONDS = 8.0
LEFT_OUT = "left out"
LISTED, DONE = "assets.jsonl", "done.json"


class _LeftOutError(Exception):
    """A thing that is not taken, and why."""


def _picture(medium: Medium, place: Path, side: int) -> tuple[str, str, float]:
    """Write a picture; its path, its signature, and the scale that its boxes need."""
    try:
        opened = medium if isinstance(medium, Image.Image) else Image.open(medium) if isinstance(medium, Path) else None
        if opened is None:
            raise _LeftOutError(f"a picture as {type(medium).__name__}")
        canvas = to_canvas(opened, 3)
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
    signature = quality.picture_signature(canvas)
    canvas.save(place.with_suffix(".png"), compress_level=4)
    return str(place.with_suffix(".png")), str(signature), scale


def _clip(medium: Medium, place: Path) -> tuple[str, str]:
    """Link or write a clip; its path and signature."""
    audio = Audio(max_seconds=MOST_SECONDS)
    try:
        samples = audio.samples(Part("audio", medium))
    except PlaitError as error:
        raise _LeftOutError(f"sound that is {'too long' if 'at most' in str(error) else 'damaged'}") from error
    if len(samples) < 0.1 * 16_000 or float(np.abs(samples).max()) < 1e-4:
        raise _LeftOutError("silence, or sound of less than 0.1 s")
    signature = f"{quality.clip_signature(log_mel(samples)):x}"
    if isinstance(medium, Path):
        target = place.with_suffix(medium.suffix.lower())
        try:
            os.link(medium, target)
        except OSError:  # another file system
            shutil.copyfile(medium, target)
        return str(target), signature
    assert isinstance(medium, tuple)
    soundfile.write(place.with_suffix(".flac"), *medium)
    return str(place.with_suffix(".flac")), signature


def _asset(name: str, number: int, entry: Entry, folder: Path) -> Asset:
    media, signatures, facts = {}, {}, dict(entry.facts)
    for what, medium in entry.media.items():
        place = folder / f"{number:06d}-{what}"
        if what == "picture":
            path, signature, scale = _picture(medium, place, BOXED_SIDE if "boxes" in facts else SIDE)
            with Image.open(path) as picture:
                if "boxes" in facts:
                    facts["boxes"] = [{**box, "box": [side * scale for side in box["box"]]} for box in facts["boxes"]]
                    facts["size"] = list(picture.size)
                elif entry.kind == "drawing" and (colour := main_colour(picture)):
                    facts["colour"] = colour
        else:
            path, signature = _clip(medium, place)
        media[what], signatures[what] = str(Path(path).relative_to(folder.parent)), signature
    return Asset(name, entry.kind, entry.key, media, dict(entry.texts), facts, entry.split, signatures)


def collect(name: str, unpacked: Path, folder: Path, every: int = 1) -> dict[str, Any]:
    """Collect the source `name`, unpacked in a folder, into `folder/NAME`, of its entries `every` so-manieth; returns its
    counts. Raises DataError."""
    place, unfinished = folder / name, folder / f"{name}.partial"
    if (place / DONE).is_file():
        done: dict[str, Any] = json.loads((place / DONE).read_text(encoding="utf-8"))
        if (done["format"], done["every"]) == (FORMAT, every):
            return done
    for old in (place, unfinished):
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
            media = {what: path.replace(f"{unfinished.name}/", f"{name}/", 1) for what, path in asset.media.items()}
            file.write(json.dumps({**asdict(asset), "media": media}, ensure_ascii=False) + "\n")
            kinds[entry.kind] = kinds.get(entry.kind, 0) + 1
    done = {"format": FORMAT, "source": name, "every": every, "items": kinds, "left_out": quality.tally(reasons)}
    write_whole(unfinished / DONE, json.dumps(done, indent=1, ensure_ascii=False))
    unfinished.rename(place)
    return done


def collect_all(
    unpacked: Mapping[str, Path], folder: Path, say: Callable[[str], object], every: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Collect sources, by name and unpacked folder, a process a core; what fails is said and left out. `every` thins out
    sources that are larger than they are worth."""
    made: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        jobs = {name: pool.submit(collect, name, place, folder, every.get(name, 1)) for name, place in unpacked.items()}
        for name, job in jobs.items():
            try:
                made[name] = job.result()
            except PlaitError as error:
                say(f"{name}: left out: {error}")
                continue
            left = sum(made[name]["left_out"].values())
            say(f"{name}: {', '.join(f'{n} {kind}' for kind, n in made[name]['items'].items())}; {left} left out")
    return made


def assets_of(name: str, folder: Path) -> Iterator[Asset]:
    """What was collected of a source, its media as absolute paths. Raises DataError."""
    path = folder / name / LISTED
    if not path.is_file():
        raise DataError(f"{path} is not there; expected the source {name} collected: build the data anew")
    with path.open(encoding="utf-8") as file:
        for line in file:
            raw = json.loads(line)
            raw["media"] = {what: str(folder / place) for what, place in raw["media"].items()}
            yield Asset(**raw)
