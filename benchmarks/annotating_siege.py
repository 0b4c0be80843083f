"""Fifty people who label at once while the server is killed again and again: no answer that was acknowledged is lost.

    python benchmarks/annotating_siege.py --people 50 --minutes 10 --kills 5

Starts `plait annotate` on pictures made for it, an answer a person every second or two. SIGKILL ends it --kills times; people send what was
not acknowledged again, under the same id. In the end every acknowledged answer has to be in the store, once, and none beside them but
what was sent and not heard of.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image
from side_by_side import finish

from plait.annotate.store import Store
from plait.api.annotating import store_of

OPTIONS = ("cat", "dog", "bird")
PAUSE = (0.5, 1.5)  # seconds that a person looks at an item
AGAIN = 0.2  # seconds before something is sent again


class Server:
    """`plait annotate`, which can be killed and started again at one address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port = place.getsockname()[1]
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            sys.executable,
            "-m",
            "plait",
            "annotate",
            str(self.folder),
            "--ask",
            "label",
            "--options",
            ",".join(OPTIONS),
            "overlap=3",
        ]
        with (self.folder.parent / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--at", f"127.0.0.1:{self.port}"], stdout=log, stderr=log)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError("the server does not start")

    def kill(self) -> None:
        """End it without a word."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Person:
    """Asks for items and answers them; remembers what was acknowledged."""

    def __init__(self, name: str, client: httpx2.AsyncClient, until: float) -> None:
        self.name, self.client, self.until = name, client, until
        self.rng = random.Random(name)
        self.acknowledged: dict[str, tuple[str, str]] = {}  # by id: the item and the answer
        self.sent: set[str] = set()
        self.seconds: list[float] = []
        self.again = 0

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Send until an answer comes; None once the time is over."""
        while time.monotonic() < self.until:
            begin = time.perf_counter()
            try:
                answer = await self.client.post(f"/annotate/{path}", json={"person": self.name, **body})
            except httpx2.HTTPError:
                self.again += 1
                await asyncio.sleep(AGAIN)
                continue
            self.seconds.append(time.perf_counter() - begin)
            answer.raise_for_status()
            shape: dict[str, Any] = answer.json()
            return shape
        return None

    async def work(self) -> None:
        """Answer until the time is over."""
        told = await self.post("next", {})
        while told and (item := told["item"]):
            with contextlib.suppress(httpx2.HTTPError):
                await self.client.get(item["messages"][0]["parts"][0]["url"])
            await asyncio.sleep(self.rng.uniform(*PAUSE))
            id, value = uuid.uuid4().hex, self.rng.choice(OPTIONS)
            self.sent.add(id)
            told = await self.post("answers", {"id": id, "item": item["id"], "value": value, "seconds": 1.0})
            if told is not None:
                self.acknowledged[id] = (item["id"], value)


async def siege(server: Server, people: int, seconds: float, kills: int) -> list[Person]:
    """Let people work while the server is killed; returns them."""
    until = time.monotonic() + seconds
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}", timeout=30, limits=httpx2.Limits(max_connections=None)
    ) as client:
        workers = [Person(f"person {number}", client, until) for number in range(people)]

        async def kill() -> None:
            for _ in range(kills):
                await asyncio.sleep(seconds / (kills + 1))
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)

        await asyncio.gather(kill(), *(worker.work() for worker in workers))
    return workers


def main() -> None:
    """Print what was asked, acknowledged, kept, and how long an answer took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--items", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(arguments.items):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
        server = Server(folder)
        server.start()
        people = asyncio.run(siege(server, arguments.people, 60 * arguments.minutes, arguments.kills))
        server.kill()
        store = Store(store_of(folder))
        events = {event.id: (event.item, event.value) for event in store.events()}
        votes = Counter((event.item, event.person) for event in store.events())
        store.close()
    acknowledged = {id: said for person in people for id, said in person.acknowledged.items()}
    lost = [id for id, said in acknowledged.items() if events.get(id) != said]
    strange = set(events) - set().union(*(person.sent for person in people))
    seconds = np.array([each for person in people for each in person.seconds])
    figures = {
        "people": arguments.people, "minutes": arguments.minutes, "kills": arguments.kills, "acknowledged": len(acknowledged), "kept": len(events),
        "lost": len(lost), "kept that nobody sent": len(strange), "said twice of one item": sum(count > 1 for count in votes.values()),
        "sent again": sum(person.again for person in people),
        **{f"answered within, {name}, ms": round(1000 * float(np.quantile(seconds, share)), 1) for name, share in (("median", 0.5), ("99 %", 0.99), ("most", 1.0))},
    }  # fmt: skip
    finish("annotating_siege", figures)
    sys.exit(1 if lost or strange else 0)


if __name__ == "__main__":
    main()
