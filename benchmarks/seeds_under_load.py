"""Does an answer depend on its neighbours? Greedy answers in float32, one by one and all together, and drawings and clips by seed.

    python benchmarks/seeds_under_load.py smol

An answer that differs is explained by the gap between the two likeliest tokens where it first does: rounding decides small ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from serving_http import TOPICS
from side_by_side import finish

from plait.contract import WORDS, Message, Part
from plait.infer.engine import Engine
from plait.infer.events import Answer
from plait.infer.request import Request
from plait.train import checkpoint, shipped


def question(number: int, to: str, tokens: int) -> Request:
    """One request; `to` words it is greedy."""
    asks = {WORDS: f"Tell me something about {TOPICS[number % len(TOPICS)]}, number {number}."}
    words = asks.get(to, f"Draw {TOPICS[number % len(TOPICS)]}.")
    message = Message("user", (Part(WORDS, words),))
    return Request(
        (message,), to=to, seed=number, steps=6, guidance=1.0, max_tokens=tokens, logprobs=2 if to == WORDS else None
    )


def gap(alone: Answer, together: Answer) -> float | None:
    """Where two answers in words part: how much likelier the first choice was than the second; None where they are the same."""
    for one, other in zip(alone.logprobs, together.logprobs, strict=False):
        if one.text != other.text:
            chances = sorted((chance for _, chance in one.top), reverse=True)
            return chances[0] - chances[1]
    return None if len(alone.logprobs) == len(together.logprobs) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=16)
    arguments = parser.parse_args()
    folder = shipped.checkpoints().get(arguments.checkpoint) or checkpoint.locate(Path(arguments.checkpoint))
    network, _ = checkpoint.load(folder, torch.float32)
    engine = Engine(network.for_inference())
    facts: dict[str, Any] = {}
    requests = [question(number, WORDS, arguments.tokens) for number in range(arguments.requests)]
    alone = [engine.generate([request])[0] for request in requests]
    together = engine.generate(requests)
    gaps = [found for pair in zip(alone, together, strict=True) if (found := gap(*pair)) is not None]
    facts["words"] = {"requests": len(requests), "differ": len(gaps), "gaps": gaps}
    print(f"words: {len(requests) - len(gaps)} of {len(requests)} are the same; gaps where others part, nats: {gaps}")
    for kind in network.flows:
        if f"flows.{kind}" in network.unlearned:
            continue
        drawn = [question(number, kind, arguments.tokens) for number in range(min(16, arguments.requests))]
        one = [engine.generate([request], decoded=False)[0] for request in drawn]
        many = engine.generate(drawn, decoded=False)
        off = [
            float(np.abs(a.segments[0].blocks[0].tokens - b.segments[0].blocks[0].tokens).max())
            for a, b in zip(one, many, strict=True)
        ]
        facts[kind] = {"requests": len(drawn), "largest difference": max(off)}
        print(
            f"{kind}: {len(drawn)} drawn alone and together; the largest difference of a number of a token: {max(off):.2e}"
        )
    finish("seeds_under_load", facts)


if __name__ == "__main__":
    main()
