"""Whether drafts from the words so far would pay: n-gram (prompt lookup) speculative decoding, foretold from real answers and real step times.

    python benchmarks/ngram_drafts.py smol@int4

A draft is what followed the last occurrence of the last ids, of three or else of two, in the conversation so far (Saxena, 2023, prompt
lookup decoding); greedy answers are looked up as they would have been, and every step is charged what a step of so many tokens takes
here. Questions that repeat what they were given (correct, list, shorten) are the method's best case, and stand apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from side_by_side import finish, median, table

from plait import load
from plait.contract import Message, Part
from plait.infer.engine import Engine
from plait.infer.request import Request

PASSAGE = (
    "The lighthouse at Farhaven was built in 1871 by Ada Brandt. It has 214 steps and a lamp that can be seen for 19 miles. "
    "Visitors may climb it on Saturdays between ten and four, if the wind is below 30 miles an hour."
)
QUESTIONS = {
    "free": [
        f"{verb} {topic}."
        for verb in ("Tell me a story about", "Write three sentences about", "Explain what people like about")
        for topic in ("otters", "rain", "bread", "bridges", "the moon", "clocks")
    ],
    "repeating": [
        f"{verb} {PASSAGE}"
        for verb in (
            "Repeat this text:", "Correct the spelling of this text:", "List the facts of this text:", "Rewrite this text for a child:",
            "Answer with a sentence of this text. When may visitors climb it?", "Shorten this text:",
        )
    ],
}  # fmt: skip
NGRAMS, LONGEST_DRAFT = (3, 2), 7  # a step of eight tokens is the kernel's longest


def draft(ids: Sequence[int], most: int) -> list[int]:
    """What followed the last earlier occurrence of the last ids."""
    for size in NGRAMS:
        for first in range(len(ids) - size - 1, -1, -1):
            if ids[first : first + size] == ids[-size:]:
                return list(ids[first + size : first + size + most])
    return []


def charged(question: Sequence[int], answer: Sequence[int], cost: dict[int, float], most: int) -> float:
    """Seconds that the answer's ids would take, with drafts of at most so many."""
    ids, seconds, done = list(question), 0.0, 0
    while done < len(answer):
        tried = draft(ids, most) if most else []
        right = 0
        while right < len(tried) and done + right < len(answer) and tried[right] == answer[done + right]:
            right += 1
        seconds += cost[1 + len(tried)]
        step = answer[done : done + right + 1]
        ids, done = [*ids, *step], done + len(step)
    return seconds


def step_times(engine: Engine, tokens: int) -> dict[int, float]:
    """Seconds of a step of 1 to 8 tokens: as many streams of one each."""
    times: dict[int, float] = {}
    for streams in range(1, LONGEST_DRAFT + 2):
        asked = (Message("user", (Part("text", QUESTIONS["free"][0]),)),)
        tickets = [
            engine.submit(Request(asked, to="text", guidance=1.0, temperature=0.0, max_tokens=tokens), stream=True)
            for _ in range(streams)
        ]
        steps = []
        while not all(ticket.done for ticket in tickets):
            begin = time.perf_counter()
            engine.step()
            steps.append(time.perf_counter() - begin)
        times[streams] = float(np.median(steps[len(steps) // 4 :]))
    return times


def main() -> None:
    """Answer, look up, charge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    model = load(options.checkpoint)
    engine, words = Engine(model.network), model.network.vocabulary.modalities["text"]
    step_times(engine, 8)
    rounds = [step_times(engine, 48) for _ in range(3)]
    cost = {count: median([of_round[count] for of_round in rounds]) for count in rounds[0]}
    table(
        "a step",
        [(str(n), f"{1000 * cost[n]:.1f}", f"{cost[n] / cost[1]:.2f}") for n in cost],
        ("tokens", "ms", "times one"),
    )
    rows: list[tuple[str, ...]] = []
    facts: dict[str, dict[int, float]] = {}
    for kind, questions in QUESTIONS.items():
        requests = [
            Request((Message("user", (Part("text", q),)),), to="text", temperature=0.0, max_tokens=options.tokens)
            for q in questions
        ]
        answers = model.generate_all(requests)
        pairs = [
            tuple(words.read(Part("text", text)).blocks[0].tokens.tolist() for text in (q, a.message.parts[0].value))
            for q, a in zip(questions, answers, strict=True)
        ]
        plain = sum(charged(q, a, cost, 0) for q, a in pairs)
        times = {most: plain / sum(charged(q, a, cost, most) for q, a in pairs) for most in (1, 2, 3, 5, LONGEST_DRAFT)}
        facts[kind] = times
        rows.append((kind, str(sum(len(a) for _, a in pairs)), *(f"{times[most]:.2f}" for most in times)))
    table("times as fast, drafts of at most", rows, ("questions", "tokens", "1", "2", "3", "5", str(LONGEST_DRAFT)))
    finish("ngram_drafts", {"cost": cost, "times": facts})


if __name__ == "__main__":
    main()
