"""`plait probe`: what can be told from the layers of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import app


@app.command()
def probe(
    checkpoint: Annotated[str, typer.Argument(metavar="RUN", help="A checkpoint or run folder.")],
    rows: Annotated[Path, typer.Argument(help="A .jsonl file of rows that have a label in meta.")],
    label: Annotated[str, typer.Option(help="The label's name in meta, such as digit, or expect.digit.")],
    of: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The modality of the part that is probed; the first part of each question if not given."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(min=20, help="Rows, the first ones.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="Of the halves and of shuffled labels.")] = 0,
    json: Annotated[Optional[Path], typer.Option(help="Write all numbers.")] = None,  # noqa: UP045
) -> None:
    """Tell a label from a part's hidden states after each layer, by linear probes: learned from half of the rows, asked about the other,
    beside probes of shuffled labels."""
    from plait import api
    from plait.data.rows import read_rows
    from plait.runtime import pages

    model = api.load(checkpoint)
    samples = list(read_rows(rows, model.network.vocabulary.modalities))[:limit]
    result = model.probe(samples, label, kind=of, seed=seed)
    typer.echo(result.table())
    if json is not None:
        pages.write_file(json, result.to_json() + "\n")
        typer.echo(json)
