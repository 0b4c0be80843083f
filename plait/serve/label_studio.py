"""A machine learning backend of Label Studio: `/label-studio/health`, `/setup`, `/predict` and `/webhook`, for the first model or one by name.

Add it in Label Studio under Settings, Model, as `http://HOST:PORT/label-studio` or `.../label-studio/NAME`. Media are fetched from one Label
Studio alone: that of the environment's LABEL_STUDIO_URL, with the token LABEL_STUDIO_API_KEY, as Label Studio's own backends are set up.
What `/setup` says of hosts and tokens is not used: whoever reaches this server could say it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import BaseModel, ConfigDict, Field

from plait.annotate.formats.label_studio import Control, controls, results
from plait.annotate.guessing import Weighing, asking
from plait.annotate.kinds import known
from plait.contract import WORDS, Message, Part, Sample
from plait.errors import ConfigError, PlaitError
from plait.infer.likelihood import pair_log_likelihoods
from plait.serve.answers import Asked
from plait.serve.errors import ApiError
from plait.serve.guard import caller_of
from plait.serve.media import from_url
from plait.serve.state import Served, State

log = logging.getLogger("plait.serve.label_studio")
URL, TOKEN = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
SECONDS = 85.0  # for the tasks of one request: Label Studio waits for 100
FETCHING = 20.0  # for one medium
MOST_TASKS = 1000
MEDIA = ("/data/", "/storage-data/", "/tasks/", "/projects/")  # where it has them: the token goes nowhere else
JWT_PARTS = 3  # of a personal access token, which is exchanged for one of some minutes


class LabelStudioRequest(BaseModel):
    """A request of Label Studio's, of which more may come than is used here."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Task(LabelStudioRequest):
    """What a task shows, by key."""

    id: int | str | None = None
    data: dict[str, Any]


class Predict(LabelStudioRequest):
    """Tasks, and the labelling configuration that asks about them."""

    tasks: list[Task] = Field(max_length=MOST_TASKS)
    label_config: str


class Setup(LabelStudioRequest):
    """A project's labelling configuration."""

    label_config: str = Field("", alias="schema")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        """Follow none: it could lead anywhere."""
        return


