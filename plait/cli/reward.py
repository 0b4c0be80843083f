"""`plait reward`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import Threads, app


@app.command()
def reward(  # noqa: PLR0913 - one parameter an option
    checkpoint: Annotated[str, typer.Argument(help="What to start from: a checkpoint or run folder.")],
    task: Annotated[
        str, typer.Argument(help="Whose questions it is asked; any other name lists those that there are.")
    ],
    out: Annotated[Optional[Path], typer.Option(help="Run folder; runs/TASK-rewarded if not given.")] = None,  # noqa: UP045
    data: Annotated[
        Path | None, typer.Option(help="Folder of the rows that it learned from, if it is elsewhere now.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="judge: of the recipe; FILE.py:NAME: your own function (question, answer, expected).")
    ] = "judge",
    rounds: Annotated[int, typer.Option(help="Times that it answers and learns.")] = 8,
    questions: Annotated[int, typer.Option(help="Of each round.")] = 32,
    answers: Annotated[int, typer.Option(help="To each question; they are compared with one another.")] = 8,
    temperature: Annotated[float, typer.Option(help="Of answers in words.")] = 1.0,
    held: Annotated[int, typer.Option(help="Held-out questions that are measured before and after.")] = 200,
    lora: Annotated[Optional[int], typer.Option(help="Rank of new adapters; everything moves if not given.")] = None,  # noqa: UP045
    objective: Annotated[
        str, typer.Option(help="grpo: all answers as they compare; dpo: the best against the worst.")
    ] = "grpo",
    seed: Annotated[int, typer.Option(help="Of questions and answers.")] = 0,
    threads: Threads = None,
) -> None:
    """Let a checkpoint answer, a judge say how good each answer is, and what was better become likelier; then say what that changed,
    by another kind of judge too."""
    from plait import api
    from plait.runtime.parallel import use_threads

    use_threads(threads)
    folder = out or Path("runs") / f"{task}-rewarded"
    choices = {"full": True} if lora is None else {"lora": lora}
    api.reward(
        checkpoint, task, out=folder, data=data, by=by, rounds=rounds, questions=questions, answers=answers, temperature=temperature,
        held=held, seed=seed, objective=objective, choices=choices, say=typer.echo,
    )  # fmt: skip
    typer.echo(f"next: plait chat {folder}")
