"""`/v1/detections`: where things are in a picture, with what was measured of that."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import Field

from plait import registry
from plait.contract import WORDS, Message, Part
from plait.serve.answers import Asked, usage
from plait.serve.errors import unsupported
from plait.serve.guard import caller_of
from plait.serve.media import from_url
from plait.serve.openai.chat import words_of
from plait.serve.openai.content import IMAGE
from plait.serve.openai.models import report_of
from plait.serve.openai.shapes import Body, Request
from plait.serve.state import Served, State

ASK = "Find every {label}."  # as the task `detect` asks
MEASURED = "F1 of boxes"
MOST_LABELS = 16
Label = Annotated[str, Field(min_length=1, max_length=100)]


class DetectionRequest(Body):
    """A picture, as a data: URL, and what to look for in it."""

    image: str
    labels: list[Label] = Field(min_length=1, max_length=MOST_LABELS)
    model: str | None = None
    max_tokens: int = Field(240, ge=1, le=4096)


def measured(served: Served) -> list[dict[str, Any]]:
    """The figures of a model's report that say how well it finds things."""
    return [cell for cell in report_of(served)["cells"] if cell["metric"] == MEASURED]


def router(state: State) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["detections"])

    @routes.post("/v1/detections")
    async def detections(body: DetectionRequest, http: HttpRequest) -> dict[str, Any]:
        """Boxes [x1, y1, x2, y2] in pixels, of each label asked for, and the figures of the model's report. A model without such
        figures is not asked."""
        served, places = state.find(body.model), registry.places(IMAGE)
        figures = measured(served)
        if not figures or places is None:
            raise unsupported("model", f"{served.name}'s report measures no boxes")
        picture = await state.media.decode(IMAGE, from_url(body.image, "image"), "image")
        height, width = picture.value.shape[:2]
        requests = [
            Request(
                (Message("user", (picture, Part(WORDS, ASK.format(label=label)))),), to=WORDS,
                **served.model.usual | {"temperature": 0.0}, max_tokens=body.max_tokens,
            )
            for label in body.labels
        ]  # fmt: skip
        answers = await Asked(state, served, requests, False, caller_of(http)).answers(http)
        boxes = [
            {"label": label, "box": box["box"]}
            for label, answer in zip(body.labels, answers, strict=True)
            for box in places.boxes_in_text(words_of(answer), (width, height))
        ]
        return {
            "object": "list", "model": served.name, "size": [width, height], "data": boxes, "measured": figures,
            "usage": usage([answer.usage for answer in answers]),
        }  # fmt: skip

    return routes
