"""Pages on which people give: the routes under `/collect` of a collection (plait.collect), and the application around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from pydantic import Field

import plait
from plait.collect import withdrawal
from plait.collect.consent import NEEDED, PURPOSES, translations
from plait.collect.project import MEDIA, Collection, Contribution, NotGoodError
from plait.collect.prompts import Prompt
from plait.contract import WORDS, Part
from plait.errors import ConfigError
from plait.runtime.persons import canonical
from plait.serve import errors
from plait.serve.errors import ApiError
from plait.serve.guard import Access, caller_of
from plait.serve.media import MediaDecoder, from_url
from plait.serve.people import SHOWN, Caller, with_pages
from plait.serve.state import Limits

LARGEST = 32 << 20  # bytes of a request


class Agreed(Caller):
    """What a person agrees to, of a version of the text."""

    version: str = Field(max_length=100)
    purposes: list[str] = Field(max_length=20)


class Gift(Caller):
    """What a person made for a prompt: words, or a data: URL. `id` is new with every item, so that what is sent twice is kept once."""

    id: str = Field(min_length=1, max_length=100)
    prompt: str = Field(max_length=100)
    words: str | None = Field(None, max_length=20_000)
    data: str | None = None


class Vote(Caller):
    """Whether somebody else's item will do."""

    item: str = Field(max_length=100)
    is_good: bool


class Withdrawal(Caller):
    """Items that a person takes back; None: all of them, and the consent."""

    items: list[str] | None = Field(None, max_length=10_000)


def _prompt(prompt: Prompt | None) -> dict[str, Any] | None:
    return None if prompt is None else {"id": prompt.id, "type": prompt.type, "prompt": prompt.words, "how": prompt.how}


def _item(collection: Collection, item: Contribution | None, is_mine: bool = False) -> dict[str, Any] | None:
    """An item as the pages have it, without whose it is."""
    if item is None:
        return None
    shown = {"words": item.words} if item.file is None else {"url": f"/collect/items/{item.id}/medium"}
    shape = {"id": item.id, "type": item.type, "prompt": collection.prompts[item.prompt].words, **shown}
    return shape | ({"standing": collection.standing(item.id), "at": item.at} if is_mine else {})


def _there(collection: Collection, item: str) -> Contribution:
    """An item. Raises ApiError."""
    try:
        return collection.find(item)
    except ConfigError as error:
        raise ApiError(str(error), 404, code="not_found") from error


def router(collection: Collection, decoder: MediaDecoder) -> APIRouter:
    """The routes. Where keys are asked for, persons are called as their keys are; otherwise as they say."""
    routes = APIRouter(prefix="/collect", tags=["collect"])

    @routes.get("/project")
    def about(http: HttpRequest, person: str = "") -> dict[str, Any]:
        """What people agree to, what this one agreed to, and how far it is."""
        person, terms = caller_of(http) or person, collection.terms
        assert terms is not None
        return {
            "person": person, "is_named": bool(caller_of(http)), "agreed": collection.purposes(person) if person else (), "status": collection.status(),
            "consent": {
                "version": terms.version, "terms": terms.text, "purposes": PURPOSES, "needed": NEEDED,
                "translations": translations(terms.text, collection.plan.licence),
            },
            "licence": collection.plan.licence,
        }  # fmt: skip

    @routes.post("/consents")
    def agree(body: Agreed, http: HttpRequest) -> dict[str, Any]:
        """Keep what a person agrees to."""
        person = caller_of(http) or body.person
        collection.agree(person, body.version, body.purposes)
        return {"agreed": collection.purposes(person)}

    @routes.post("/next")
    def next_prompt(body: Caller, http: HttpRequest) -> dict[str, Any]:
        """What a person is asked to make next."""
        return {"prompt": _prompt(collection.next(caller_of(http) or body.person))}

    @routes.post("/items")
    async def give(body: Gift, http: HttpRequest) -> dict[str, Any]:
        """Keep what a person made; the next prompt comes back. 422 says why something will not do."""
        return await _given(collection, decoder, body, caller_of(http) or body.person)

    @routes.get("/items/{item}/medium")
    def medium(item: str, http: HttpRequest, person: str = "") -> Response:
        """The picture or clip of an item, for whoever gave it or agreed to what others agreed to."""
        contribution, person = _there(collection, item), caller_of(http) or person
        if not person or (canonical(person) != contribution.person and not collection.purposes(person)):
            raise ApiError("this is for those who take part; expected a consent first", 403, code="no_consent")
        path = collection.folder / MEDIA / (contribution.file or "none")
        if contribution.file is None or not path.is_file():
            raise ApiError(f"the item {item} has no medium", 404, code="not_found")
        return FileResponse(
            path, media_type=SHOWN.get(path.suffix, "application/octet-stream"), headers={"Cache-Control": "no-store"}
        )

    return routes


