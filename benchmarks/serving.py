"""Requests answered together against one by one: words, pictures and sound mixed, as a server meets them.

python benchmarks/serving.py runs/demo --data data/digits

Rounds alternate; printed are medians. `tokens` are those that went through the trunk, which packed steps do not pad. With
`--dtype float32` it also counts the requests whose words are the same to the letter alone and among all others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

import torch
from side_by_side import alternate, finish, median, seconds, table

from plait import api
from plait.data.rows import read_rows
from plait.infer.engine import Engine
from plait.infer.request import Request

TASKS = ("translate", "draw", "say", "read", "next", "say-picture", "hear-digit", "draw-heard", "change-voice")
SIZES = (1, 8, 32)


def requests_of(data: Path, model: api.Model, count: int) -> list[Request]:
    """The first held-out questions of every task, one task after the other."""
    known = model.network.vocabulary.modalities
    rows = [list(read_rows(data / f"{task}.test.jsonl", known))[: 1 + count // len(TASKS)] for task in TASKS]
    mixed = [sample for sample in chain.from_iterable(zip_longest(*rows)) if sample is not None]
    sampling = dict(model.config["recipe"]["sampling"])
    return [
        Request(sample.messages[:-1], to=sample.messages[-1].parts[0].type, seed=seed, **sampling)
        for seed, sample in enumerate(mixed[:count])
    ]


def timed(engine: Engine, batches: list[list[Request]]) -> tuple[Callable[[], float], Callable[[], int]]:
    """What answers some batches, one after the other, in requests a second; and the trunk's tokens of the last time."""
    computed = 0

    def work() -> float:
        nonlocal computed
        before = engine.tokens_computed
        taken = seconds(lambda: [engine.generate(batch) for batch in batches])
        computed = engine.tokens_computed - before
        return sum(map(len, batches)) / taken

    return work, lambda: computed


def same_words(engine: Engine, requests: list[Request]) -> tuple[int, int]:
    """How many greedy answers in words are the same alone and among all, and of how many."""
    greedy = [replace(request, temperature=0.0) for request in requests if request.to == "text"]
    together = engine.generate(greedy)
    alone = [engine.generate([request])[0] for request in greedy]
    return sum(a.message == b.message for a, b in zip(together, alone, strict=True)), len(greedy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="a checkpoint or run folder of the recipe digits")
    parser.add_argument("--data", type=Path, default=Path("data/digits"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = api.load(arguments.checkpoint, dtype=arguments.dtype)
    engine = model.engine
    lines, ratios = [], {}
    for count in SIZES:
        requests = requests_of(arguments.data, model, count)
        together, packed_tokens = timed(engine, [requests])
        alone, single_tokens = timed(engine, [[request] for request in requests])
        rates = {
            name: median(v) for name, v in alternate({"together": together, "alone": alone}, arguments.rounds).items()
        }
        ratios[count] = round(rates["together"] / rates["alone"], 2)
        row = (
            count,
            f"{rates['alone']:.2f}",
            f"{rates['together']:.2f}",
            ratios[count],
            single_tokens(),
            packed_tokens(),
        )
        lines.append(tuple(map(str, row)))
    columns = ("requests", "one by one, a second", "together, a second", "ratio", "tokens", "tokens together")
    table("mixed requests", lines, columns)
    same, words = same_words(engine, requests_of(arguments.data, model, 4 * max(SIZES)))
    print(f"{same} of {words} answers in words are the same alone and among all, in {model.network.dtype}")
    finish("serving", {"ratios": ratios, "same": same, "of": words})


if __name__ == "__main__":
    main()
