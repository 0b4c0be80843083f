"""A server that listens: uvicorn around the application."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from plait.serve.app import create_app
from plait.serve.guard import Access
from plait.serve.keys import read_keys

if TYPE_CHECKING:
    from plait.api import Model

DRAIN = 60  # seconds that answers under way may take after SIGTERM
IDLE = 75  # seconds that a connection is kept for the next request


def run(
    models: Mapping[str, Model],
    host: str,
    port: int,
    keys: Path | None,
    hosts: Collection[str],
    origins: Collection[str],
    say: Callable[[str], object],
) -> None:
    """Serve until the process is told to end; what is under way then is finished first. Raises ConfigError."""
    access = Access(read_keys(keys) if keys else {}, hosts, origins)
    app = create_app(models, access=access)
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=DRAIN, h11_max_incomplete_event_size=64 << 10,
    )  # fmt: skip
    server = uvicorn.Server(config)
    place = f"[{host}]" if ":" in host else host
    say(f"{', '.join(models)} at http://{place}:{port}  (API: http://{place}:{port}/v1; Ctrl-C ends)")
    server.run()
