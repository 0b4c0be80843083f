"""What stands before every request: whom the server answers, how much it reads, how often, and what its log says."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import time
import uuid
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plait.serve.errors import ApiError, OverloadedError, as_api_error
from plait.serve.keys import hashed
from plait.serve.metrics import Metrics
from plait.serve.state import Limits

log = logging.getLogger("plait.serve.access")
OPEN_PATHS = ("/healthz", "/readyz")
PAGES = ("/", "/web/")  # that hold no data: what they show comes over the API
BODY_SECONDS = 60.0  # that a client may take to send its body
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Access:
    """Whom a server answers: names by the hash of their key (none: everyone who reaches it), names of the host that requests
    may be for (none: any), origins of pages elsewhere that may ask."""

    keys: Mapping[str, str] = field(default_factory=dict)
    hosts: Collection[str] = ()
    origins: Collection[str] = ()


def caller_of(request: Request) -> str:
    """The name of the key that a request came with; empty where there are none."""
    return str(request.scope.get("plait.caller", ""))


def _host(header: str) -> str:
    """The name in a Host header; empty for what is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path == PAGES[0] or path.startswith(PAGES[1])


def admitted(access: Access, scope: Scope, headers: Headers) -> str:
    """The name of who asks by host, origin and key; empty where nobody has to say. Raises ApiError."""
    host = _host(headers.get("host", ""))
    if access.hosts and host not in access.hosts:
        raise ApiError(
            f"got the host {host!r}; expected one of {', '.join(access.hosts)}: a page elsewhere may be asking through "
            "your browser; allow another name with --allow NAME", 403, code="wrong_host",
        )  # fmt: skip
    origin = headers.get("origin")
    same = origin is None or origin.partition("://")[2] == headers.get("host")
    if not same and origin not in access.origins:
        raise ApiError(
            f"got a request from a page of {origin}; expected pages of this server: allow others with --allow ORIGIN", 403,
            code="wrong_origin",
        )  # fmt: skip
    return "" if _is_open(scope["path"]) or not access.keys else _caller(access, headers)


