"""`plait import`, `plait bundle` and `plait status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plait.cli.app import app


@app.command("import")
def import_model(
    source: Annotated[Path, typer.Argument(help="A .gguf file, or a model's folder as Hugging Face lays it out.")],
    dest: Annotated[Path, typer.Argument(help="The new folder of the checkpoint.")],
) -> None:
    """Make a checkpoint from a language model that exists: Llama, SmolLM, Qwen2 and 3, Gemma 1, GPT-2."""
    from plait import api

    api.import_model(source, dest, typer.echo)


@app.command()
def bundle(
    recipes: Annotated[
        list[str], typer.Argument(help="Recipes, trained one after the other, each from the one before.")
    ],
    to: Annotated[Path, typer.Option(help="The new folder of the bundle.")],
    source: Annotated[Path, typer.Option(help="The language model that the first starts from, as import takes it.")],
    data: Annotated[Path, typer.Option(help="Folder of the rows: train.jsonl and its media.")],
    part_mib: Annotated[float, typer.Option(min=1, help="Largest size of a file, in MiB.")] = 60,
    total_mib: Annotated[float, typer.Option(min=1, help="Largest size of all; media are chosen to fit.")] = 180,
    python: Annotated[str, typer.Option(help="Version of Python where it is trained.")] = "3.12",
) -> None:
    """Pack a training for a machine without internet; there: python run_bundle.py DIR --minutes 9."""
    from plait import api

    manifest = api.bundle(recipes, to, source, data, part_mib=part_mib, total_mib=total_mib, python=python)
    typer.echo(f"{manifest}: copy its folder there, then: python run_bundle.py {to.name} --minutes 9")


@app.command()
def status(run: Annotated[Path, typer.Argument(help="A run folder of plait train.")]) -> None:
    """How far a training is: steps, tokens, time left, and how each loss fell."""
    from plait import api

    progress = api.status(run)
    typer.echo(
        f"{progress['name']}: step {progress['step']:,} of {progress['steps']:,}, {progress['tokens']:,} tokens in "
        f"{progress['minutes']:.1f} min; {progress['minutes_left']:.1f} min left"
    )
    for group, curve in progress["curves"].items():
        typer.echo(f"  {group:<10} " + "  ".join(f"{step}: {loss:.3f}" for step, loss in curve))
