"""Held-out rows of a recipe, task by task, for benchmarks of explanations."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from plait.api.model import Model
from plait.contract import Sample
from plait.data.rows import read_rows


def add_options(parser: ArgumentParser, rows: int) -> None:
    """Checkpoints, and the rows that they are asked about: `rows` of each task unless told otherwise."""
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--data", type=Path, help="folder of the recipe's data, if it is elsewhere")
    parser.add_argument("--tasks", default="", help="some of them, with commas; all if none is named")
    parser.add_argument("--rows", type=int, default=rows, help="of each task")


def held_out(model: Model, options: Namespace) -> Iterator[tuple[str, list[Sample]]]:
    """Tasks and their first rows."""
    tasks = {task for task in options.tasks.split(",") if task}
    folder = options.data or Path(model.config["recipe"]["data"])
    for file in sorted(folder.glob("*.test.jsonl")):
        task = file.name.split(".")[0]
        if not tasks or task in tasks:
            yield task, list(read_rows(file, model.network.vocabulary.modalities))[: options.rows]


def cell_of(sample: Sample) -> str:
    """What is given and what is answered, such as audio+image->text."""
    given = {part.type for message in sample.messages[:-1] for part in message.parts} - {"text"}
    return f"{'+'.join(sorted(given)) or 'text'}->{sample.messages[-1].parts[0].type}"
