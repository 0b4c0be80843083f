"""`plait serve`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Optional

import typer

from plait.cli.app import Threads, app
from plait.errors import ConfigError

PORT = 8000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@app.command()
def serve(
    checkpoints: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Checkpoints, run folders, archives or shipped names; NAME=PATH to call one otherwise."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; another than loopback needs --keys.")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=0, max=65535)] = PORT,
    keys: Annotated[Optional[Path], typer.Option(help="File of the keys that may ask.")] = None,  # noqa: UP045
    new_key: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Add a key of this name to the file --keys, show it once, and serve nothing."),
    ] = None,
    allow_host: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Another name that the server may be asked by, such as that of this machine."),
    ] = None,
    allow_origin: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Pages elsewhere that may ask, such as http://localhost:3000."),
    ] = None,
    threads: Threads = None,
) -> None:
    """Serve checkpoints over HTTP in the shapes of OpenAI's API, with pages for the browser."""
    if new_key is not None:
        typer.echo(_add_key(keys, new_key))
        return
    if host not in LOOPBACK and keys is None:
        raise ConfigError(
            f"--host {host}: others could reach it; expected --keys FILE beside it: plait serve --keys keys.txt --new-key NAME"
        )
    from plait import api
    from plait import serve as plait_serve
    from plait.runtime.parallel import use_threads

    named = dict(map(_named, checkpoints or ["smol"]))
    if len(named) < len(checkpoints or ["smol"]):
        raise ConfigError(f"got two checkpoints of one name in {checkpoints}; expected NAME=PATH to tell them apart")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_threads(threads)
    models = {name: api.load(path) for name, path in named.items()}
    hosts = (*LOOPBACK, *(allow_host or ())) if host in LOOPBACK else tuple(allow_host or ())
    plait_serve.run(models, host, port, keys, hosts, tuple(allow_origin or ()), typer.echo)


def _named(argument: str) -> tuple[str, Path]:
    """Name and path of a checkpoint: what stands before `=`, or the last part of its path."""
    name, separator, path = argument.partition("=")
    if separator and name and path and not Path(argument).exists():
        return name, Path(path)
    return Path(argument).resolve().name if "/" in argument or argument in (".", "..") else argument, Path(argument)


def _add_key(keys: Path | None, name: str) -> str:
    """Add a new key to the file, as its hash; returns the key."""
    import secrets

    from plait.serve.keys import hashed

    if keys is None:
        raise ConfigError("--new-key: got no file; expected --keys FILE beside it")
    if not name.strip() or any(mark in name for mark in " \n\r\t#"):
        raise ConfigError(f"--new-key {name!r}: expected a name without spaces and #, such as {'anna'!r}")
    key = f"plait-{secrets.token_urlsafe(32)}"
    known = keys.read_text(encoding="utf-8") if keys.is_file() else ""
    keys.touch(mode=0o600)
    keys.write_text(
        f"{known}{'' if not known or known.endswith(chr(10)) else chr(10)}{name} {hashed(key)}\n", encoding="utf-8"
    )
    return key
