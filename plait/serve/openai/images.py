"""`/v1/images/generations` and `/v1/images/edits`."""

from __future__ import annotations

import base64
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile
from fastapi import Request as HttpRequest
from pydantic import Field

from plait.contract import WORDS, Message, Part
from plait.infer.events import Answer
from plait.serve.answers import Asked, usage
from plait.serve.errors import ApiError, unsupported
from plait.serve.guard import caller_of
from plait.serve.media import encoded
from plait.serve.openai.chat import answers_at_most, sized
from plait.serve.openai.content import IMAGE
from plait.serve.openai.shapes import Request, Sampled, refuse
from plait.serve.state import Served, State

SIZE = r"^(auto|\d{1,4}x\d{1,4})$"
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": ("auto", "opaque"), "moderation": ("auto", "low"), "output_compression": (100,), "partial_images": (0,),
    "stream": (False,), "style": (), "response_format": ("b64_json",),
}  # fmt: skip


class ImageRequest(Sampled):
    """Pictures to draw. `quality` has no effect."""

    prompt: str = Field(min_length=1)
    model: str | None = None
    n: int = Field(1, ge=1)
    size: str | None = Field(None, pattern=SIZE)
    output_format: Literal["png", "jpeg", "webp"] = "png"
    quality: str | None = None
    background: str | None = None
    moderation: str | None = None
    output_compression: int | None = None
    partial_images: int | None = None
    stream: bool | None = None
    style: str | None = None
    response_format: str | None = None


def _drawn(answer: Answer, format: str) -> dict[str, Any]:
    for part in answer.message.parts:
        if part.type == IMAGE:
            return {"b64_json": base64.b64encode(encoded(part, format)[1]).decode()}
    raise ApiError("the model answered without a picture; ask otherwise, or with another seed", 500, code="no_picture")


def _response(answers: list[Answer], format: str, size: str | None) -> dict[str, Any]:
    tokens = usage([answer.usage for answer in answers])
    return {
        "created": int(time.time()),
        "data": [_drawn(answer, format) for answer in answers],
        "output_format": format,
        "size": size or "auto",
        "usage": {
            "input_tokens": tokens["prompt_tokens"],
            "output_tokens": tokens["completion_tokens"],
            "total_tokens": tokens["total_tokens"],
            "input_tokens_details": tokens["prompt_tokens_details"],
        },
    }


def _requests(body: ImageRequest, state: State, served: Served, parts: list[Part]) -> list[Request]:
    answers_at_most(state, body.n)
    if IMAGE not in served.writes:
        raise unsupported("model", f"{served.name} has not learned to draw; it answers in {', '.join(served.writes)}")
    question = (Message("user", (*parts, Part(WORDS, body.prompt))),)
    return body.requests(served.model.usual, [question], body.n, to=IMAGE, options=sized(body.size))


def router(state: State) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["images"])

    @routes.post("/v1/images/generations")
    async def generations(body: ImageRequest, http: HttpRequest) -> dict[str, Any]:
        """Draw what the prompt says."""
        refuse(body, NEUTRAL)
        served = state.find(body.model)
        asked = Asked(state, served, _requests(body, state, served, []), False, caller_of(http))
        return _response(await asked.answers(http), body.output_format, body.size)

    @routes.post("/v1/images/edits")
    async def edits(
        http: HttpRequest,
        prompt: Annotated[str, Form(min_length=1)],
        image: Annotated[list[UploadFile] | None, File()] = None,
        images: Annotated[list[UploadFile] | None, File(alias="image[]")] = None,
        model: Annotated[str | None, Form()] = None,
        n: Annotated[int, Form(ge=1)] = 1,
        size: Annotated[str | None, Form(pattern=SIZE)] = None,
        output_format: Annotated[Literal["png", "jpeg", "webp"], Form()] = "png",
    ) -> dict[str, Any]:
        """Draw pictures anew as the prompt says."""
        form = await http.form()
        known = {
            "prompt",
            "image",
            "image[]",
            "model",
            "n",
            "size",
            "output_format",
            "user",
            "quality",
            "response_format",
        }
        if unknown := sorted(set(form.keys()) - known):
            raise unsupported(unknown[0])
        if form.get("response_format") not in (None, "b64_json"):
            raise unsupported("response_format", f"got {form.get('response_format')!r}; expected 'b64_json'")
        files = [*(image or []), *(images or [])]
        if not files or len(files) > state.limits.media:
            raise ApiError(f"image: got {len(files)} files; expected 1 to {state.limits.media}", param="image")
        served = state.find(model)
        parts = [await state.media.decode(IMAGE, await file.read(), "image") for file in files]
        body = ImageRequest(prompt=prompt, model=model, n=n, size=size, output_format=output_format)
        asked = Asked(state, served, _requests(body, state, served, parts), False, caller_of(http))
        return _response(await asked.answers(http), output_format, size)

    return routes
