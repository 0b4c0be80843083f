"""`plait data show`: what a built data set is made of, and some of its rows."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from plait import recipe as recipes
from plait import registry
from plait.contract import Sample
from plait.data.rows import read_rows
from plait.errors import DataError
from plait.files import manifest_of


def _line(sample: Sample) -> str:
    pieces = []
    for message in sample.messages:
        parts = (
            p.value if isinstance(p.value, str) and not Path(p.value).is_file() else f"<{p.type} {Path(p.value).name}>"
            for p in message.parts
        )
        pieces.append(f"{message.role}: " + " ".join(parts))
    return "\n    ".join(pieces)


def show(name: str, folder: Path | None, count: int) -> None:
    """Print sources, counts, notes and `count` training rows of each task. Raises DataError when nothing is built."""
    recipe = recipes.module(name).RECIPE
    place = folder or Path(recipe.data)
    manifest = manifest_of(place)
    if not manifest:
        raise DataError(f"{place} holds no built data; build it with: plait data build {name} --folder {place}")
    console = Console()
    for source in manifest["sources"]:
        console.print(f"{source['what']}: {source['from']} ({source['licence']})", highlight=False)
    for note in manifest["notes"]:
        console.print(f"note: {note}", highlight=False)
    for file, facts in manifest["files"].items():
        console.print(f"{file}: {facts['rows']} rows, sha256 {facts['sha256'][:12]}", highlight=False)
    shown: dict[str, int] = {}
    for sample in read_rows(place / "train.jsonl", registry.build_all(recipe.modalities)):
        if shown.setdefault(sample.task, 0) < count:
            shown[sample.task] += 1
            console.print(f"\n{sample.task}\n    {_line(sample)}", highlight=False, markup=False)
