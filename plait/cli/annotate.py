"""`plait annotate` and `plait annotations ...`."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import app
from plait.errors import ConfigError

annotations_app = typer.Typer(
    help="What people said of data: how it stands, as rows, to and from other programs.", no_args_is_help=True
)
app.add_typer(annotations_app, name="annotations")
HERE = "127.0.0.1:8010"
Data = Annotated[Path, typer.Argument(help="The folder, or the .jsonl file, that people are asked about.")]


@app.command()
def annotate(
    data: Annotated[Path, typer.Argument(help="A folder with rows, or one of pictures or clips, or a .jsonl file.")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="[key=value]...",
            help="overlap=2 persons an item, gold_every=10, is_active=false, reviewers=anna,ben.",
        ),
    ] = None,
    ask: Annotated[
        str, typer.Option(help="label, transcribe, box, rate, choose or correct; not needed to go on.")
    ] = "",
    options: Annotated[str, typer.Option(help="What may be answered, between commas.")] = "",
    question: Annotated[str, typer.Option(help="The words that ask.")] = "",
    by: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="A checkpoint that guesses first; items of which it is unsure come first. May be given several times."
        ),
    ] = None,
    keys: Annotated[Optional[Path], typer.Option(help="File of the keys of those who may answer.")] = None,  # noqa: UP045
    at: Annotated[str, typer.Option(help="HOST:PORT to listen on; another host than loopback needs --keys.")] = HERE,
) -> None:
    """Serve pages on which people label, transcribe, box, rate, choose and correct."""
    from plait import serve as server
    from plait.annotate.items import folder_of
    from plait.annotate.kinds import Question
    from plait.api import annotating
    from plait.cli.serve import LOOPBACK, listening_at, named_checkpoints

    address = listening_at(at, keys)
    if not ask and (options or question):
        raise ConfigError("got --options or --question without --ask; expected --ask beside them")
    asked = Question(ask, question, tuple(filter(None, map(str.strip, options.split(","))))) if ask else None
    access = server.access(keys, LOOPBACK if address[0] in LOOPBACK else (), ())
    models = {}
    if by:
        from plait import api

        models = api.load_several(named_checkpoints(by))
    project = annotating.open_project(data, asked, overrides or (), typer.echo)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop = threading.Event()

    def begin() -> object:
        """Start the models that guess; returns what ends them."""
        if models:
            arguments = (models, project, folder_of(data), lambda: not stop.is_set(), typer.echo)
            threading.Thread(target=annotating.ask_models, args=arguments, daemon=True).start()
        return stop.set

    server.annotate(project, folder_of(data), address, access, begin, typer.echo)


@annotations_app.command("status")
def status(
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False,
) -> None:
    """How far the work is, and how well people agree."""
    from plait.api import annotating

    figures = annotating.status(data)
    if as_json:
        typer.echo(json.dumps(figures, indent=1, ensure_ascii=False))
        return
    alpha = "not to be told yet" if figures["alpha"] is None else f"{figures['alpha']:.2f}"
    typer.echo(
        f"{figures['complete']} of {figures['items']} items complete, {figures['answers']} answers, {figures['disputed']} to be decided, {figures['decided']} decided; alpha {alpha}"
    )
    for person in figures["persons"]:
        gold = f", {person['gold_right']} of {person['gold_asked']} known items right" if person["gold_asked"] else ""
        skill = "" if person["skill"] is None else f", skill {person['skill']:.2f}"
        typer.echo(f"{person['name']}: {person['answers']} answers{gold}{skill}")


@annotations_app.command("export")
def export(
    data: Data,
    to: Annotated[Path, typer.Option(help="New folder for the rows and their media.")],
    least_confidence: Annotated[float, typer.Option(min=0, max=1, help="Leave out items that are less sure.")] = 0.0,
    least_gold: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out persons who are right about a smaller share of known items.")
    ] = 0.0,
    agreed: Annotated[
        bool, typer.Option("--agreed", help="Leave out items of which people differ and nobody decided.")
    ] = False,
) -> None:
    """Write what people said as rows: `plait train --data` reads them."""
    from plait.api import annotating

    for split, count in annotating.export(data, to, least_confidence, least_gold, agreed, typer.echo).items():
        typer.echo(f"{to / split}.jsonl: {count} rows")


@annotations_app.command("take")
def take(
    data: Data,
    file: Annotated[Path, typer.Argument(help="Label Studio's JSON, Argilla's JSON, or CVAT for images 1.1.")],
) -> None:
    """Take in what people said of the same data in another program."""
    from plait.api import annotating

    added, answers = annotating.take(data, file, typer.echo)
    typer.echo(f"{answers} answers are new, {added} items")


@annotations_app.command("give")
def give(
    data: Data,
    file: Annotated[Path, typer.Argument(help="A .json file; the labelling configuration goes beside it, as .xml.")],
) -> None:
    """Write the project as tasks, annotations and predictions that Label Studio imports."""
    from plait.api import annotating

    annotating.give(data, file)
    typer.echo(f"{file}, {file.with_suffix('.xml')}")