def returns(collection: Collection, also: Sequence[Path]) -> APIRouter:
    """The routes by which people see what they gave, and take it back."""
    routes = APIRouter(prefix="/collect", tags=["collect"])

    @routes.get("/items")
    def mine(http: HttpRequest, person: str = "") -> dict[str, Any]:
        """What a person gave."""
        return {"items": [_item(collection, item, True) for item in collection.items_of(caller_of(http) or person)]}

    @routes.post("/withdrawals")
    def withdraw(body: Withdrawal, http: HttpRequest) -> dict[str, Any]:
        """Take items back: from here, and from the data sets that were written from here."""
        removal = withdrawal.withdraw(collection, caller_of(http) or body.person, body.items, also)
        return {"items": removal.items, "rows": sum(removal.rows.values()), "left": removal.left}

    return routes


async def _given(collection: Collection, decoder: MediaDecoder, body: Gift, person: str) -> dict[str, Any]:
    """What a person made, kept, and the next prompt. Raises ApiError."""
    prompt = collection.prompts.get(body.prompt)
    if prompt is None:
        raise ApiError(
            f"the prompt {body.prompt!r:.40} is not here; expected one of this collection's", 404, code="not_found"
        )
    if (body.words is None) == (body.data is None):
        raise ApiError("got both of words and data, or none; expected one of them", param="data")
    part = (
        Part(WORDS, body.words)
        if body.data is None
        else await decoder.decode(prompt.type, from_url(body.data, "data"), "data")
    )
    try:
        item = await run_in_threadpool(collection.give, person, prompt.id, part, body.id)
    except NotGoodError as error:
        raise ApiError(str(error), 422, code="will_not_do") from error
    following = await run_in_threadpool(collection.next, person)
    return {"item": await run_in_threadpool(_item, collection, item, True), "prompt": _prompt(following)}


def reviews(collection: Collection) -> APIRouter:
    """The routes of those who say whether others' items will do."""
    routes = APIRouter(prefix="/collect", tags=["collect"])

    @routes.post("/reviews/next")
    def to_review(body: Caller, http: HttpRequest) -> dict[str, Any]:
        """Somebody else's item, to say whether it will do."""
        return {"item": _item(collection, collection.to_review(caller_of(http) or body.person))}

    @routes.post("/votes")
    def vote(body: Vote, http: HttpRequest) -> dict[str, Any]:
        """Keep whether an item will do; the next one to review comes back."""
        person = caller_of(http) or body.person
        _there(collection, body.item)
        standing = collection.vote(person, body.item, body.is_good)
        return {"standing": standing, "item": _item(collection, collection.to_review(person))}

    return routes


def create_app(collection: Collection, access: Access | None = None, also: Sequence[Path] = ()) -> FastAPI:
    """An application on whose pages people give. `also`: folders that a withdrawal clears beside the data sets that were written, such as runs."""
    decoder = MediaDecoder()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(withdrawal.finish, collection, also)
        yield
        await decoder.close()

    app = FastAPI(title="Plait", version=plait.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    errors.install(app)
    app.include_router(router(collection, decoder))
    app.include_router(returns(collection, also))
    app.include_router(reviews(collection))
    return with_pages(app, "collect", access or Access(), Limits(body=LARGEST))
