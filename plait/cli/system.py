"""`plait export` and `plait doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plait.cli.app import Threads, app


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint or run folder, or an archive.")],
    target: Annotated[Path, typer.Argument(help="The file to write (NAME.plait), or for an archive the folder.")],
) -> None:
    """Put a checkpoint into one file that describes itself, or unpack such a file."""
    from plait import api

    typer.echo(api.export(checkpoint, target))


@app.command()
def doctor(
    threads: Threads = None,
    speed: Annotated[bool, typer.Option(help="Measure for some seconds how fast this machine trains.")] = True,
) -> None:
    """Report what is installed, what is missing and how to mend it, and how long the demo would train."""
    from plait.runtime.doctor import report

    status = report()
    if speed and status == 0:
        from plait import api

        measured = api.forecast("digits", threads=threads)
        typer.echo(
            f"speed: {measured.gflops:,.0f} GFLOP/s in products of {str(measured.dtype).removeprefix('torch.')} matrices on "
            f"{measured.threads} threads; the demo would train for about {measured.minutes:.0f} minutes"
        )
    raise typer.Exit(status)
