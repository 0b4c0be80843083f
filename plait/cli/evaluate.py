"""`plait eval`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from plait.cli.app import Threads, app
from plait.errors import ConfigError


@app.command("eval")
def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="A checkpoint or run folder; two of them, or of their report.json, are compared."),
    ],
    json: Annotated[Optional[Path], typer.Option(help="Write report.json here.")] = None,  # noqa: UP045
    html: Annotated[Optional[Path], typer.Option(help="Write report.html here.")] = None,  # noqa: UP045
    data: Annotated[Optional[Path], typer.Option(help="Data folder; the recipe's if not given.")] = None,  # noqa: UP045
    limit: Annotated[
        int | None, typer.Option(min=20, help="Rows of each split; the model card stays as it is.")
    ] = None,
    seed: Annotated[Optional[int], typer.Option(min=0, help="Of the noise; the recipe's if not given.")] = None,  # noqa: UP045
    threads: Threads = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            help="How much worse a cell of the second may be: a share by so much, another score by this part of its value.",
        ),
    ] = 0.03,
) -> None:
    """Measure every cell on held-out data. Compare two checkpoints; the exit code is 1 if a cell regressed."""
    from plait import api
    from plait.eval.runner import inference_threads

    inference_threads(threads)
    if len(checkpoints) > 2:
        raise ConfigError(f"got {len(checkpoints)} checkpoints; expected one to measure, or two to compare")
    if len(checkpoints) == 2:
        options: dict[str, Any] = {"data": data, "json": json, "html": html, "seed": seed, "limit": limit}
        changes = api.compare(*checkpoints, tolerance=tolerance, say=typer.echo, **options)
        typer.echo("\n".join(map(str, changes)))
        regressed = sum(change.regressed for change in changes)
        typer.echo(
            f"{regressed} of {len(changes)} cells regressed: shares by more than {tolerance}, other scores by more than that "
            "share of their value and out of their interval"
        )
        raise typer.Exit(1 if regressed else 0)
    report = api.evaluate(checkpoints[0], data=data, json=json, html=html, seed=seed, limit=limit, say=typer.echo)
    print_table(report)


def print_table(report: dict[str, Any]) -> None:
    """Prints the held-out cells as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from plait.eval.report import figure, met
    from plait.eval.runner import MAIN

    table = Table("cell", "task", "metric", "value", "95 %", "n", "baseline", "ceiling", "blank", "target", "")

    for cell in report["cells"]:
        if cell["split"] in MAIN:
            interval = "-".join(figure(cell, bound) for bound in cell["ci95"])
            row = (figure(cell, cell[key]) for key in ("baseline", "judge_ceiling", "blank_input", "target"))
            mark = {True: "met", False: "missed", None: ""}[met(cell)]
            table.add_row(
                cell["cell"],
                escape(cell["task"]),
                escape(cell["metric"]),
                figure(cell, cell["value"]),
                interval,
                str(cell["n"]),
                *row,
                mark,
            )
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    if any(cell["split"] == "trained" for cell in report["cells"]):
        console.print("Too few rows to hold any out: these rows were trained on, and show learning by heart.")
