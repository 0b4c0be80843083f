"""The same application on Ray Serve: replicas on one machine or many, an engine each, behind one ingress.

A replica that dies takes no request with it that was not a stream: the ingress asks another one (docs/adr/0037-ray.md).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from plait import api
from plait.errors import ConfigError
from plait.runtime.parallel import use_threads
from plait.serve.app import create_app
from plait.serve.errors import ApiError, OverloadedError
from plait.serve.guard import BODY_SECONDS, Access, admitted
from plait.serve.state import Limits

if TYPE_CHECKING:
    from starlette.types import Message, Scope


NAME = "plait"
TRIES = 3  # replicas that a request may be given to, one after the other
STREAMED = ("text/event-stream", "audio/")  # kinds of answers that go out as they come
MOST_OPEN = 10_000  # connections
RETRY_AFTER = 2  # seconds
DEATHS = (ActorDiedError, ActorUnavailableError, WorkerCrashedError)  # of a replica: nothing that it would do again
UNDER_WAY = 32  # requests of one replica: more replicas are started for more, where they may be


class Replica:
    """An application of its own, with its engines."""

    def __init__(self, setup: Setup, threads: int) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)  # Ray shows it, and keeps it in files
        use_threads(threads)
        models = {name: api.load(path) for name, path in setup.named.items()}
        self.app = create_app(models, access=setup.access, conversations=setup.conversations, marks=setup.marks)
        self.begun: asyncio.Task[Any] | None = None
        self.alive: Any = None

    async def _begin(self) -> None:
        """Start the application, once, on the loop that answers."""

        async def start() -> None:
            self.alive = self.app.router.lifespan_context(self.app)
            await self.alive.__aenter__()

        if self.begun is None:
            self.begun = asyncio.ensure_future(start())
        await asyncio.shield(self.begun)

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[Any]:
        """The status and the headers of the answer to a request, then its bytes, piece by piece."""
        await self._begin()
        sent: asyncio.Queue[Message | None] = asyncio.Queue()
        gone = asyncio.Event()
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            try:
                await self.app(scope, receive, sent.put)
            finally:
                await sent.put(None)

        answering = asyncio.ensure_future(run())
        try:
            while (message := await sent.get()) is not None:
                if message["type"] == "http.response.start":
                    yield message["status"], message["headers"]
                elif message.get("body"):
                    yield message["body"]
            await answering  # raises what failed
        finally:
            gone.set()

    async def check_health(self) -> None:
        """Raise if a worker does not answer any more."""
        served = self.app.state.plait.served.values()
        if self.begun is not None and self.begun.done() and not all(each.worker.is_alive for each in served):
            raise RuntimeError("an engine does not answer any more")


class Ingress:
    """What listens: it passes requests on, and asks again where a replica dies before it has answered."""

    def __init__(self, replicas: Any, access: Access) -> None:
        self.replicas, self.access = replicas.options(method_name="answer", stream=True), access

    async def __call__(self, request: Request) -> Response:
        """Every path and method."""
        try:
            if request.url.path == "/healthz":
                return JSONResponse({"status": "ok"})
            if request.method != "OPTIONS":
                admitted(self.access, request.scope, request.headers)
            return await self._answered(request, await asyncio.wait_for(_body(request), BODY_SECONDS))
        except asyncio.TimeoutError:
            error = ApiError(f"the body took longer than {BODY_SECONDS:.0f} s", 408)
        except BackPressureError:
            error = OverloadedError("too many requests wait; expected fewer", RETRY_AFTER)
        except DEATHS:
            error = ApiError(f"{TRIES} replicas died over this request; their logs say how", 503)
        except ApiError as refused:
            error = refused
        return JSONResponse(error.body(), error.status, error.headers)

    async def _answered(self, request: Request, body: bytes) -> Response:
        scope = _plain(request.scope)
        for last in (*[False] * (TRIES - 1), True):
            answer = self.replicas.remote(scope, body)
            try:
                status, headers = await anext(answer)
                kind = next((value.decode() for name, value in headers if name == b"content-type"), "")
                if kind.startswith(STREAMED):
                    return _with(headers, StreamingResponse(_until_gone(answer), status))
                return _with(headers, Response(b"".join([piece async for piece in answer]), status))
            except DEATHS:
                if last:
                    raise
        raise AssertionError("the last try returns or raises")


async def _body(request: Request) -> bytes:
    """The body of a request. Raises ApiError for one that is too large."""
    limit, body = Limits().body, bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise ApiError(f"got more than {limit} bytes; expected at most that many", 413)
    return bytes(body)


async def _until_gone(answer: Any) -> AsyncIterator[bytes]:
    """The pieces of an answer; its replica hears of it if nobody waits for them any more."""
    try:
        async for piece in answer:
            yield piece
    finally:
        answer.cancel()


def _with(headers: list[tuple[bytes, bytes]], response: Response) -> Response:
    response.raw_headers = [(name.lower(), value) for name, value in headers]
    return response


def _plain(scope: Scope) -> dict[str, Any]:
    """What of a request's scope can be sent to another process."""
    names = (
        "type",
        "http_version",
        "method",
        "scheme",
        "path",
        "raw_path",
        "query_string",
        "root_path",
        "client",
        "server",
    )
    return {name: scope.get(name) for name in names} | {"headers": [tuple(each) for each in scope["headers"]]}


