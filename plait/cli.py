"""The command line: the same verbs as in Python. Nothing here imports torch until a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from plait.errors import ConfigError, PlaitError

app = typer.Typer(
    help="One transformer that reads and writes text, images and sound.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Build and look at data.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Threads = Annotated[Optional[int], typer.Option(min=1, help="Threads; all cores, at most 8, if not given.")]  # noqa: UP045
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
    given = list(overrides or [])
    if recipe and "=" in recipe:  # no recipe: the first override stands in its place
        given.insert(0, recipe)
        recipe = None
    if recipe is None and data is None:
        raise ConfigError("nothing to train; expected a recipe's name, such as digits, or --data FOLDER with your rows")
    from plait import api

    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "strict": strict, "threads": threads}
    if recipe is not None:
        given += [f"data={data}"] if data else []
        options["max_seconds"] = float("inf") if max_minutes is None else 60 * max_minutes
        typer.echo(api.train(recipe, *given, out=out or Path(RUN_FOLDER.format(Path(recipe).stem)), **options))
        return
    assert data is not None
    folder = out or Path(RUN_FOLDER.format(data.resolve().name))
    saved = api.train_on(data, *given, out=folder, minutes=max_minutes, say=typer.echo, **options)
    if not api.finished(saved):
        raise typer.Exit(1)
    report = api.evaluate(saved, data=data, json=folder / "report.json", html=folder / "report.html", say=typer.echo)
    print_table(report)
    typer.echo(f"report: {(folder / 'report.html').resolve()}")


@app.command()
def generate(  # noqa: PLR0913 - one parameter an option
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, run folder or archive.")],
    text: Annotated[Optional[list[str]], typer.Option(help="Text input; inputs keep their order.")] = None,  # noqa: UP045
    image: Annotated[Optional[list[Path]], typer.Option(help="Picture file.")] = None,  # noqa: UP045
    audio: Annotated[Optional[list[Path]], typer.Option(help="Sound file.")] = None,  # noqa: UP045
    to: Annotated[str, typer.Option(help="text, image, audio, or auto: the model decides.")] = "auto",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Euler steps a block; the recipe's if not given, as the next two."),
    ] = None,
    guidance: Annotated[Optional[float], typer.Option(min=0, help="1: off.")] = None,  # noqa: UP045
    temperature: Annotated[Optional[float], typer.Option(min=0, help="0: the likeliest token.")] = None,  # noqa: UP045
    size: Annotated[
        str | None, typer.Option(help="Picture size, WIDTHxHEIGHT; the model's choice if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures and sound.")] = Path("."),
) -> None:
    """Answer any mix of text, pictures and sound. Prints text; writes files and prints their names."""
    inputs = ordered_inputs(sys.argv[1:], {"text": text or [], "image": image or [], "audio": audio or []})
    if not inputs:
        raise ConfigError("nothing was asked; give at least one of --text, --image, --audio")
    make_folder(out)  # before the work, not after it
    from plait import api

    given = {"seed": seed, "steps": steps, "guidance": guidance, "temperature": temperature}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if size:
        options["options"] = {"image": {"size": parse_size(size)}}
    parts = [api.Part(kind, str(value)) for kind, value in inputs]
    reply = api.load(checkpoint).generate(parts, to=None if to == "auto" else to, **options)
    for number, part in enumerate(reply.parts):
        typer.echo(write_part(part, out, number))


def ordered_inputs(arguments: list[str], values: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    """--text, --image and --audio in the order given, which typer does not keep across options."""
    flags = [a.split("=")[0][2:] for a in arguments if a.startswith("--") and a.split("=")[0][2:] in values]
    if len(flags) != sum(map(len, values.values())):  # called from Python: no command line to read the order from
        return [(kind, value) for kind, given in values.items() for value in given]
    left = {kind: iter(given) for kind, given in values.items()}
    return [(kind, next(left[kind])) for kind in flags]


def parse_size(size: str) -> tuple[int, int]:
    """`WIDTHxHEIGHT` to integers. Raises ConfigError."""
    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ConfigError(f"--size is {size!r}; expected WIDTHxHEIGHT in pixels, such as 28x28")
    return int(width), int(height)


def make_folder(out: Path) -> None:
    """Raises ConfigError for what cannot be a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {out}: {error.strerror}; expected a folder, or a place where one can be made"
        ) from error


def free_name(out: Path, number: int, suffix: str) -> Path:
    """answer-NUMBER, or the next number that is free: earlier answers are kept."""
    while (out / f"answer-{number}{suffix}").exists():
        number += 1
    return out / f"answer-{number}{suffix}"


def write_part(part: Any, out: Path, number: int) -> str:
    """Text as it is; a picture or a sound as a file, whose name is returned."""
    if part.type == "text":
        return str(part.value)
    if part.type == "image":
        path = free_name(out, number, ".png")
        part.value.save(path)
    elif part.type == "audio":
        import soundfile

        path = free_name(out, number, ".wav")
        soundfile.write(path, *part.value)
    else:
        raise ConfigError(
            f"the answer has a part of type {part.type!r}; expected text, image or audio, which have files: "
            "use plait.load(...).generate(...) in Python for others"
        )
    return str(path)


