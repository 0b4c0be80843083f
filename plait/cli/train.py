"""`plait train` and `plait demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from plait.cli.app import Threads, app
from plait.cli.chat import chat
from plait.cli.evaluate import print_table
from plait.errors import ConfigError

RUN_FOLDER = "runs/{}"


@app.command()
def train(  # noqa: PLR0913 - one parameter an option
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's name, such as digits, or its .json; none with --data.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as steps=500 optim.lr=0.001")] = None,
    data: Annotated[Optional[Path], typer.Option(help="Folder of your rows: a recipe is proposed from them.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="Run folder; runs/RECIPE if not given.")] = None,  # noqa: UP045
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at bad rows instead of leaving them out.")] = False,
    threads: Threads = None,
    max_minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, help="Stop and save after this long; with --data, propose steps for about as long (15)."),
    ] = None,
) -> None:
    """Train a recipe from scratch, or on rows of your own (--data), or resume."""
    settings = list(overrides or [])
    if recipe and "=" in recipe:  # no recipe: its argument is the first override
        settings.insert(0, recipe)
        recipe = None
    if recipe is None and data is None:
        raise ConfigError("nothing to train; expected a recipe's name, such as digits, or --data FOLDER with your rows")
    from plait import api

    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "strict": strict, "threads": threads}
    if recipe is not None:
        settings += [f"data={data}"] if data else []
        options["max_seconds"] = float("inf") if max_minutes is None else 60 * max_minutes
        typer.echo(api.train(recipe, *settings, out=out or Path(RUN_FOLDER.format(Path(recipe).stem)), **options))
        return
    assert data is not None
    folder = out or Path(RUN_FOLDER.format(data.resolve().name))
    saved = api.train_on(data, *settings, out=folder, minutes=max_minutes, say=typer.echo, **options)
    if not api.finished(saved):
        raise typer.Exit(1)
    report = api.evaluate(saved, data=data, json=folder / "report.json", html=folder / "report.html", say=typer.echo)
    print_table(report)
    typer.echo(f"report: {(folder / 'report.html').resolve()}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    overrides: Annotated[Optional[list[str]], typer.Argument(help="key=value for the recipe.")] = None,  # noqa: UP045
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
    threads: Threads = None,
) -> None:
    """Talk with the model that is shipped, if one is; then build the digits data, train, evaluate all nine cells, write a
    report. Resumes an interrupted demo."""
    from plait import api

    _talk_with_what_is_shipped(out / "shipped")
    recipe = "digits"
    folder = api.settings(recipe, *(overrides or [])).data
    api.build(recipe, folder, say=lambda line: typer.echo(f"building {recipe}: {line}"))
    checkpoint = api.train(
        recipe, *(overrides or []), out=out, resume=not overwrite, overwrite=overwrite, threads=threads
    )
    if not api.finished(checkpoint):
        typer.echo("the training was stopped before its last step; plait demo goes on with it")
        raise typer.Exit(1)
    report = api.evaluate(checkpoint, json=out / "report.json", html=out / "report.html", say=typer.echo)
    print_table(report)
    typer.echo(f"report: {(out / 'report.html').resolve()}")


def _talk_with_what_is_shipped(out: Path) -> None:
    """Hands each shipped model the conversation that lies beside its weights; says so where it cannot be loaded."""
    from plait import api
    from plait.errors import PlaitError

    for name, script in api.conversations().items():
        typer.echo(f"{name}, as it is shipped (what it writes is in {out / name}):")
        try:
            api.fetch_base(name, typer.echo)
            chat(Path(name), out / name, script=script)
        except PlaitError as error:
            typer.echo(f"! {error}")
