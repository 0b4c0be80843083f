"""More clients than a server lets in, some of which leave: nothing that was accepted is lost, memory stays flat.

    python benchmarks/serving_siege.py runs/demo --minutes 10

Each of --clients asks again and again; the server takes --slots at once and refuses the others with 429. A fifth of the clients leave in the
middle of their stream. Lost is what was accepted and neither ended nor was left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from side_by_side import finish

from plait import api
from plait.serve import create_app
from plait.serve.run import listen
from plait.serve.state import Limits

LEAVE = 0.2  # of the clients
WAIT = 0.05  # seconds before a refused client asks again


async def ask(client: httpx2.AsyncClient, body: dict[str, Any], leaves: bool) -> str:
    """How one request ended."""
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code == 429:
            return "refused"
        if answer.status_code != 200:
            return f"status {answer.status_code}"
        lines = 0
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                return "answered"
            if "error" in json.loads(line[6:]):
                return "error"
            lines += 1
            if leaves and lines == 3:
                return "left"
    return "lost"


async def siege(url: str, clients: int, seconds: float, tokens: int) -> Counter[str]:
    """What became of all requests."""
    counts: Counter[str] = Counter()
    until = time.monotonic() + seconds

    async def one(number: int) -> None:
        rng = random.Random(number)
        async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
            while time.monotonic() < until:
                content = f"Say {rng.randint(0, 99)}."
                body = {
                    "messages": [{"role": "user", "content": content}], "stream": True, "temperature": 1.0,
                    "max_tokens": rng.randint(4, tokens), "seed": rng.randint(0, 10**6),
                }  # fmt: skip
                ended = await ask(client, body, rng.random() < LEAVE)
                counts[ended] += 1
                if ended == "refused":
                    await asyncio.sleep(WAIT)

    await asyncio.gather(*(one(number) for number in range(clients)))
    return counts


def resident_mib() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tokens", type=int, default=24)
    arguments = parser.parse_args()
    app = create_app({"model": api.load(arguments.checkpoint)}, Limits(requests=arguments.slots))
    socket = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    asyncio.run(siege(url, arguments.slots, 10, arguments.tokens))  # memory that the first requests take stays
    before = resident_mib()
    counts = asyncio.run(siege(url, arguments.clients, 60 * arguments.minutes, arguments.tokens))
    grown = resident_mib() - before
    left = app.state.plait.served["model"].worker.outstanding
    server.should_exit = True
    thread.join()
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items())))
    print(f"memory {before:.0f} MiB, {grown:+.0f}; requests still under way: {left}")
    finish("serving_siege", {**counts, "grown_mib": round(grown), "under_way": left})


if __name__ == "__main__":
    main()
