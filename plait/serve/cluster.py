"""The same application on Ray Serve: replicas on one machine or many, an engine each, behind one door.

A replica that dies takes no request with it that was not a stream: the door asks another one (docs/adr/0037-ray.md).
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.exceptions import RayError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from plait.serve.errors import ApiError
from plait.serve.state import Limits

if TYPE_CHECKING:
    from starlette.types import Message, Scope

    from plait.serve.guard import Access

NAME = "plait"
TRIES = 3  # replicas that a request may be given to, one after the other
STREAMED = ("text/event-stream", "audio/")  # kinds of answers that go out as they come
UNDER_WAY = 32  # requests of one replica: more replicas are started for more, where they may be


class Replica:
    """An application of its own, with its engines. `named`: checkpoints by name."""

    def __init__(
        self, named: Mapping[str, str], access: Access, conversations: str | None, marks: bool, threads: int
    ) -> None:
        from plait import api
        from plait.runtime.parallel import use_threads
        from plait.serve.app import create_app

        use_threads(threads)
        models = {name: api.load(Path(path)) for name, path in named.items()}
        kept = Path(conversations) if conversations is not None else None
        self.app = create_app(models, access=access, conversations=kept, marks=marks)
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


class Door:
    """What listens: it passes requests on, and asks again where a replica dies before it has answered."""

    def __init__(self, replicas: Any) -> None:
        self.replicas = replicas.options(method_name="answer", stream=True)

    async def __call__(self, request: Request) -> Response:
        """Every path and method."""
        limits, body = Limits(), bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > limits.body:
                error = ApiError(f"the body is larger than {limits.body} bytes; expected less", 413)
                return JSONResponse(error.body(), 413)
        scope = _plain(request.scope)
        for last in (*[False] * (TRIES - 1), True):
            answer = self.replicas.remote(scope, bytes(body))
            try:
                status, headers = await anext(answer)
                kind = next((value.decode() for name, value in headers if name == b"content-type"), "")
                if kind.startswith(STREAMED):
                    return _with(headers, StreamingResponse(_until_gone(answer), status))
                return _with(headers, Response(b"".join([piece async for piece in answer]), status))
            except RayError:
                if last:
                    raise
        raise AssertionError("the last try returns or raises")


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


def run(
    named: Mapping[str, Path],
    address: tuple[str, int],
    access: Access,
    conversations: Path | None,
    marks: bool,
    replicas: int,
    say: Callable[[str], object] = print,
) -> None:
    """Serve checkpoints by `replicas` engines until the process is told to end; 0: as many as requests need, one for each core
    at most. Joins the cluster that RAY_ADDRESS names, or starts one on this machine alone."""
    deploy(named, address, access, conversations, marks, replicas)
    say(f"{', '.join(named)} at http://{address[0]}:{address[1]} by Ray  (API: /v1; Ctrl-C ends)")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


def deploy(
    named: Mapping[str, Path],
    address: tuple[str, int],
    access: Access,
    conversations: Path | None,
    marks: bool,
    replicas: int,
) -> None:
    """As `run`, without waiting."""
    cores = os.cpu_count() or 1
    if not ray.is_initialized():
        if "RAY_ADDRESS" in os.environ:
            ray.init()
        else:
            ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    serve.start(http_options={"host": address[0], "port": address[1]})
    scaling: dict[str, Any] = {"num_replicas": replicas}
    if not replicas:
        most = {"min_replicas": 1, "max_replicas": cores, "target_ongoing_requests": UNDER_WAY}
        scaling = {"autoscaling_config": most}
    engine: Any = serve.deployment(Replica)
    engines = engine.options(
        **scaling, max_ongoing_requests=Limits().requests, ray_actor_options={"num_cpus": 0.5}, health_check_period_s=2,
    )  # fmt: skip
    threads = max(1, cores // (replicas or cores))
    paths = {name: str(path) for name, path in named.items()}
    kept = None if conversations is None else str(conversations)
    bound = engines.bind(paths, access, kept, marks, threads)
    first: Any = serve.deployment(Door)
    behind = first.options(max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0}, health_check_period_s=2)
    serve.run(behind.bind(bound), name=NAME, route_prefix="/")
