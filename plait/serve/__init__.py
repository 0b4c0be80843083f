"""An HTTP server in the shapes of OpenAI's API, for any checkpoint. `create_app` is the library form; `run` listens."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.errors import MissingError

if TYPE_CHECKING:
    from fastapi import FastAPI


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"plait.serve.{name}")
    except ModuleNotFoundError as error:
        raise MissingError(
            f"serving needs the package {error.name!r}, which is not installed; install it with: "
            "python -m pip install 'plait[serve]'"
        ) from error


def create_app(*arguments: Any, **options: Any) -> FastAPI:
    """As plait.serve.app.create_app. Raises MissingError without the extra `serve`."""
    app: FastAPI = _module("app").create_app(*arguments, **options)
    return app


def run(*arguments: Any, **options: Any) -> None:
    """As plait.serve.run.run. Raises MissingError without the extra `serve`."""
    _module("run").run(*arguments, **options)


def annotate(*arguments: Any) -> None:
    """As plait.serve.run.annotate. Raises MissingError without the extra `serve`."""
    _module("run").annotate(*arguments)


def collect(*arguments: Any) -> None:
    """As plait.serve.run.collect. Raises MissingError without the extra `serve`."""
    _module("run").collect(*arguments)


def run_cluster(
    named: Mapping[str, Path],
    access: Any,
    conversations: Path | None,
    marks: bool,
    address: tuple[str, int],
    replicas: int,
    say: Callable[[str], object],
) -> None:
    """As plait.serve.cluster.run. Raises MissingError without the extra `ray`."""
    try:
        importlib.import_module("ray.serve")
    except ImportError as error:
        raise MissingError(
            "serving by Ray needs Ray Serve, which is not installed; install it with: python -m pip install 'plait[ray]'"
        ) from error
    cluster = _module("cluster")
    cluster.run(cluster.Setup(named, access, conversations, marks), *address, replicas, say)


def access(keys: Path | None, hosts: Collection[str], origins: Collection[str]) -> Any:
    """Whom a server answers: those with a key of the file `keys` (everyone if None), by the names `hosts` (any if empty), and
    pages of other `origins`. Raises ConfigError for a bad file, MissingError without the extra `serve`."""
    known = _module("keys").read_keys(keys) if keys is not None else {}
    return _module("guard").Access(known, hosts, origins)


def usual_place() -> Path:
    """As plait.serve.openai.conversations.usual_place."""
    place: Path = _module("openai.conversations").usual_place()
    return place