@app.command()
def chat(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, run folder or archive.")],
    out: Annotated[Path, typer.Option(help="Folder for pictures and sound.")] = Path("."),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    memory: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="Earlier exchanges that the model sees; as many as it learned with, if not given."),
    ] = None,
) -> None:
    """Talk with a model in the terminal, in words, pictures and sound. /help lists the commands."""
    make_folder(out)
    from plait import api
    from plait import chat as chats

    model = api.load(checkpoint)
    remembered = model.config["recipe"]["turns"] - 1 if memory is None else memory
    talk = chats.Chat(model, out, write_part, typer.echo, remembered, seed, chats.look())
    if sys.stdin.isatty():
        typer.echo("/help lists the commands")
    for line in chats.lines_of_terminal():
        if not talk.line(line):
            break


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint or run folder, or an archive.")],
    target: Annotated[Path, typer.Argument(help="The file to write (NAME.plait), or for an archive the folder.")],
) -> None:
    """Put a checkpoint into one file that describes itself, or unpack such a file."""
    from plait import api

    typer.echo(api.export(checkpoint, target))


@app.command("eval")
def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="A checkpoint or run folder; two of them, or of their report.json, are compared."),
    ],
    json: Annotated[Optional[Path], typer.Option(help="Write report.json here.")] = None,  # noqa: UP045
    html: Annotated[Optional[Path], typer.Option(help="Write report.html here.")] = None,  # noqa: UP045
    data: Annotated[Optional[Path], typer.Option(help="Data folder; the recipe's if not given.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option(min=20, help="Rows of each split.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(min=0, help="Of the noise; the recipe's if not given.")] = None,  # noqa: UP045
    threads: Threads = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            help="How much worse a cell of the second may be: a share by so much, another score by this part of its value.",
        ),
    ] = 0.03,
) -> None:
    """Measure every cell on held-out data; of two checkpoints also what changed: the exit code is 1 if a cell regressed."""
    from plait import api
    from plait.eval.runner import inference_threads

    inference_threads(threads)
    if len(checkpoints) > 2:
        raise ConfigError(f"got {len(checkpoints)} checkpoints; expected one to measure, or two to compare")
    if len(checkpoints) == 2:
        options: dict[str, Any] = {"data": data, "json": json, "html": html, "seed": seed, "limit": limit}
        changes = api.compare(*checkpoints, tolerance=tolerance, say=typer.echo, **options)
        typer.echo("\n".join(map(str, changes)))
        regressed = sum(change.regressed for change in changes)
        typer.echo(
            f"{regressed} of {len(changes)} cells regressed: shares by more than {tolerance}, other scores by more than that "
            "share of their value and out of their interval"
        )
        raise typer.Exit(1 if regressed else 0)
    report = api.evaluate(checkpoints[0], data=data, json=json, html=html, seed=seed, limit=limit, say=typer.echo)
    print_table(report)


def print_table(report: dict[str, Any]) -> None:
    """The held-out cells as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from plait.eval.report import figure, met
    from plait.eval.runner import MAIN

    table = Table("cell", "task", "metric", "value", "95 %", "n", "baseline", "ceiling", "blank", "target", "")

    for cell in report["cells"]:
        if cell["split"] in MAIN:
            interval = "-".join(figure(cell, bound) for bound in cell["ci95"])
            row = (figure(cell, cell[key]) for key in ("baseline", "judge_ceiling", "blank_input", "target"))
            mark = {True: "met", False: "missed", None: ""}[met(cell)]
            table.add_row(
                cell["cell"],
                escape(cell["task"]),
                escape(cell["metric"]),
                figure(cell, cell["value"]),
                interval,
                str(cell["n"]),
                *row,
                mark,
            )
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    if any(cell["split"] == "trained" for cell in report["cells"]):
        console.print("Too few rows to hold any out: these rows were trained on, and show learning by heart.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    overrides: Annotated[Optional[list[str]], typer.Argument(help="key=value for the recipe.")] = None,  # noqa: UP045
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
    threads: Threads = None,
) -> None:
    """Build the digits data, train, evaluate all nine cells, write a report. An interrupted demo goes on where it was."""
    from plait import api

    recipe = "digits"
    folder = api.settings(recipe, *(overrides or [])).data
    api.build(recipe, folder, say=lambda what: typer.echo(f"building {recipe}: {what}"))
    checkpoint = api.train(
        recipe, *(overrides or []), out=out, resume=not overwrite, overwrite=overwrite, threads=threads
    )
    if not api.finished(checkpoint):
        typer.echo("the training was stopped before its last step; plait demo goes on with it")
        raise typer.Exit(1)
    report = api.evaluate(checkpoint, json=out / "report.json", html=out / "report.html", say=typer.echo)
    print_table(report)
    typer.echo(f"report: {(out / 'report.html').resolve()}")


@data_app.command("build")
def data_build(
    name: Annotated[str, typer.Argument(help="A recipe's name.")],
    folder: Annotated[Optional[Path], typer.Option(help="Where; the recipe's own folder if not given.")] = None,  # noqa: UP045
    source: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Only this source of the recipe's; may be given several times."),
    ] = None,
) -> None:
    """Fetch the sources of a recipe and write its rows."""
    from plait import api

    typer.echo(api.build(name, folder, say=typer.echo, sources=source or ()))


@data_app.command("import")
def data_import(
    source: Annotated[Path, typer.Argument(help="A file or folder in a known format.")],
    to: Annotated[Path, typer.Option(help="New folder for the rows and their media.")],
    form: Annotated[Optional[str], typer.Option("--format", help="The format, if it is not recognised.")] = None,  # noqa: UP045
) -> None:
    """Turn other people's formats into rows: captions, class folders, LJSpeech, Common Voice, COCO, VOC, chats, IDX..."""
    from plait.data import importers

    for split, count in importers.run(source, to, form, typer.echo).items():
        typer.echo(f"{to / split}.jsonl: {count} rows")


