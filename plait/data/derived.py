"""A data folder like another, but for its training rows. Everything else is the same files under another name (hard links), so
that the folder is whole by itself and takes no room; they are copied where the disk cannot link."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from plait.contract import WORDS, Part, Sample
from plait.data.rows import with_parts
from plait.data.splits import TRAIN
from plait.errors import DataError
from plait.runtime.files import MANIFEST, atomic_write, manifest_of, sha256_of

ROWS = f"{TRAIN}.jsonl"


def rows_file(data: Path) -> Path:
    """The training rows of a folder. Raises DataError without any."""
    if not (data / ROWS).is_file():
        raise DataError(f"{data} holds no {ROWS}; expected a folder of rows: plait data build RECIPE --folder {data}")
    return data / ROWS


def links(data: Path, to: Path) -> None:
    """Make the folder `to` with all that is in `data` but its training rows and its manifest."""
    to.mkdir(parents=True, exist_ok=True)
    for path in data.iterdir():
        if path.name in (MANIFEST, ROWS) or (to / path.name).exists():
            continue
        if path.is_dir():
            partial = to / f"{path.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a run that was stopped on the way
            shutil.copytree(path, partial, copy_function=_link)
            partial.rename(to / path.name)
        else:
            _link(str(path), str(to / path.name))


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def write_rows(data: Path, to: Path, lines: Iterable[str]) -> None:
    """Write the training rows of `to`, and the manifest of `data` with their hash, so that they count as built."""
    text = "".join(line + "\n" for line in lines)
    atomic_write(to / ROWS, text)
    if manifest := manifest_of(data):
        manifest["files"][ROWS] = {"rows": text.count("\n"), "sha256": sha256_of(to / ROWS)}
        atomic_write(to / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))


def relative(sample: Sample, data: Path) -> Sample:
    """A sample whose media lie in the folder `data`, with their paths relative to it, as a row has them."""
    root = os.path.abspath(data) + os.sep

    def part(of: Part) -> Part:
        is_path = of.type != WORDS and isinstance(of.value, str)
        return replace(of, value=of.value.removeprefix(root)) if is_path else of

    return with_parts(sample, part)
