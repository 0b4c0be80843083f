"""`/v1/models`, and what the pages build themselves from: `/modalities`."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from fastapi import APIRouter

from plait import registry
from plait.serve.state import Served, State

REPORT = "report.json"


def described(served: Served) -> dict[str, Any]:
    """A model, with its longest sequence and what it reads and writes."""
    network = served.model.network
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "plait",
        "max_model_len": served.model.longest,
        "architecture": {"input_modalities": served.reads, "output_modalities": served.writes},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "base": network.base.name if network.base else None,
    }


def manifest(state: State) -> dict[str, Any]:
    """Every modality that a model here knows: how it is sent, in which formats, and which models read and write it."""
    kinds = sorted({kind for served in state.served.values() for kind in served.reads})
    modalities = []
    for kind in kinds:
        transfer, render = registry.transfers(kind), registry.renders(kind)
        of_all = [
            served.model.network.vocabulary.modalities[kind] for served in state.served.values() if kind in served.reads
        ]
        modalities.append(
            {
                "name": kind,
                "head": of_all[0].head,
                "verb": render.verb() if render else kind,
                "files": list(registry.suffixes(kind)),
                "formats": dict(transfer.formats()) if transfer else {},
                "read_by": [served.name for served in state.served.values() if kind in served.reads],
                "written_by": [served.name for served in state.served.values() if kind in served.writes],
            }
        )
    return {"modalities": modalities}


def report_of(served: Served) -> dict[str, Any]:
    """What was measured of a model: the report.json of its checkpoint, or of the run around it; no cells without one."""
    folder = served.model.folder
    for place in (folder, *folder.parents[:2]) if folder is not None else ():
        with contextlib.suppress(OSError, ValueError):
            report = json.loads((place / REPORT).read_text(encoding="utf-8"))
            kept = ("cell", "task", "split", "metric", "value", "ci95", "n", "baseline", "higher_is_better", "target")
            cells = [{key: cell.get(key) for key in kept} for cell in report["cells"]]
            return {"model": served.name, "cells": cells, "commit": report.get("commit")}
    return {"model": served.name, "cells": [], "commit": None}


def router(state: State) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["models"])

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """All models that are served."""
        return {"object": "list", "data": [described(served) for served in state.served.values()]}

    @routes.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        return described(state.find(name))

    @routes.get("/reports/{name:path}")
    def report(name: str) -> dict[str, Any]:
        """What was measured of one of them, cell by cell."""
        return report_of(state.find(name))

    @routes.get("/modalities")
    async def modalities() -> dict[str, Any]:
        """The modalities of the models, for clients that build themselves."""
        return manifest(state)

    return routes
