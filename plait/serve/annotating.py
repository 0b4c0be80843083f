"""Pages on which people say what is in data: the routes under `/annotate` of a project (plait.annotate), and the application around them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi import Request as HttpRequest
from fastapi.responses import FileResponse, Response
from pydantic import Field

import plait
from plait import registry
from plait.annotate import items, review
from plait.annotate.kinds import known
from plait.annotate.project import Project
from plait.annotate.store import ANSWER, DECIDE, SKIP, Item
from plait.contract import WORDS, Message, Part, Sample
from plait.data.media import to_blob
from plait.runtime.persons import canonical
from plait.serve import errors
from plait.serve.errors import ApiError
from plait.serve.guard import Access, caller_of
from plait.serve.media import encoded
from plait.serve.people import SHOWN, Caller, with_pages
from plait.serve.state import Limits

MOST_LISTED = 200  # disputes at once
AS_IT_IS = 16 << 20  # bytes of a file that browsers show, and that is sent as it is
NOT_A_REVIEWER = ApiError(
    "this is for reviewers; expected one of those that the project names (reviewers=...), by key where there are keys",
    403,
    code="not_a_reviewer",
)


class Answered(Caller):
    """What a person says of an item. `id` is new with every answer, so that what is sent twice is kept once."""

    id: str = Field(min_length=1, max_length=100)
    item: str = Field(max_length=100)
    value: Any = None
    seconds: float | None = Field(None, ge=0, le=1e7)


class Undone(Caller):
    """A person takes back the last thing that they said."""

    id: str = Field(min_length=1, max_length=100)


class Pages:
    """What the routes of a project share: the project, the folder of its media, what turns rows into what is shown."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project, self.folder = project, folder
        self.modalities = registry.build_all(registry.available())

    def sample(self, id: str) -> Sample:
        """The row of an item. Raises ApiError, RowError."""
        item = self.project.items.get(id)
        if item is None:
            raise ApiError(f"the item {id!r:.60} is not here; expected one of this project's", 404, code="not_found")
        return items.sample_of(item, self.folder, self.modalities)

    def shown(self, item: Item | None, person: str = "") -> dict[str, Any] | None:
        """An item as the page has it: the conversation, the answers that it is about, what models guess. Never what others say, nor whether
        its answer is known."""
        if item is None:
            return None
        before, answers = items.conversation(items.sample_of(item, self.folder, self.modalities))
        number, shows = itertools.count(), known(self.project.question.kind).shows_answer
        shape = {
            "id": item.id,
            "messages": [self._message(message, item.id, number) for message in before],
            "answers": [[self._message(message, item.id, number) for message in answer] for answer in answers]
            if shows
            else [],
        }
        with self.project.lock:  # a model may guess meanwhile
            predictions = [*self.project.predictions.get(item.id, {}).values()]
        guesses = [
            {"model": guess.model, "value": guess.value, "uncertainty": guess.uncertainty} for guess in predictions
        ]
        vote = self.project.votes[item.id].get(canonical(person)) if person else None
        return shape | {"guesses": guesses, "answered": vote.value if vote else None}

    def keep(self, kind: str, body: Answered, http: HttpRequest) -> dict[str, Any]:
        """Keep what a person says of an item. Raises ApiError, ConfigError."""
        person = caller_of(http) or body.person
        if body.item not in self.project.items:
            raise ApiError(
                f"the item {body.item!r:.60} is not here; expected one of this project's: ask for the next",
                404,
                code="not_found",
            )
        if kind == DECIDE and not self.project.may_decide(person):
            raise NOT_A_REVIEWER
        event = self.project.say(kind, body.item, person, body.value, body.id, body.seconds)
        following = {} if kind == DECIDE else {"item": self.shown(self.project.next(person), person)}
        return {"is_new": event is not None, **following, "progress": self.project.progress(person)}

    def _message(self, message: Message, item: str, number: Any) -> dict[str, Any]:
        return {"role": message.role, "parts": [self._part(part, item, next(number)) for part in message.parts]}

    def _part(self, part: Part, item: str, number: int) -> dict[str, Any]:
        if part.type == WORDS:
            return {"type": WORDS, WORDS: part.value}
        has_places = registry.places(part.type) is not None
        return {"type": part.type, "url": f"/annotate/items/{item}/media/{number}", "has_places": has_places}

    def medium(self, id: str, number: int) -> Response:
        """A part of an item as a browser shows it: its file as it is where that will do. Raises ApiError, RowError."""
        before, answers = items.conversation(self.sample(id))
        parts = [part for message in (*before, *(m for answer in answers for m in answer)) for part in message.parts]
        if not 0 <= number < len(parts) or parts[number].type == WORDS:
            raise ApiError(f"the item {id} has no medium {number}", 404, code="not_found")
        part = parts[number]
        path = Path(part.value) if isinstance(part.value, str | Path) else None
        if path is not None and not path.is_file():
            raise ApiError(
                f"{path.name} is not in the folder any more; expected it where it was", 404, code="not_found"
            )
        headers = {"Cache-Control": "private, max-age=3600"}
        is_inside = path is not None and path.resolve().is_relative_to(self.folder.resolve())  # a link is decoded first
        if path is not None and is_inside and path.suffix.lower() in SHOWN and path.stat().st_size <= AS_IT_IS:
            return FileResponse(path, media_type=SHOWN[path.suffix.lower()], headers=headers)
        if registry.transfers(part.type) is None:
            return Response(to_blob(part.value).data, media_type="application/octet-stream", headers=headers)
        media_type, data, _ = encoded(part)
        return Response(data, media_type=media_type, headers=headers)


