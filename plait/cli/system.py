"""`plait export` and `plait doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer

from plait.cli.app import Threads, app


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint or run folder, or an archive.")],
    target: Annotated[Path, typer.Argument(help="The file to write (NAME.plait), or for an archive the folder.")],
    precision: Annotated[
        Optional[Literal["float32", "bfloat16", "int8", "int4"]],  # noqa: UP045
        typer.Option(
            help="Of the weights; as they are, if not given. int8 takes a quarter of the room, int4 half of that."
        ),
    ] = None,
    to: Annotated[
        Literal["archive", "huggingface", "gguf", "onnx", "page"],
        typer.Option(
            help="onnx: a folder of graphs; page: one that runs in a browser. Its words alone: huggingface, a folder that transformers "
            "loads; gguf, a file for llama.cpp."
        ),
    ] = "archive",
) -> None:
    """Put a checkpoint into one file that describes itself, or unpack such a file; or take it, or its words, elsewhere."""
    from plait import api

    typer.echo(api.export(checkpoint, target, precision, to))


def _bases() -> list[Any]:
    """Findings on pretrained models; none where a package is missing, which the report says itself."""
    from plait import api

    try:
        return api.bases()
    except ImportError:
        return []


@app.command()
def doctor(
    threads: Threads = None,
    speed: Annotated[bool, typer.Option(help="Measure for some seconds how fast this machine trains.")] = True,
) -> None:
    """Report what is installed, what is missing and how to mend it, and how long the demo would train."""
    from plait.runtime.doctor import report

    status = report(_bases())
    if speed and status == 0:
        from plait import api

        measured = api.forecast("digits", threads=threads)
        typer.echo(
            f"speed: {measured.gflops:,.0f} GFLOP/s in products of {str(measured.dtype).removeprefix('torch.')} matrices on "
            f"{measured.threads} threads; the demo would train for about {measured.minutes:.0f} minutes"
        )
    raise typer.Exit(status)
