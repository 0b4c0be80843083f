"""`plait chat`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import app, make_folder


@app.command()
def chat(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, run folder or archive, or the name of one that is shipped.")
    ] = Path("smol"),
    out: Annotated[Path, typer.Option(help="Folder for pictures and sound.")] = Path("."),
    mark: Annotated[bool, typer.Option(help="Whether they say that a model made them.")] = True,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    memory: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="Earlier exchanges that the model sees; as many as it learned with, if not given."),
    ] = None,
    script: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Handle the lines of this file, whose folder other files are named from, instead of yours."),
    ] = None,
) -> None:
    """Talk with a model in the terminal, in words, pictures and sound. /help lists the commands."""
    make_folder(out)
    from plait import api
    from plait.cli import conversation

    model = api.load(checkpoint)
    memory = model.config["recipe"]["turns"] - 1 if memory is None else memory
    folder = script.parent if script else Path()
    session = conversation.Chat(model, out, typer.echo, memory, seed, conversation.detect_terminal(), folder, mark)
    if script is None and sys.stdin.isatty():
        typer.echo("/help lists the commands")
    for line in conversation.read_script(script, typer.echo) if script else conversation.read_lines():
        if not session.handle(line):
            break
