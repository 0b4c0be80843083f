"""`plait serve` and `plait key`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import app
from plait.errors import ConfigError

PORT = 8000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listening_at(at: str, keys: Path | None) -> tuple[str, int]:
    """Host and port of `HOST:PORT`. Raises ConfigError for what is none, and where others could reach it without keys."""
    host, _, port = at.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"--at {at}: expected HOST:PORT, such as {LOOPBACK[0]}:8010")
    check_reachable(host, keys)
    return host, int(port)


def check_reachable(host: str, keys: Path | None) -> None:
    """Raise ConfigError where others could reach a server without keys."""
    if host not in LOOPBACK and keys is None:
        raise ConfigError(
            f"{host}: others could reach it; expected --keys FILE beside it: plait key NAME --keys FILE makes one"
        )


@app.command()
def serve(
    checkpoints: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Checkpoints, run folders, archives or shipped names; NAME=PATH to call one otherwise."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; another than loopback needs --keys.")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=0, max=65535)] = PORT,
    keys: Annotated[Optional[Path], typer.Option(help="File of the keys that may ask.")] = None,  # noqa: UP045
    allow: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Another name that the server may be asked by, such as that of this machine, or pages elsewhere that may ask, "
            "such as http://localhost:3000."
        ),
    ] = None,
    conversations: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="File in which the pages keep conversations, your own data folder's if not given; none: they keep none."
        ),
    ] = None,
    mark: Annotated[bool, typer.Option(help="Whether pictures and sound say that a model made them.")] = True,
    ray: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=0, help="Replicas by Ray Serve, an engine each; 0: as many as requests need. Not given: no Ray."
        ),
    ] = None,
) -> None:
    """Serve checkpoints over HTTP in the shapes of OpenAI's API, with pages for the browser."""
    check_reachable(host, keys)
    from plait import api
    from plait import serve as server
    from plait.runtime.parallel import use_threads

    named = named_checkpoints(checkpoints or ["smol"])
    origins = tuple(each for each in allow or () if "://" in each)
    names = tuple(each for each in allow or () if each not in origins)
    access = server.access(keys, (*LOOPBACK, *names) if host in LOOPBACK else names, origins)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    kept = None if str(conversations) == "none" else conversations or server.usual_place()
    if ray is not None:
        server.run_cluster(named, access, kept, mark, (host, port), ray, typer.echo)
        return
    use_threads(None)
    models = api.load_several(named)
    server.run(models, host, port, access, kept, mark, typer.echo)


def named_checkpoints(checkpoints: list[str]) -> dict[str, Path]:
    """Paths of checkpoints by name. Raises ConfigError for two of one name."""
    named = dict(map(_named, checkpoints))
    if len(named) < len(checkpoints):
        raise ConfigError(f"got two checkpoints of one name in {checkpoints}; expected NAME=PATH to tell them apart")
    return named


def _named(argument: str) -> tuple[str, Path]:
    """Name and path of a checkpoint: what stands before `=`, or the last part of its path."""
    name, separator, path = argument.partition("=")
    if separator and name and path and not Path(argument).exists():
        return name, Path(path)
    return Path(argument).resolve().name if "/" in argument or argument in (".", "..") else argument, Path(argument)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Whose key it is; logs and stored conversations go by this name.")],
    keys: Annotated[Path, typer.Option(help="File of the keys that may ask, which is made if it is missing.")],
) -> None:
    """Add a key for `plait serve --keys`, and show it once: the file holds its hash."""
    import secrets

    from plait.runtime.files import atomic_write
    from plait.serve.keys import hashed, read_keys

    if not name.strip() or any(mark.isspace() or mark == "#" for mark in name):
        raise ConfigError(f"got the name {name!r}; expected one without blanks and #, such as anna")
    known = read_keys(keys) if keys.is_file() else {}
    if name in known.values():
        raise ConfigError(f"{keys} has a key of {name} already; expected another name, or take its line out")
    new_key = f"plait-{secrets.token_urlsafe(32)}"
    lines = [*(keys.read_text(encoding="utf-8").splitlines() if keys.is_file() else ()), f"{name} {hashed(new_key)}"]
    atomic_write(keys, "\n".join(lines) + "\n")
    keys.chmod(0o600)
    typer.echo(new_key)
