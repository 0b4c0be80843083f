"""What the pages for people who label and who give have in common: who asks, which files browsers show, the application around them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

import plait
from plait.serve.guard import Access, Guard
from plait.serve.metrics import Metrics
from plait.serve.openai.shapes import Body
from plait.serve.state import Limits

WEB = Path(plait.__file__).parent / "web"
SHOWN = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".wav": "audio/wav",
    ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".flac": "audio/flac",
}  # fmt: skip


class Caller(Body):
    """Who asks, where keys do not say it."""

    person: str = ""


def with_pages(app: FastAPI, pages: str, access: Access, limits: Limits) -> FastAPI:
    """An application with pages for people at its root (`web/PAGES.js`), the guard before it, and what tells whether it runs."""
    metrics = Metrics({})

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> Mapping[str, str]:
        """Whether the process answers, and with which pages."""
        return {"status": "ok", "pages": pages}

    @app.get("/metrics", tags=["operations"], response_class=Response)
    async def figures() -> Response:
        """Figures in Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def root() -> FileResponse:
        return FileResponse(WEB / "people.html")

    app.mount("/web", StaticFiles(directory=WEB), name="web")
    app.add_middleware(Guard, limits=limits, metrics=metrics, access=access)
    return app
