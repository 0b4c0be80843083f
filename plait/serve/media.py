"""Strangers' bytes become parts in a process of their own, with bounds of memory and time; parts become bytes.

A file that kills its decoder, or keeps it busy, ends its own request; the next one finds a new process.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from plait import registry
from plait.contract import Part
from plait.serve import decoding
from plait.serve.decoding import LENGTHS, MOST_DECODED, frame, whole
from plait.serve.errors import ApiError

DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w=.+-]+)*?)(;base64)?,", re.ASCII)
MEMORY = 6 << 30  # bytes of address space of the process that decodes, libraries included
SECONDS = 20.0  # that a medium may take
STARTING = 60.0  # seconds more for the first one, until the process is there
TOO_MUCH = "decoding it took too long or too much memory; expected a smaller or simpler one"


class MediaDecoder:
    """Decodes media one after the other in another process, which it starts when it is first needed."""

    def __init__(self, memory: int = MEMORY, seconds: float = SECONDS) -> None:
        self.memory, self.seconds = memory, seconds
        self.process: asyncio.subprocess.Process | None = None
        self.turn = asyncio.Lock()

    async def decode(self, kind: str, data: bytes, param: str) -> Part:
        """The part in `data`. Raises ApiError, which names the parameter."""
        if registry.transfers(kind) is None:
            raise ApiError(f"{param}: {kind} cannot be sent over HTTP here", param=param, code="unsupported_content")
        if not data:
            raise ApiError(f"{param}: got no bytes; expected a file", param=param, code="invalid_value")
        async with self.turn:
            try:
                header, arrays = await self._asked(kind, data)
            except BaseException as error:  # whoever gave up waiting: what is under way would answer the next one
                await self.close()
                if not isinstance(error, OSError | asyncio.IncompleteReadError | TimeoutError | asyncio.TimeoutError):
                    raise
                header, arrays = {"error": f"{kind} part: {TOO_MUCH}"}, b""
        if "error" in header:
            raise ApiError(f"{param}: {header['error']}", param=param, code="invalid_value")
        return Part(kind, whole(header["value"], arrays), header["options"])

    async def _asked(self, kind: str, data: bytes) -> tuple[dict[str, Any], bytes]:
        patience = self.seconds if await self._started() else self.seconds + STARTING
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        output = process.stdout

        async def exchange() -> tuple[dict[str, Any], bytes]:
            assert process.stdin is not None
            process.stdin.write(frame({"kind": kind}, data))
            await process.stdin.drain()
            lengths = LENGTHS.unpack(await output.readexactly(LENGTHS.size))
            if sum(lengths) > 2 * MOST_DECODED:
                raise OSError("the process answered with more than it may")
            header, arrays = [await output.readexactly(length) for length in lengths]
            return json.loads(header), arrays

        return await asyncio.wait_for(exchange(), patience)

    async def _started(self) -> bool:
        """Start the process if there is none; whether there was one."""
        if self.process is not None and self.process.returncode is None:
            return True
        arguments = ("-m", decoding.__name__, str(self.memory), *registry.available())
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe)
        return False

    async def close(self) -> None:
        """End the process, whatever it does."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def from_base64(text: str, param: str) -> bytes:
    """Bytes of base64, with or without line breaks. Raises ApiError."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(f"{param}: got no base64 ({error})", param=param, code="invalid_base64") from error


def from_url(url: str, param: str) -> bytes:
    """Bytes of a data URL. Raises ApiError for any other: nothing is fetched."""
    match = DATA_URL.match(url)
    if match is None:
        raise ApiError(
            f"{param}: got {url[:60]!r}; expected a data: URL with base64: this server fetches nothing from elsewhere",
            param=param, code="invalid_value",
        )  # fmt: skip
    if not match.group(3):
        raise ApiError(f"{param}: got a data: URL without ;base64", param=param, code="invalid_value")
    return from_base64(url[match.end() :], param)


def encoded(part: Part, format: str = "") -> tuple[str, bytes, str]:
    """Media type, bytes and format of a part, in its usual format if none is given. Raises ApiError."""
    module = registry.transfers(part.type)
    if module is None:
        raise ApiError(f"{part.type} cannot be sent over HTTP here", 400, code="unsupported_content")
    known = module.formats()
    format = format or next(iter(known))
    if format not in known:
        raise ApiError(f"got format {format!r} for {part.type}; expected one of {', '.join(known)}", param="format")
    return known[format], module.encode(part, format), format


def joined(kind: str) -> Callable[[Part | None], bytes]:
    """What joins the pieces of a medium that is being made. Raises ApiError."""
    module = registry.transfers(kind)
    if module is None:
        raise ApiError(f"{kind} cannot be sent over HTTP here", 400, code="unsupported_content")
    return module.joined("pcm")


def as_url(part: Part, format: str = "") -> str:
    """A part as a data URL."""
    media_type, data, _ = encoded(part, format)
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def as_base64(part: Part, format: str = "") -> dict[str, Any]:
    """A part as `{"data", "format"}`."""
    _, data, format = encoded(part, format)
    return {"data": base64.b64encode(data).decode(), "format": format}
