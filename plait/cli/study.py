"""`plait study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plait.cli.app import Threads, app, make_folder


@app.command()
def study(
    name: Annotated[
        str, typer.Argument(help="mixing: one model of everything, or many? data: fewer rows, wrong labels.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of runs and results; what is done there is kept.")] = Path(
        "studies"
    ),
    data: Annotated[Path, typer.Option(help="Data of the digits; built if missing.")] = Path("data/digits"),
    steps: Annotated[int, typer.Option(min=20, help="Steps of the model of everything.")] = 1500,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every arm.")] = 3,
    limit: Annotated[int, typer.Option(min=20, help="Held-out rows a task.")] = 200,
    threads: Threads = None,
) -> None:
    """Answer a question about the model by training several and measuring them alike. Goes on where it was stopped."""
    from plait import studies

    make_folder(out)
    typer.echo(
        studies.answer(name, out, data=data, steps=steps, seeds=seeds, limit=limit, threads=threads, say=typer.echo)
    )
