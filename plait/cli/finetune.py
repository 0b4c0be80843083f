"""`plait finetune` and `plait merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from plait.cli.app import Threads, app
from plait.errors import ConfigError, DataError

ON = ("experts", "all")  # where adapters are put
NOT_GUARDED = 3  # exit code


@app.command()
def finetune(  # noqa: PLR0913 - one parameter an option
    checkpoint: Annotated[str, typer.Argument(help="What to start from: smol, or a checkpoint or run folder.")],
    data: Annotated[Path, typer.Option(help="Folder of your rows.")],
    overrides: Annotated[Optional[list[str]], typer.Argument(help="key=value, such as steps=200.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="Run folder; runs/DATA if not given.")] = None,  # noqa: UP045
    lora: Annotated[Optional[int], typer.Option(help="Rank of new adapters (16 if nothing else is said).")] = None,  # noqa: UP045
    lora_on: Annotated[str, typer.Option(help="experts: for media alone, words keep theirs; all: for words too.")] = ON[
        0
    ],
    full: Annotated[bool, typer.Option("--full", help="Move everything.")] = False,
    train: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="What moves: image-in, audio-out, image, readers, trunk, text... Again for more."),
    ] = None,
    freeze: Annotated[Optional[list[str]], typer.Option(help="What stays as it is, likewise.")] = None,  # noqa: UP045
    keep_words: Annotated[bool, typer.Option("--keep-words", help="Text stays what it was, to the bit.")] = False,
    replay: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Share of rows that it learned from before, such as 0.1; half where there are some."),
    ] = None,
    earlier: Annotated[Optional[Path], typer.Option(help="Folder of those rows, if it is elsewhere now.")] = None,  # noqa: UP045
    guard: Annotated[bool, typer.Option(help="Measure every task before and after.")] = True,
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0.1, help="Propose steps for about as long (10); stop after it where they are settled."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    threads: Threads = None,
) -> None:
    """Teach a checkpoint your rows, and see what it forgets: the exit code is 1 if a task that these rows are not of got worse, 3 if
    nothing could be measured."""
    from plait import api

    if lora_on not in ON:
        raise ConfigError(f"got --lora-on {lora_on}; expected {' or '.join(ON)}")
    choices: dict[str, Any] = {
        "lora": lora, "words": lora_on == ON[1], "full": full, "train": tuple(train or ()), "freeze": tuple(freeze or ()),
        "keep_words": keep_words, "replay": replay, "minutes": minutes,
    }  # fmt: skip
    folder = out or _free(Path("runs") / data.resolve().name, Path(checkpoint))
    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "threads": threads}
    saved = api.finetune(
        checkpoint,
        *(overrides or []),
        data=data,
        out=folder,
        earlier=earlier,
        say=typer.echo,
        choices=choices,
        **options,
    )
    if not api.finished(saved):
        raise typer.Exit(1)
    typer.echo(f"next: plait chat {folder}")
    if guard:
        _guard(saved, earlier, keep_words)


def _free(run: Path, checkpoint: Path) -> Path:
    """The run folder, or another beside it where the checkpoint to start from lies there."""
    return run.with_name(f"{run.name}-tuned") if checkpoint.resolve().is_relative_to(run.resolve()) else run


def _guard(saved: Path, earlier: Path | None, keep_words: bool) -> None:
    """Say what got worse; exit with 1 where a task did that was not aimed at or words that were to be kept changed, with 3 where
    nothing could be measured."""
    from plait import api

    try:
        result = api.guard(saved, earlier=earlier, say=typer.echo)
    except DataError as error:
        typer.echo(f"not guarded: {error}", err=True)
        raise typer.Exit(NOT_GUARDED) from error
    typer.echo(f"words: {'the same to the bit' if result['same_words'] else 'changed'}")
    if result["regressed"]:
        typer.echo(
            f"got worse: {', '.join(result['regressed'])}; more --replay, fewer steps or a lower --lora forget less",
            err=True,
        )
    elif not keep_words or result["same_words"]:
        typer.echo("nothing else got worse past its interval")
        return
    raise typer.Exit(1)


@app.command()
def merge(
    checkpoint: Annotated[Path, typer.Argument(help="What plait finetune wrote; with --undo, what plait merge wrote.")],
    target: Annotated[Path, typer.Argument(help="The new folder.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take it apart again.")] = False,
) -> None:
    """Make one checkpoint of a fine-tuning and what it stands on: the same answers, and nothing else is needed."""
    from plait import api

    typer.echo(api.merge(checkpoint, target, undo))