class LabelStudio:
    """The Label Studio at `url`, whose media are fetched with `token`: a legacy one, or a personal access token (a JWT that refreshes)."""

    def __init__(self, url: str, token: str, most: int) -> None:
        self.url, self.token, self.most = url.rstrip("/"), token, most
        self.opener = urllib.request.build_opener(_NoRedirects)
        self.access, self.until = "", 0.0

    async def data(self, value: str) -> bytes:
        """The bytes of a medium that a task names. Raises ApiError."""
        if value.startswith("data:"):
            return from_url(value, "tasks")
        address = urllib.parse.urljoin(f"{self.url}/", urllib.parse.quote(value, safe="/:?=&%#@+,;~()!*'$"))
        if not self.url or not address.startswith(tuple(f"{self.url}{place}" for place in MEDIA)):
            raise ApiError(
                f"{value[:100]} is no medium of {self.url or 'a known Label Studio'}; expected it below {' or '.join(MEDIA)} there: set {URL}"
            )
        try:
            return await asyncio.to_thread(self._fetched, address)
        except (OSError, ValueError, KeyError, HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise ApiError(f"{value[:100]} cannot be fetched: {error}; expected {TOKEN} to allow it") from error

    def _fetched(self, address: str) -> bytes:
        with self.opener.open(urllib.request.Request(address, headers=self._headers()), timeout=FETCHING) as response:
            data: bytes = response.read(self.most + 1)
        if len(data) > self.most:
            raise ValueError(f"it has more than {self.most} bytes")
        return data

    def _headers(self) -> dict[str, str]:
        if not self.token:
            return {}
        if self.token.count(".") != JWT_PARTS - 1:
            return {"Authorization": f"Token {self.token}"}
        if time.monotonic() > self.until:
            body = json.dumps({"refresh": self.token}).encode()
            request = urllib.request.Request(
                f"{self.url}/api/token/refresh", body, {"Content-Type": "application/json"}
            )
            with self.opener.open(request, timeout=FETCHING) as response:
                self.access = json.loads(response.read(1 << 16))["access"]
            self.until = time.monotonic() + 60  # they last five minutes
        return {"Authorization": f"Bearer {self.access}"}


class Backend:
    """Answers Label Studio with a model's guesses."""

    def __init__(self, state: State, studio: LabelStudio) -> None:
        self.state, self.studio = state, studio

    def version(self, served: Served) -> str:
        """The name under which Label Studio keeps predictions: another one where the weights are others, the same after a restart."""
        return f"{served.name} {str(served.model.config.get('config_sha256') or served.created)[:12]}"

    async def predicted(self, body: Predict, served: Served, http: HttpRequest) -> list[Any]:
        """A prediction a task; none ([]) where the model has none, or where it was not reached in time: it is asked for again."""
        asked, until, shapes = answerable(body.label_config), time.monotonic() + SECONDS, []
        for task in body.tasks:
            try:
                remaining = until - time.monotonic()
                shapes.append(
                    await asyncio.wait_for(self._prediction(task, asked, served, http), remaining)
                    if remaining > 0
                    else []
                )
            except (PlaitError, ApiError, TimeoutError, asyncio.TimeoutError) as error:
                log.warning("task %s: %s", task.id, error or "not in time")
                shapes.append([])
        return shapes

    async def _prediction(self, task: Task, asked: list[Control], served: Served, http: HttpRequest) -> dict[str, Any]:
        listed: list[dict[str, Any]] = []
        doubts = []
        for control in asked:
            value, doubt = await self._guess(await self._sample(task, control), control, served, http)
            listed += results(value, control)
            doubts += [] if doubt is None else [doubt]
        score = 1 - sum(doubts) / len(doubts) if doubts else None
        return {"result": listed, "score": score, "model_version": self.version(served)}

    async def _sample(self, task: Task, control: Control) -> Sample:
        """The row of a task. Raises ApiError."""
        value = task.data.get(control.key)
        if not isinstance(value, str):
            raise ApiError(
                f"tasks: got {value!r:.60} under {control.key!r}; expected the text or the address that {control.shows} shows"
            )
        part = (
            Part(WORDS, value)
            if control.kind == WORDS
            else await self.state.media.decode(control.kind, await self.studio.data(value), "tasks")
        )
        return Sample((Message("user", (part,)),))

    async def _guess(
        self, sample: Sample, control: Control, served: Served, http: HttpRequest
    ) -> tuple[Any, float | None]:
        question = control.question
        questions = asking(sample, question)
        if isinstance(questions, Weighing):
            return questions.settled(
                await served.worker.call(lambda: pair_log_likelihoods(served.model.engine, questions.pairs))
            )
        requests = questions.requests(served.model.usual)
        return questions.settled(await Asked(self.state, served, requests, False, caller_of(http)).answers(http))


def answerable(config: str) -> list[Control]:
    """The controls of a configuration about what a task shows; not those that judge an answer. Raises ConfigError."""
    asked = [control for control in controls(config) if not known(control.question.kind).needs_answer]
    if not asked:
        raise ConfigError(
            "got a labelling configuration that only judges; expected Choices, TextArea or RectangleLabels"
        )
    return asked


def router(state: State) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["label studio"])
    backend = Backend(state, LabelStudio(os.environ.get(URL, ""), os.environ.get(TOKEN, ""), state.limits.body))
    places = ("/label-studio", "/label-studio/{model}")

    async def health(model: str | None = None) -> dict[str, Any]:
        """Whether the model is there; at once, since Label Studio waits for a second."""
        return {"status": "UP", "model_class": "Plait", "model_version": backend.version(state.find(model))}

    async def setup(body: Setup, model: str | None = None) -> dict[str, Any]:
        """Whether a project's configuration asks what can be answered."""
        if body.label_config:
            answerable(body.label_config)
        return {"model_version": backend.version(state.find(model))}

    async def predict(body: Predict, http: HttpRequest, model: str | None = None) -> dict[str, Any]:
        """Guesses about tasks."""
        served = state.find(model)
        return {"results": await backend.predicted(body, served, http), "model_version": backend.version(served)}

    async def webhook(body: LabelStudioRequest, model: str | None = None) -> dict[str, str]:
        """Nothing is trained by it: what people say is taken in by `plait annotations take`, from an export."""
        state.find(model)
        return {"status": "not used"}

    for place in places:
        routes.add_api_route(f"{place}/health", health, methods=["GET"])
        routes.add_api_route(f"{place}/setup", setup, methods=["POST"])
        routes.add_api_route(f"{place}/predict", predict, methods=["POST"])
        routes.add_api_route(f"{place}/webhook", webhook, methods=["POST"])
    return routes
