"""`plait collect` and `plait collected ...`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import app
from plait.errors import ConfigError

collected_app = typer.Typer(help="What people gave: how it stands, as a data set, taken back.", no_args_is_help=True)
app.add_typer(collected_app, name="collected")
HERE = "127.0.0.1:8011"
Prompts = Annotated[Path, typer.Argument(help="The file of prompts that people were asked.")]
Runs = Annotated[Path, typer.Option(help="Folder of the runs whose copies are cleared, and whose models are listed.")]
RUNS = Path("runs")


@app.command()
def collect(
    prompts: Annotated[
        Path, typer.Argument(help="A file of prompts: a .jsonl of objects with type and prompt, or a line each.")
    ],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[key=value]...", help="per_prompt=3 items, votes=2 of one mind, licence=CC0-1.0."),
    ] = None,
    kind: Annotated[str, typer.Option("--type", help="What is made, where the file does not say it: a modality.")] = "",
    how: Annotated[str, typer.Option(help="How: record, draw, photograph, upload or write.")] = "",
    consent: Annotated[
        Path | None, typer.Option(help="File of the text that people agree to; ours if not given.")
    ] = None,
    keys: Annotated[Optional[Path], typer.Option(help="File of the keys of those who may give.")] = None,  # noqa: UP045
    at: Annotated[str, typer.Option(help="HOST:PORT to listen on; another host than loopback needs --keys.")] = HERE,
    runs: Runs = RUNS,
) -> None:
    """Serve pages on which people draw, photograph, record and write, and review each other's items."""
    from plait import serve as server
    from plait.api import collecting
    from plait.cli.serve import LOOPBACK, listening_at

    address = listening_at(at, keys)
    access = server.access(keys, LOOPBACK if address[0] in LOOPBACK else (), ())
    collection = collecting.open_collection(prompts, overrides or (), consent, kind, how)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    server.collect(collection, address, access, [runs], typer.echo)


@collected_app.command("status")
def status(
    prompts: Prompts, as_json: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False
) -> None:
    """How many items there are, and how they stand."""
    from plait.api import collecting

    counts = collecting.reopened(prompts).status()
    if as_json:
        typer.echo(json.dumps(counts))
        return
    typer.echo(
        f"{counts['items']} items of {counts['persons']} persons to {counts['prompts']} prompts: {counts['accepted']} accepted, "
        f"{counts['rejected']} rejected, {counts['open']} open; {counts['withdrawn']} taken back"
    )


@collected_app.command("export")
def export(
    prompts: Prompts,
    to: Annotated[Path, typer.Option(help="New folder for the rows, their media, the licence and the data card.")],
    purpose: Annotated[
        str, typer.Option(help="train: for own use; share: only of those who agreed to that.")
    ] = "train",
    unsettled: Annotated[bool, typer.Option("--unsettled", help="Also items that are not settled yet.")] = False,
) -> None:
    """Write what was accepted as a data folder: `plait train --data` reads it."""
    from plait.api import collecting

    for split, count in collecting.export(prompts, to, purpose, unsettled).items():
        typer.echo(f"{to / split}.jsonl: {count} rows")


@collected_app.command("withdraw")
def withdraw(
    prompts: Prompts,
    person: Annotated[str, typer.Argument(help="Whose items are taken back, all of them.")],
    runs: Runs = RUNS,
) -> None:
    """Take back all that a person gave: from the store, the data sets, and copies in runs; models that learned from it are listed."""
    from plait.api import collecting

    removal, models = collecting.withdraw(prompts, person, runs)
    if removal.is_known:
        typer.echo(f"{len(removal.items)} items of {person} are gone, and the consent")
    elif removal.is_retry:
        typer.echo(f"{person} gave nothing that is here; what could not be cleared before is cleared again")
    for path, count in sorted(removal.rows.items()):
        typer.echo(f"{path}: {count} rows less")
    for path, count in sorted(removal.media.items()):
        typer.echo(f"{path}: {count} media less")
    for path in removal.pages:
        typer.echo(f"{path}: removed, since it may show them; plait eval --html writes another")
    for path, why in sorted(removal.left.items()):
        typer.echo(f"{path}: NOT cleared: {why}")
    for model in models:
        typer.echo(f"{model['model']}: {model['why']}; train it anew without them")
    if not removal.is_known and not removal.is_retry:
        raise ConfigError(f"{person} gave nothing that is here; expected a name as the pages know it")
    if removal.left:
        raise typer.Exit(1)


@collected_app.command("models")
def models(prompts: Prompts, runs: Runs = RUNS) -> None:
    """List the models that learned from something that was taken back, by whomever."""
    from plait.api import collecting

    for model in collecting.models(prompts, runs):
        typer.echo(f"{model['model']}: {model['why']}; train it anew without them")
