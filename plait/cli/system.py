"""`plait export` and `plait doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plait.cli.app import app


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint or run folder, or an archive.")],
    target: Annotated[Path, typer.Argument(help="The file to write (NAME.plait), or for an archive the folder.")],
) -> None:
    """Put a checkpoint into one file that describes itself, or unpack such a file."""
    from plait import api

    typer.echo(api.export(checkpoint, target))


@app.command()
def doctor() -> None:
    """Report what is installed, what is missing and how to mend it."""
    from plait.runtime.doctor import report

    raise typer.Exit(report())
