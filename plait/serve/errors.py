"""Errors as OpenAI's object: `{"error": {"message", "type", "param", "code"}}`.

Clients try again after 408, 409, 429 and 5xx, so bad input is never one of these.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from plait.errors import PlaitError
from plait.runtime.database import StorageError

log = logging.getLogger("plait.serve")
INVALID = "invalid_request_error"
FULL = 507  # Insufficient Storage: what was sent is not kept, and has to be sent again
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
ALTERNATIVES = ("str", "bool", "int", "float")
LONGEST = 1000  # characters of a message
MOST_TOLD = 400  # characters of a value that a message repeats


class ApiError(Exception):
    """An answer that is an error: its HTTP status, and what the client is told."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        message = message if len(message) <= LONGEST else message[:LONGEST] + "..."
        self.message, self.status, self.param, self.code = message, status, param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else INVALID)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class OverloadedError(ApiError):
    """More was asked at once than is let in."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message, 429, code="rate_limit_exceeded", headers={"Retry-After": str(retry_after)})


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of an exception: what it can mend, or that the fault is ours."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, StorageError):
        return ApiError(str(error), FULL, code="not_kept")
    if isinstance(error, PlaitError):
        return ApiError(str(error))
    log.error("a request failed", exc_info=error)
    return ApiError("the server failed at this request; its log says how", 500, code="internal_error")


def unsupported(param: str, why: str = "") -> ApiError:
    """A parameter, or a value of it, that is refused by name."""
    return ApiError(
        f"unsupported parameter: {param}{': ' + why if why else ''}", param=param, code="unsupported_parameter"
    )


def _place(parts: Sequence[Any]) -> str:
    """`messages[0].content` for what pydantic calls ("body", "messages", 0, "content", "str"): without its names of alternatives."""
    path = ""
    for part in parts:
        if isinstance(part, str) and (part in ALTERNATIVES or part.startswith("=") or "[" in part):
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "body":
            path += f".{part}" if path else str(part)
    return path


def of_validation(error: RequestValidationError) -> ApiError:
    """The first thing that is wrong with a body."""
    first = max(error.errors(), key=lambda each: len(each["loc"]))  # of alternatives the one that fits best
    param = _place(first["loc"])
    if first["type"] == "extra_forbidden":
        return unsupported(param)
    if first["type"] == "json_invalid":
        return ApiError(f"the body is no JSON: {first.get('ctx', {}).get('error', first['msg'])}", code="invalid_json")
    if first["type"] == "missing":
        return ApiError(
            f"missing parameter: {param}" if param else "the request has no body; expected JSON", param=param or None,
            code="missing_required_parameter",
        )  # fmt: skip
    if not param and isinstance(first.get("input"), str | bytes):  # as of `curl -d` without more
        return ApiError(
            "the body is no JSON object; expected one, sent with the header Content-Type: application/json",
            code="invalid_json",
        )
    value = repr(first.get("input"))
    shown = value if len(value) <= MOST_TOLD else value[:MOST_TOLD] + "..."
    return ApiError(f"{param or 'the body'}: got {shown}; {first['msg']}", param=param or None, code="invalid_value")


def _answer(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), error.status, error.headers)


def install(app: FastAPI) -> None:
    """Answer exceptions that a client can mend with OpenAI's object; plait.serve.guard answers all others."""

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(of_validation(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        api_error = ApiError(f"{request.method} {request.url.path}: {error.detail}", error.status_code)
        api_error.headers = dict(error.headers or {})
        return _answer(api_error)

    @app.exception_handler(ApiError)
    async def api(request: Request, error: ApiError) -> JSONResponse:
        return _answer(error)

    @app.exception_handler(PlaitError)
    async def plait(request: Request, error: PlaitError) -> JSONResponse:
        return _answer(as_api_error(error))