@data_app.command("check")
def data_check(
    rows: Annotated[Path, typer.Argument(help="A .jsonl file of rows.")],
    out: Annotated[Optional[Path], typer.Option(help="Write the bad rows here, as JSONL.")] = None,  # noqa: UP045
) -> None:
    """Check every row and decode its media; bad ones are named, and the exit code is 1."""
    from plait import api

    found = api.check(rows, out, say=typer.echo)
    raise typer.Exit(1 if found.bad_lines else 0)


@data_app.command("fetch")
def data_fetch(
    names: Annotated[Optional[list[str]], typer.Argument(metavar="SOURCE", help="Names of sources.")] = None,  # noqa: UP045
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    to: Annotated[Optional[Path], typer.Option(help="Where; PLAIT_SOURCES or data/sources if not given.")] = None,  # noqa: UP045
    given: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--from", help="Folder with the files of one source, fetched by hand."),
    ] = None,
    any_version: Annotated[
        bool, typer.Option("--any-version", help="Whatever versions are offered, not those that are pinned.")
    ] = False,
) -> None:
    """Fetch sources of data with their package managers; without names, list them. What cannot be had is said."""
    if not names and not every and given is None:
        print_sources(to)
        return
    from plait import api
    from plait.data import sources

    missing = api.fetch(sources.names() if every else names or [], to, given, any_version, typer.echo)
    raise typer.Exit(1 if missing else 0)


def print_sources(to: Path | None) -> None:
    """The sources as a table, with whether each is in the folder `to`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from plait.data import sources
    from plait.data.sources.fetch import FACTS, places

    table = Table("source", "what", "licence", "MB", "by", "here", "with the internet, at", show_lines=True)
    table.columns[0].no_wrap = table.columns[3].no_wrap = True
    table.columns[-1].overflow = "fold"
    for name in sources.names():
        source = sources.module(name).SOURCE
        managers = ", ".join(sorted({package.manager for package in source.packages}))
        here = "yes" if ((to or places()) / name / FACTS).is_file() else "no"
        row = (name, source.what, source.licence, str(source.size), managers, here, source.public)
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="A recipe's name.")],
    folder: Annotated[Optional[Path], typer.Option(help="Data folder; the recipe's own if not given.")] = None,  # noqa: UP045
    count: Annotated[int, typer.Option(min=1, help="Rows of each task.")] = 3,
    html: Annotated[Optional[Path], typer.Option(help="Write a page of rows here, with their media.")] = None,  # noqa: UP045
    augment: Annotated[
        bool, typer.Option("--augment", help="On the page: also as the model reads them, and as training varies them.")
    ] = False,
) -> None:
    """Print some training rows of each task and what the data is made of, or write a page of rows."""
    if augment and html is None:
        raise ConfigError("--augment is for the page; expected --html FILE with it")
    from plait import api

    api.show(name, folder, count=count, html=html, augment=augment, say=typer.echo)
    if html:
        typer.echo(f"rows: {html.resolve()}")


@data_app.command("stats")
def data_stats(
    name: Annotated[str, typer.Argument(help="A recipe's name.")],
    folder: Annotated[Optional[Path], typer.Option(help="Data folder; the recipe's own if not given.")] = None,  # noqa: UP045
    html: Annotated[Optional[Path], typer.Option(help="Write a page with plots here.")] = None,  # noqa: UP045
    json: Annotated[Optional[Path], typer.Option(help="Write the numbers here.")] = None,  # noqa: UP045
) -> None:
    """Count rows, media, languages, lengths, tokens and answers; say sources, and what was left out and why."""
    from plait import api
    from plait.corpus.stats import print_tables

    print_tables(api.stats(name, folder, html=html, json=json, say=typer.echo))


@app.command()
def doctor() -> None:
    """Say what is here, what is missing and how to mend it."""
    from plait.doctor import report

    raise typer.Exit(report())


def main() -> None:
    """Entry point: errors that a user can mend are one line, without a traceback."""
    try:
        app()
    except PlaitError as error:
        typer.echo(f"plait: {error}", err=True)
        sys.exit(2)
