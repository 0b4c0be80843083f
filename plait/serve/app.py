"""The application: routes, guard, pages, and the workers that live as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

import plait
from plait.errors import ConfigError
from plait.serve import errors, label_studio
from plait.serve.guard import Access, Guard, caller_of
from plait.serve.openai import (
    audio,
    chat,
    completions,
    decisions,
    detections,
    embeddings,
    explanations,
    images,
    models,
    provenance,
    realtime,
    responses,
    speakers,
    transcripts,
)
from plait.serve.openai import conversations as stored
from plait.serve.state import Limits, State

if TYPE_CHECKING:
    from plait.api import Model

WEB = Path(plait.__file__).parent / "web"
ROUTERS = (
    models,
    chat,
    completions,
    responses,
    images,
    audio,
    transcripts,
    decisions,
    detections,
    embeddings,
    explanations,
    provenance,
    realtime,
    label_studio,
)
DRAIN = 0.1  # seconds between two looks whether all is answered


def create_app(
    models: Mapping[str, Model],
    limits: Limits | None = None,
    access: Access | None = None,
    conversations: Path | None = None,
    marks: bool = True,
) -> FastAPI:
    """An application that serves loaded models under their names. Its workers start and end with its lifespan.

    `conversations`: the file in which the pages keep them; None: they keep none. Without `marks` media do not say that a model
    made them. Raises ConfigError for no model, or for a file
    that cannot be used.
    """
    if not models:
        raise ConfigError("got no model to serve; expected at least one")
    state = State(models, limits or Limits(), marks)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for served in state.served.values():
            served.worker.start()
        yield
        for served in state.served.values():
            served.worker.close()
        while any(served.worker.thread.is_alive() for served in state.served.values()):
            await asyncio.sleep(DRAIN)
        await state.media.close()

    app = FastAPI(title="Plait", version=plait.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.plait = state
    errors.install(app)
    for module in ROUTERS:
        app.include_router(module.router(state))
    _operations(app, state)
    voices = None if conversations is None else speakers.Speakers(conversations)
    app.include_router(speakers.router(state, voices, caller_of))
    if conversations is not None:
        store = stored.Conversations(conversations)
        app.include_router(stored.router(store, caller_of))
        app.include_router(stored.preferences(store, caller_of))
    if WEB.is_dir():
        app.mount("/web", StaticFiles(directory=WEB), name="web")

        @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(WEB / "index.html")

    app.add_middleware(Guard, limits=state.limits, metrics=state.metrics, access=access or Access())
    return app


def _operations(app: FastAPI, state: State) -> None:
    """Routes for whoever runs the server."""

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"], response_model=None)
    async def readyz() -> JSONResponse:
        """Whether it takes requests."""
        alive = {name: served.worker.is_alive for name, served in state.served.items()}
        body: dict[str, Any] = {"status": "ok" if all(alive.values()) else "not ready", "models": alive}
        return JSONResponse(body, 200 if all(alive.values()) else 503)

    @app.get("/metrics", tags=["operations"], response_class=Response)
    async def metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