def _key(headers: Headers) -> str:
    """The key of a request: a bearer's, or the password of who can say no other, as Label Studio."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(key.strip(), validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, or no UTF-8
            return ""
    return key.strip() if scheme.lower() == "bearer" else ""


def _caller(access: Access, headers: Headers) -> str:
    key = _key(headers)
    digest = hashed(key) if key else ""
    caller = ""
    for known, name in access.keys.items():  # all of them, however soon one fits
        if hmac.compare_digest(known, digest):
            caller = name
    if not caller:
        raise ApiError(
            "got no key that is known; expected the header Authorization: Bearer KEY", 401, code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    return caller


class Rate:
    """A bucket of requests a key, filled at so many a minute."""

    def __init__(self, a_minute: int) -> None:
        self.a_minute = a_minute
        self.buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> None:
        """One request of a key. Raises OverloadedError."""
        if not self.a_minute:
            return
        now = time.monotonic()
        tokens, since = self.buckets.get(name, (float(self.a_minute), now))
        tokens = min(float(self.a_minute), tokens + (now - since) * self.a_minute / 60)
        if tokens < 1:
            self.buckets[name] = (tokens, now)
            raise OverloadedError(
                f"got more than {self.a_minute} requests a minute of this key",
                max(1, round((1 - tokens) * 60 / self.a_minute)),
            )
        self.buckets[name] = (tokens - 1, now)


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, access: Access) -> None:
        self.app, self.limits, self.metrics, self.access = app, limits, metrics, access
        self.rate = Rate(limits.a_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, id = time.perf_counter(), f"req_{uuid.uuid4().hex}"
        outcome: MutableMapping[str, Any] = {"status": 500, "caller": "", "begun": False}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                outcome["status"], outcome["begun"] = message["status"], True
                self._finish_headers(scope, MutableHeaders(scope=message), id)
            await send(message)

        try:
            headers = Headers(scope=scope)
            answer = self._preflight(scope, headers)
            if answer is None:
                outcome["caller"] = scope["plait.caller"] = self._let_in(scope, headers)
                await self.app(scope, self._bounded(receive), sending)
            else:
                await answer(scope, receive, sending)
        except Exception as error:
            if outcome["begun"]:
                raise  # the connection breaks, so that nobody takes what came for the whole
            refused = as_api_error(error)
            await JSONResponse(refused.body(), refused.status, refused.headers)(scope, receive, sending)
        finally:
            self._note(scope, outcome, id, time.perf_counter() - begin)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket: whom the server does not answer, it does not accept."""
        begin, id = time.perf_counter(), f"req_{uuid.uuid4().hex}"
        scope = {**scope, "method": "WEBSOCKET"}
        outcome: MutableMapping[str, Any] = {"status": 101, "caller": ""}
        try:
            outcome["caller"] = scope["plait.caller"] = self._let_in(scope, Headers(scope=scope))
            await self.app(scope, receive, send)
        except ApiError as refused:
            outcome["status"] = refused.status
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refused.message[:120]})
        finally:
            self._note(scope, outcome, id, time.perf_counter() - begin)

    def _note(self, scope: Scope, outcome: Mapping[str, Any], id: str, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", None) or ("/web/" if scope["path"].startswith("/web/") else "other")
        self.metrics.requests.labels(path, outcome["status"]).inc()
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "id": id, "caller": outcome["caller"],
            "method": scope["method"], "path": scope["path"], "status": outcome["status"], "seconds": round(seconds, 4),
        }  # fmt: skip
        log.info(json.dumps(entry, ensure_ascii=False))

    def _finish_headers(self, scope: Scope, headers: MutableHeaders, id: str) -> None:
        headers["X-Request-Id"] = id
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Content-Security-Policy"] = POLICY
        origin = Headers(scope=scope).get("origin")
        headers.append("Vary", "Origin")
        if origin in self.access.origins:
            headers["Access-Control-Allow-Origin"] = str(origin)
            headers["Access-Control-Expose-Headers"] = "X-Request-Id, Retry-After"

    def _preflight(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to OPTIONS: what is allowed, and for which pages elsewhere, if any."""
        if scope["method"] != "OPTIONS":
            return None
        allow = "GET, POST, PUT, DELETE, OPTIONS"
        answer = Response(status_code=204, headers={"Allow": allow})
        if headers.get("origin") in self.access.origins:
            answer.headers["Access-Control-Allow-Methods"] = allow
            wished = headers.get(
                "access-control-request-headers", ""
            )  # clients send names of their own, such as x-stainless-os
            answer.headers["Access-Control-Allow-Headers"] = wished or "Authorization, Content-Type"
            answer.headers["Access-Control-Max-Age"] = "600"
        return answer

    def _let_in(self, scope: Scope, headers: Headers) -> str:
        """The name of who asks; empty where nobody has to say. Raises ApiError."""
        name = admitted(self.access, scope, headers)
        if scope["method"] in ("POST", "WEBSOCKET") and not _is_open(scope["path"]):
            self.rate.take(name or str((scope.get("client") or ("",))[0]))
        return name

    def _bounded(self, receive: Receive) -> Receive:
        """What receives no more than the limit of bytes, and no longer than BODY_SECONDS, until the body is whole."""
        limit, received, whole = self.limits.body, 0, False
        deadline = time.monotonic() + BODY_SECONDS

        async def receiving() -> Message:
            nonlocal received, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.01, deadline - time.monotonic()))
            except (TimeoutError, asyncio.TimeoutError) as error:
                raise HTTPException(408, f"the body took longer than {BODY_SECONDS:.0f} s") from error
            received += len(message.get("body", b""))
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            if received > limit:
                raise HTTPException(413, f"got more than {limit} bytes; expected at most that many")
            return message

        return receiving
