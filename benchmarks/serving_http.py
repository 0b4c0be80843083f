"""A server under load, over HTTP as clients meet it: many streams against one by one, with llama.cpp's server beside it.

    python benchmarks/serving_http.py smol
    python benchmarks/serving_http.py smol --beside MODEL.gguf      # pip install xllamacpp

Rounds alternate, between the servers too, in one run. Text streams ask different questions, temperature 0.7, up to --tokens each;
mixed ones are a half of words, a quarter with a picture, a quarter with sound. `first` is the time until the first words of a
stream. Then --soak mixed requests of 4 tokens, 8 at once, and the server's memory after every 200.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import soundfile
from PIL import Image
from side_by_side import finish, median, table

STREAMS = (1, 8, 32)
TOPICS = (
    "otters",
    "rain",
    "bread",
    "bridges",
    "the moon",
    "old clocks",
    "rivers",
    "salt",
    "violins",
    "snow",
    "maps",
    "bees",
)
WARM = 4  # requests before anything is measured
LOOKED_AT = 200  # requests, after which the memory is looked at


@dataclass
class Load:
    """What a number of streams took: tokens a second, and when each stream had its first words and was done."""

    tokens: int = 0
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Tokens a second of all streams."""
        return self.tokens / self.seconds


def medium(number: int) -> dict[str, Any]:
    """A picture of coloured squares, or a clip of tones, as a content part."""
    rng, buffer = np.random.default_rng(number), io.BytesIO()
    if number % 2:
        samples = np.sin(np.cumsum(np.repeat(rng.uniform(0.05, 0.3, 8), 2000))) * 0.2
        soundfile.write(buffer, samples, 16_000, format="WAV")
        return {
            "type": "input_audio",
            "input_audio": {"data": base64.b64encode(buffer.getvalue()).decode(), "format": "wav"},
        }
    Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).resize((128, 128), 0).save(buffer, "PNG")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"},
    }