def router(pages: Pages) -> APIRouter:
    """The routes of those who answer. Where keys are asked for, persons are called as their keys are; otherwise as they say."""
    routes, project = APIRouter(prefix="/annotate", tags=["annotate"]), pages.project

    @routes.get("/project")
    def about(http: HttpRequest, person: str = "") -> dict[str, Any]:
        """What is asked, how far it is, and who asks."""
        person = caller_of(http) or person
        return {
            "question": project.question.as_json(), "overlap": project.plan.overlap, "person": person, "is_named": bool(caller_of(http)),
            "can_review": project.may_decide(person), "progress": project.progress(person),
        }  # fmt: skip

    @routes.post("/next")
    def next_item(body: Caller, http: HttpRequest) -> dict[str, Any]:
        """The item that a person is asked about next."""
        person = caller_of(http) or body.person
        return {"item": pages.shown(project.next(person), person), "progress": project.progress(person)}

    @routes.post("/answers")
    def answer(body: Answered, http: HttpRequest) -> dict[str, Any]:
        """Keep an answer; the next item comes back."""
        return pages.keep(ANSWER, body, http)

    @routes.post("/skips")
    def skip(body: Answered, http: HttpRequest) -> dict[str, Any]:
        """Pass over an item; the next one comes back."""
        return pages.keep(SKIP, body, http)

    @routes.post("/undo")
    def undo(body: Undone, http: HttpRequest) -> dict[str, Any]:
        """Take back what a person said last; its item comes back."""
        person = caller_of(http) or body.person
        item = project.undo(person, body.id) or project.next(person)
        return {"item": pages.shown(item, person), "progress": project.progress(person)}

    @routes.get("/items/{item}/media/{number}")
    def medium(item: str, number: int) -> Response:
        """A picture or clip of an item."""
        return pages.medium(item, number)

    return routes


def reviews(pages: Pages) -> APIRouter:
    """The routes of those who decide."""
    project = pages.project

    def check(http: HttpRequest, person: str = "") -> None:
        if not project.may_decide(caller_of(http) or person):
            raise NOT_A_REVIEWER

    routes = APIRouter(prefix="/annotate", tags=["annotate"])

    @routes.post("/decisions")
    def decide(body: Answered, http: HttpRequest) -> dict[str, Any]:
        """Settle an item, whatever others say."""
        return pages.keep(DECIDE, body, http)

    @routes.get("/statistics", dependencies=[Depends(check)])
    def statistics() -> dict[str, Any]:
        """Progress, agreement, and how each person does."""
        return review.statistics(project)

    @routes.get("/disputes", dependencies=[Depends(check)])
    def disputes(limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20) -> dict[str, Any]:
        """Items that a reviewer should decide, the furthest apart first."""
        listed = review.disputes(project)
        shapes = [
            (pages.shown(dispute.item) or {}) | {
                "distance": dispute.distance, "by_person": dict(dispute.answers), "passed_over": list(dispute.passed_over),
                "settled": dispute.settled.value if dispute.settled else None,
            }
            for dispute in listed[:limit]
        ]  # fmt: skip
        return {"count": len(listed), "items": shapes}

    return routes


def create_app(
    project: Project,
    folder: Path,
    access: Access | None = None,
    limits: Limits | None = None,
    lifetime: Callable[[], Any] | None = None,
) -> FastAPI:
    """An application that asks people about the items of a project, whose media lie in `folder`. `lifetime`: what is called once it
    runs; what that returns is called when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        end = lifetime() if lifetime else None
        yield
        if end:
            end()

    app = FastAPI(title="Plait", version=plait.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    errors.install(app)
    pages = Pages(project, folder)
    app.include_router(router(pages))
    app.include_router(reviews(pages))
    return with_pages(app, "annotate", access or Access(), limits or Limits())
