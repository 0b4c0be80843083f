"""What the engine takes beside the model itself: the time of its steps against the forward passes and logits within them.

    python benchmarks/engine_overhead.py smol

Streams write --tokens words each, greedily, all at once. Counted as the model: embedding, trunk with its attention to the cache, and
logits. The rest is the engine: admission, packing, the views of the cache, sampling, telling events. Rounds of batch sizes alternate.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from side_by_side import alternate, finish, median, table

from plait import load
from plait.contract import Message, Part
from plait.infer.engine import Engine
from plait.infer.request import Request

BATCHES = (8, 16, 32)
TOPICS = ("otters", "rain", "bread", "bridges", "the moon", "clocks", "rivers", "salt")


class Timer:
    """Seconds within some calls; calls within calls count once."""

    def __init__(self) -> None:
        self.seconds, self.depth = 0.0, 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            begin, self.depth = time.perf_counter(), self.depth + 1
            try:
                return function(*arguments, **options)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.seconds += time.perf_counter() - begin

        return timed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = load(options.checkpoint)
    network, timer = model.network, Timer()
    for name in ("embed", "logits"):
        setattr(network, name, timer.around(getattr(network, name)))
    network.trunk.forward = timer.around(network.trunk.forward)  # type: ignore[method-assign]
    engine = Engine(network)
    if engine.fused is not None:  # a kernel's step is the model's, too
        setattr(engine.fused, "run", timer.around(engine.fused.run))  # noqa: B010
    rates: dict[int, float] = {}

    def overhead(batch: int) -> float:
        requests = [
            Request((Message("user", (Part("text", f"Write {n} sentences about {TOPICS[n % len(TOPICS)]}."),)),), to="text", guidance=1.0,
                    max_tokens=options.tokens)
            for n in range(batch)
        ]  # fmt: skip
        tickets = [engine.submit(request, stream=True) for request in requests]
        timer.seconds, begin = 0.0, time.perf_counter()
        while not all(ticket.done for ticket in tickets):
            engine.step()
        whole = time.perf_counter() - begin
        answered = sum(sum(ticket.answer.usage.answered.values()) for ticket in tickets if ticket.answer)
        rates[batch] = answered / whole
        return whole / timer.seconds - 1

    found = alternate({str(batch): lambda batch=batch: overhead(batch) for batch in BATCHES}, options.rounds)  # type: ignore[misc]
    rows = [(batch, f"{median(values):.1%}", f"{rates[int(batch)]:.0f}") for batch, values in found.items()]
    table("engine beside the model", rows, ("streams", "of the model's time", "tokens/s"))
    finish("engine_overhead", {"overhead": {batch: median(values) for batch, values in found.items()}})


if __name__ == "__main__":
    main()