@dataclass(frozen=True)
class Setup:
    """What every replica serves: checkpoints by name, to whom, where conversations are kept, and whether media are marked."""

    named: Mapping[str, Path]
    access: Access
    conversations: Path | None = None
    marks: bool = True


def run(setup: Setup, host: str, port: int, replicas: int, say: Callable[[str], object] = print) -> None:
    """Serve by `replicas` engines until the process is told to end; 0: as many as requests need, one for each core at most. Joins
    the cluster that RAY_ADDRESS names, or starts one on this machine alone. Raises ConfigError, and what loading a checkpoint
    raises."""
    if not port:
        raise ConfigError(
            "got port 0 with --ray; expected the number of one that is free: Ray does not tell which it took"
        )
    for path in setup.named.values():
        api.load(path)  # a line that says what is wrong, before actors are started
    started = deploy(setup, host, port, replicas)
    shown_host = f"[{host}]" if ":" in host else host
    say(f"{', '.join(setup.named)} at http://{shown_host}:{port} by Ray  (API: /v1; Ctrl-C ends)")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    serve.delete(NAME)
    if started:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def deploy(setup: Setup, host: str, port: int, replicas: int) -> bool:
    """As `run`, without waiting; whether it started Ray itself. Raises ConfigError where Serve listens elsewhere already."""
    started = False
    if not ray.is_initialized():
        started = "RAY_ADDRESS" not in os.environ
        alone: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(**(alone if started else {}))
    serve.start(http_options={"host": host, "port": port})
    cores = os.cpu_count() or 1
    scaling: dict[str, Any] = {"num_replicas": replicas}
    if not replicas:
        scaling = {
            "autoscaling_config": {"min_replicas": 1, "max_replicas": cores, "target_ongoing_requests": UNDER_WAY}
        }
    limits, devices = Limits(), {"num_cpus": 0.5} | ({"num_gpus": 1} if torch.cuda.is_available() else {})
    engine: Any = serve.deployment(Replica)
    engines = engine.options(
        **scaling, max_ongoing_requests=limits.requests, max_queued_requests=limits.requests, ray_actor_options=devices,
        health_check_period_s=2,
    )  # fmt: skip
    threads = max(1, min(8, cores // (replicas or cores)))
    named = {name: path.resolve() if path.exists() else path for name, path in setup.named.items()}
    kept = None if setup.conversations is None else setup.conversations.resolve()
    bound = engines.bind(replace(setup, named=named, conversations=kept), threads)
    first: Any = serve.deployment(Ingress)
    ingress = first.options(max_ongoing_requests=MOST_OPEN, ray_actor_options={"num_cpus": 0}, health_check_period_s=2)
    serve.run(ingress.bind(bound, setup.access), name=NAME, route_prefix="/")
    return started
