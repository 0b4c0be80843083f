"""The command line's root, with the verbs of the Python API. Modules import torch only inside the commands that need it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.errors import ConfigError, PlaitError

app = typer.Typer(
    help="One transformer that reads and writes text, images and sound.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Build and look at data.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Threads = Annotated[Optional[int], typer.Option(min=1, help="Threads; all cores, at most 8, if not given.")]  # noqa: UP045


def make_folder(out: Path) -> None:
    """Create the folder `out` if it is missing. Raises ConfigError where that is impossible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {out}: {error.strerror}; expected a folder, or a place where one can be made"
        ) from error


def main() -> None:
    """Entry point: prints a PlaitError as one line without a traceback, and exits with code 2."""
    try:
        app()
    except PlaitError as error:
        typer.echo(f"plait: {error}", err=True)
        sys.exit(2)
