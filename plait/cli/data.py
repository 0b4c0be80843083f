"""`plait data ...`: fetch, build, import, check, show and count data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import data_app
from plait.errors import ConfigError


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
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop at the first entry that cannot be used instead of passing over a few."),
    ] = False,
) -> None:
    """Turn other people's formats into rows: captions, class folders, LJSpeech, Common Voice, COCO, VOC, YOLO, chats..."""
    from plait.data import importers

    for split, count in importers.run(source, to, form, typer.echo, strict).items():
        typer.echo(f"{to / split}.jsonl: {count} rows")


@data_app.command("check")
def data_check(
    rows: Annotated[Path, typer.Argument(help="A .jsonl file of rows.")],
    out: Annotated[Optional[Path], typer.Option(help="Write the bad rows here, as JSONL.")] = None,  # noqa: UP045
) -> None:
    """Check every row and decode its media; list the bad ones and exit with code 1 if there are any."""
    from plait import api

    report = api.check(rows, out, say=typer.echo)
    raise typer.Exit(1 if report.bad_lines else 0)


@data_app.command("fetch")
def data_fetch(
    names: Annotated[Optional[list[str]], typer.Argument(metavar="SOURCE", help="Names of sources.")] = None,  # noqa: UP045
    fetch_all: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    to: Annotated[Optional[Path], typer.Option(help="Where; PLAIT_SOURCES or data/sources if not given.")] = None,  # noqa: UP045
    from_folder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--from", help="Folder with the files of one source, fetched by hand."),
    ] = None,
    any_version: Annotated[
        bool, typer.Option("--any-version", help="Whatever versions are offered, not those that are pinned.")
    ] = False,
) -> None:
    """Fetch sources of data with their package managers, and report those that are unavailable; without names, list them."""
    if not names and not fetch_all and from_folder is None:
        print_sources(to)
        return
    from plait import api
    from plait.data import sources

    missing = api.fetch(sources.names() if fetch_all else names or [], to, from_folder, any_version, typer.echo)
    raise typer.Exit(1 if missing else 0)


def print_sources(to: Path | None) -> None:
    """Print the sources as a table, with whether each is in the folder `to` (the default folder if None)."""
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
        fetched = "yes" if ((to or places()) / name / FACTS).is_file() else "no"
        row = (name, source.what, source.licence, str(source.size), managers, fetched, source.public)
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
    """Count rows, media, languages, lengths, tokens and answers; list the sources, and what was left out and why."""
    from plait import api
    from plait.data.corpus.statistics import print_tables

    print_tables(api.stats(name, folder, html=html, json=json, say=typer.echo))
