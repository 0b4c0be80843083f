"""A server that listens: uvicorn around the application."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from plait.errors import ConfigError
from plait.serve import annotating, collecting
from plait.serve.app import create_app
from plait.serve.connections import PunctualProtocol
from plait.serve.guard import Access

if TYPE_CHECKING:
    from fastapi import FastAPI

    from plait.annotate.project import Project
    from plait.api import Model
    from plait.collect.project import Collection

DRAIN = 60  # seconds that answers under way may take after SIGTERM
IDLE = 75  # seconds that a connection is kept for the next request


def run(
    models: Mapping[str, Model],
    host: str,
    port: int,
    access: Access,
    conversations: Path | None = None,
    marks: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Serve until the process is told to end; what is under way then is finished first. Raises ConfigError."""
    listening = listen(host, port)
    app = create_app(models, access=access, conversations=conversations, marks=marks)
    address = address_of(listening, host)
    say(f"{', '.join(models)} at {address}  (API: {address}/v1; Ctrl-C ends)")
    uvicorn.Server(settings(app)).run(sockets=[listening])


def annotate(
    project: Project,
    folder: Path,
    place: tuple[str, int],
    access: Access,
    begin: Callable[[], Any],
    say: Callable[[str], object] = print,
) -> None:
    """Ask people about the items of a project, whose media lie in `folder`, at the address `place`. Raises ConfigError."""
    listening = listen(*place)
    app = annotating.create_app(project, folder, access, lifetime=begin)
    say(f"{project.question.words} {address_of(listening, place[0])}  (Ctrl-C ends)")
    uvicorn.Server(settings(app)).run(sockets=[listening])


def collect(
    collection: Collection,
    place: tuple[str, int],
    access: Access,
    also: Sequence[Path] = (),
    say: Callable[[str], object] = print,
) -> None:
    """Let people give to a collection, at the address `place`; a withdrawal clears the folders `also`, too. Raises ConfigError."""
    listening = listen(*place)
    app = collecting.create_app(collection, access, also)
    say(
        f"{len(collection.current_prompts)} prompts at {address_of(listening, place[0])}, kept in {collection.folder}  (Ctrl-C ends)"
    )
    uvicorn.Server(settings(app)).run(sockets=[listening])


def address_of(listening: socket.socket, host: str) -> str:
    """The URL of a socket that listens."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def settings(app: FastAPI, **options: Any) -> uvicorn.Config:
    """How uvicorn runs an application here; `options` of uvicorn's take the place of ours."""
    ours = {
        "log_level": "warning", "access_log": False, "server_header": False, "timeout_keep_alive": IDLE, "http": PunctualProtocol,
        "timeout_graceful_shutdown": DRAIN, "h11_max_incomplete_event_size": 64 << 10, "ws_max_size": 16 << 20,
    }  # fmt: skip
    return uvicorn.Config(app, **(ours | options))  # type: ignore[arg-type]


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 is any that is free. Raises ConfigError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error.strerror}; expected an address of this machine and a port that is free: "
            "choose another port, or 0 for any"
        ) from error