def body(number: int, tokens: int, mixed: bool) -> dict[str, Any]:
    """One request, a stream."""
    words = f"Tell me a long story about {TOPICS[number % len(TOPICS)]}, number {number}."
    content: Any = words
    if mixed and number % 2:
        content = [medium(number // 2), {"type": "text", "text": "What is this?"}]
    return {
        "messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0.7, "seed": number,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


async def ask(client: httpx2.AsyncClient, request: dict[str, Any], load: Load) -> None:
    """Read one stream to its end."""
    begun, first = time.perf_counter(), None
    async with client.stream("POST", "/v1/chat/completions", json=request) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk
            if first is None and any(choice["delta"].get("content") for choice in chunk["choices"]):
                first = time.perf_counter() - begun
            if chunk.get("usage"):
                load.tokens += chunk["usage"]["completion_tokens"]
    load.first.append(first or time.perf_counter() - begun)
    load.whole.append(time.perf_counter() - begun)


def measured(url: str, requests: Sequence[dict[str, Any]], at_once: int) -> Load:
    """Answer requests, so many at once."""
    load = Load()

    async def work() -> None:
        limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=0)
        async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
            turn = asyncio.Semaphore(at_once)

            async def one(request: dict[str, Any]) -> None:
                async with turn:
                    await ask(client, request, load)

            begun = time.perf_counter()
            await asyncio.gather(*map(one, requests))
            load.seconds = time.perf_counter() - begun

    asyncio.run(work())
    return load


@contextmanager
def serving(checkpoint: str, threads: int) -> Iterator[tuple[str, int]]:
    """Address and process number of `plait serve`."""
    command = (
        sys.executable,
        "-m",
        "plait",
        "serve",
        checkpoint,
        "--port",
        "0",
        "--conversations",
        "none",
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None, "the server did not start"
        yield found.group(), server.pid
    finally:
        server.terminate()
        server.wait(120)


@contextmanager
def llama_cpp(file: Path, threads: int) -> Iterator[str]:
    """Address of llama.cpp's server on a GGUF file, with 8 slots."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.n_parallel, settings.n_ctx = 8, 8 * 1024
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(settings)
    yield str(server.listening_address)


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of some values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def streams(url: str, tokens: int, rounds: int, mixed: bool, counts: Sequence[int]) -> dict[int, list[Load]]:
    """Loads by how many streams there are at once; as many requests each time as the most streams have."""
    loads: dict[int, list[Load]] = {count: [] for count in counts}
    for number in range(rounds):
        requests = [body(1000 * number + each, tokens, mixed) for each in range(max(counts))]
        for count in list(counts)[:: 1 if number % 2 == 0 else -1]:
            few = requests if count == max(counts) else requests[: max(count, len(requests) // 4)]
            loads[count].append(measured(url, few, count))
    return loads


def rows(loads: dict[int, list[Load]]) -> list[tuple[str, ...]]:
    """Lines of a table."""
    told = []
    one = median([load.rate for load in loads[1]])
    for count, all_of in loads.items():
        rate = median([load.rate for load in all_of])
        first, whole = ([value for load in all_of for value in getattr(load, name)] for name in ("first", "whole"))
        figures = (
            rate,
            rate / one,
            statistics.median(first),
            percentile(first, 0.99),
            statistics.median(whole),
            percentile(whole, 0.99),
        )
        told.append((str(count), *(f"{figure:.2f}" for figure in figures)))
    return told


def beside(arguments: argparse.Namespace, counts: Sequence[int]) -> dict[str, Any]:
    """Our server and llama.cpp's on words, round by round in turn; what both took, and the ratio of their rates."""
    ours: dict[int, list[Load]] = {count: [] for count in counts}
    theirs: dict[int, list[Load]] = {count: [] for count in counts}
    with (
        serving(arguments.checkpoint, arguments.threads) as (url, _),
        llama_cpp(arguments.beside, arguments.threads) as other,
    ):
        places = [(url, ours), (other, theirs)]
        for place, _ in places:
            measured(place, [body(10**6 + n, 8, False) for n in range(WARM)], 1)
        for number in range(arguments.rounds):
            for place, loads in places[:: 1 if number % 2 == 0 else -1]:
                for count, found in streams(place, arguments.tokens, 1, False, counts).items():
                    loads[count] += found
    table("ours, text, in turn with llama.cpp", rows(ours), HEAD)
    table("llama.cpp, text", rows(theirs), HEAD)
    ratios = {
        count: median([load.rate for load in ours[count]]) / median([load.rate for load in theirs[count]])
        for count in counts
    }
    print(
        "our tokens a second over llama.cpp's: " + ", ".join(f"{count}: {ratio:.2f}" for count, ratio in ratios.items())
    )
    return {"ours": rows(ours), "llama.cpp": rows(theirs), "ratio": ratios}


HEAD = ("streams", "tokens/s", "times one", "first, p50 s", "p99", "whole, p50 s", "p99")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--beside", type=Path, help="a GGUF file for llama.cpp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--most", type=int, default=max(STREAMS), help="streams at once")
    arguments = parser.parse_args()
    counts = [count for count in STREAMS if count <= arguments.most]
    facts: dict[str, Any] = {}
    with serving(arguments.checkpoint, arguments.threads) as (url, pid):
        measured(url, [body(10**6 + n, 8, True) for n in range(WARM)], 1)
        for what in ("text", "mixed"):
            loads = streams(url, arguments.tokens, arguments.rounds, what == "mixed", counts)
            table(what, rows(loads), HEAD)
            facts[what] = {line[0]: line[1:] for line in rows(loads)}
        if arguments.soak:
            facts["memory_mib"] = {0: round(resident_mib(pid))}
            for first in range(0, arguments.soak, LOOKED_AT):
                last = min(first + LOOKED_AT, arguments.soak)
                measured(url, [body(number, 4, True) for number in range(first, last)], 8)
                facts["memory_mib"][last] = round(resident_mib(pid))
            print(f"MiB of memory after so many requests: {facts['memory_mib']}")
    if arguments.beside:
        facts["beside"] = beside(arguments, [count for count in counts if count <= 8])
    finish("serving_http", facts)


if __name__ == "__main__":
    main()
