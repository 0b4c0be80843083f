"""`/v1/content_provenance_checks`: whether a picture or a clip was made here."""

from __future__ import annotations

import asyncio
import time
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, File, UploadFile
from fastapi import Request as HttpRequest
from fastapi.concurrency import run_in_threadpool

from plait import registry
from plait.serve.errors import ApiError, unsupported
from plait.serve.state import State

OUTCOMES = {True: "detected", False: "not_detected"}


def kind_of(file: UploadFile) -> str:
    """The modality of an upload, by its name or by its media type. Raises ApiError."""
    suffix, media_type = PurePath(file.filename or "").suffix.lower(), file.content_type or ""
    for kind in registry.available():
        transfer = registry.transfers(kind)
        if transfer is not None and (suffix in registry.suffixes(kind) or media_type in transfer.formats().values()):
            return kind
    raise ApiError(
        f"file: got {(file.filename or '')[:100]!r} of type {media_type!r}; expected a picture or a sound, by its name or its type",
        param="file", code="unsupported_content",
    )  # fmt: skip


def router(state: State) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["provenance"])
    turn = asyncio.Lock()  # one at a time: it is a second of work

    @routes.post("/v1/content_provenance_checks")
    async def checks(http: HttpRequest, file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        """Look for the mark of what Plait draws and says, and for what the file itself says. Nothing found proves nothing: marks
        are lost where a medium is edited much, or is very small."""
        if unknown := sorted(set((await http.form()).keys()) - {"file"}):
            raise unsupported(unknown[0])
        part = await state.media.decode(kind_of(file), await file.read(), "file")
        async with turn:
            known = await run_in_threadpool(registry.provenance, part)
        results: list[dict[str, Any]] = [
            {
                "type": "metadata",
                "outcome": OUTCOMES[bool(known.declared)],
                "model": known.declared or None,
                "generated_at": None,
            }
        ]
        if known.evidence is not None:
            results.append(
                {
                    "type": "watermark", "outcome": OUTCOMES[known.is_marked], "model": "Plait" if known.is_marked else None,
                    "generated_at": None, "evidence": round(float(known.evidence), 2), "needed": known.needed,
                }
            )  # fmt: skip
        return {"object": "content_provenance_check", "created_at": int(time.time()), "results": results}

    return routes
