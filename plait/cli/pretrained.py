"""`plait import`, `plait bundle` and `plait status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import app


@app.command("import")
def import_model(
    source: Annotated[
        str, typer.Argument(help="A .gguf file, a model's folder as Hugging Face lays it out, or the name of a base.")
    ],
    dest: Annotated[Optional[Path], typer.Argument(help="The new folder of the checkpoint; a base needs none.")] = None,  # noqa: UP045
    reader: Annotated[
        bool, typer.Option("--reader", help="Take a language model as a frozen reader of words, as BERT is taken.")
    ] = False,
) -> None:
    """Make a checkpoint from a language model that exists: Llama, SmolLM, Qwen2 and 3, Gemma 1, GPT-2."""
    from plait import api

    api.import_model(source, dest, typer.echo, reader)


@app.command()
def bundle(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, such as smol, or its .json.")],
    to: Annotated[Path, typer.Option(help="The new folder of the bundle.")],
    overrides: Annotated[Optional[list[str]], typer.Argument(help="key=value, such as steps=500.")] = None,  # noqa: UP045
    data: Annotated[Optional[Path], typer.Option(help="Folder of the rows; the recipe's if not given.")] = None,  # noqa: UP045
    part_mib: Annotated[float, typer.Option(min=1, help="Largest size of a file, in MiB.")] = 60,
    total_mib: Annotated[float, typer.Option(min=1, help="Largest size of all; media are chosen to fit.")] = 180,
    python: Annotated[str, typer.Option(help="Version of Python where it is trained.")] = "3.12",
) -> None:
    """Pack a training for a machine without internet; there: python run_bundle.py DIR --minutes 9."""
    from plait import api

    sizes = {"part_mib": part_mib, "total_mib": total_mib}
    manifest = api.bundle(recipe, *(overrides or []), to=to, data=data, python=python, **sizes)
    typer.echo(f"{manifest}: copy its folder there, then: python run_bundle.py {to.name} --minutes 9")


@app.command()
def distill(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint or run folder that draws or speaks.")],
    to: Annotated[Path, typer.Option(help="The new folder of its answers and of the recipe.")],
    data: Annotated[Optional[Path], typer.Option(help="Folder of the rows; the recipe's if not given.")] = None,  # noqa: UP045
    rows: Annotated[int, typer.Option(min=20, help="Questions of each task that it answers.")] = 1000,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the training.")] = 500,
    sampling_steps: Annotated[int, typer.Option(min=1, help="Steps a block that the result is to need.")] = 3,
) -> None:
    """Let a model answer training questions, to learn the same with few steps a block; then: plait train TO/recipe.json."""
    from plait import api

    recipe = api.distill(
        checkpoint, to, data=data, rows=rows, steps=steps, sampling_steps=sampling_steps, say=typer.echo
    )
    typer.echo(f"next: plait train {recipe}")


@app.command()
def status(run: Annotated[Path, typer.Argument(help="A run folder of plait train.")]) -> None:
    """How far a training is: steps, tokens, time left, and how each loss fell."""
    from plait import api

    progress = api.status(run)
    after = f", then {', '.join(progress['to_come'])}" if progress["to_come"] else ""
    typer.echo(
        f"{progress['name']}: step {progress['step']:,} of {progress['steps']:,}, {progress['tokens']:,} tokens in "
        f"{progress['minutes']:.1f} min; {progress['minutes_left']:.1f} min left{after}"
    )
    for group, curve in progress["curves"].items():
        typer.echo(f"  {group:<10} " + "  ".join(f"{step}: {loss:.3f}" for step, loss in curve))
