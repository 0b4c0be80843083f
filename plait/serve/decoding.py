"""The process that decodes strangers' media: `python -m plait.serve.decoding`. It reads frames from standard input, writes one
for each to standard output, and ends with its input.

A frame is the length of a JSON header and of the bytes after it (two 8-byte numbers), the header, and the bytes. Asked is
`{"kind"}` with the file; told is `{"value", "options"}` with arrays, or `{"error"}`. Nothing is pickled.
"""

from __future__ import annotations

import io
import json
import struct
import sys
from typing import Any, BinaryIO

import numpy as np

LENGTHS = struct.Struct("<QQ")
MOST_DECODED = 64 << 20  # bytes of a decoded medium: five minutes of sound, twenty million pixels
ARRAY, TUPLE = "array", "tuple"


def frame(header: Any, data: bytes = b"") -> bytes:
    """One frame."""
    text = json.dumps(header).encode()
    return LENGTHS.pack(len(text), len(data)) + text + data


def flat(value: Any) -> tuple[Any, bytes]:
    """A value of arrays, numbers, strings, lists and tuples as JSON, and the bytes of its arrays."""
    buffer = io.BytesIO()

    def part(inner: Any) -> Any:
        if isinstance(inner, np.ndarray):
            start = buffer.tell()
            np.lib.format.write_array(buffer, np.ascontiguousarray(inner), allow_pickle=False)
            return {ARRAY: [start, buffer.tell()]}
        if isinstance(inner, tuple):
            return {TUPLE: [part(each) for each in inner]}
        return [part(each) for each in inner] if isinstance(inner, list) else inner

    return part(value), buffer.getvalue()


def whole(flattened: Any, data: bytes) -> Any:
    """The inverse of `flat`."""
    if isinstance(flattened, list):
        return [whole(each, data) for each in flattened]
    if isinstance(flattened, dict) and TUPLE in flattened:
        return tuple(whole(each, data) for each in flattened[TUPLE])
    if isinstance(flattened, dict) and ARRAY in flattened:
        first, last = flattened[ARRAY]
        return np.lib.format.read_array(io.BytesIO(data[first:last]), allow_pickle=False)
    return flattened


def answer(kind: str, data: bytes) -> bytes:
    """The frame with a decoded part, or with what is wrong with it."""
    from plait import registry
    from plait.errors import PlaitError

    module = registry.transfers(kind)
    assert module is not None
    try:
        part = module.decode(data)
        flattened, arrays = flat(part.value)
    except PlaitError as error:
        return frame({"error": str(error)})
    except MemoryError:
        return frame({"error": f"{kind} part: decoding it takes too much memory; expected a smaller one"})
    except Exception as error:  # of a library, at a file that nobody foresaw
        return frame({"error": f"{kind} part: cannot decode it: {type(error).__name__}: {error}"})
    if len(arrays) > MOST_DECODED:
        return frame(
            {
                "error": f"{kind} part: got {len(arrays) >> 20} MiB when it is decoded; expected at most "
                f"{MOST_DECODED >> 20} MiB: cut it or scale it down"
            }
        )
    return frame({"value": flattened, "options": dict(part.options)}, arrays)


def _bound(memory: int) -> None:
    """No more than so much memory, where the system knows such bounds."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer frames until there are no more."""
    while len(lengths := source.read(LENGTHS.size)) == LENGTHS.size:
        header, data = (source.read(length) for length in LENGTHS.unpack(lengths))
        target.write(answer(json.loads(header)["kind"], data))
        target.flush()


if __name__ == "__main__":
    from plait import registry

    for name in sys.argv[2:]:
        registry.transfers(name)  # imported before the bound: what lies in memory then is not the file's
    _bound(int(sys.argv[1]))
    serve(sys.stdin.buffer, sys.stdout.buffer)
