"""Time until the first words of a conversation's turns, with what was computed for earlier turns kept and without, alternating.

    python benchmarks/earlier_turns.py smol

Each round is another conversation of --turns turns, greedy. `same` counts the answers that are equal to the letter: what is kept
was computed in steps of other shapes, and so differs in rounding.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

from side_by_side import finish, median, table

from plait import load
from plait.contract import Message, Part
from plait.infer.engine import Engine
from plait.infer.events import Answer, TextDelta
from plait.infer.request import Request

TOPICS = ("otters", "rain", "bread", "bridges", "the moon", "clocks", "rivers", "salt")
FOLLOWS = ("Tell me more.", "Why is that so?", "Give an example.", "And what else?", "Sum it up in one sentence.")
KEPT = 16_384  # tokens


def answered(engine: Engine, request: Request) -> tuple[float, Answer]:
    """Seconds until the first words, and the answer."""
    ticket = engine.submit(request, stream=True)
    begin, first = time.perf_counter(), 0.0
    while not ticket.done:
        engine.step()
        if not first and any(isinstance(event, TextDelta) for event in ticket.events):
            first = time.perf_counter() - begin
    assert ticket.answer is not None
    return first or time.perf_counter() - begin, ticket.answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    model = load(options.checkpoint, options.dtype)
    engines = {"without": Engine(model.network), "kept": Engine(model.network)}
    engines["kept"].keep_prefixes(KEPT)
    seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
    tokens: dict[int, list[tuple[int, int]]] = defaultdict(list)
    same = whole = 0
    for number in range(options.rounds + 1):  # the first one warms up
        messages: tuple[Message, ...] = ()
        for turn in range(options.turns):
            said = FOLLOWS[(turn - 1) % len(FOLLOWS)] if turn else f"Write about {TOPICS[number % len(TOPICS)]}."
            messages += (Message("user", (Part("text", said),)),)
            usual = model.usual | {"temperature": 0.0}
            request = Request(messages, to="text", max_tokens=options.tokens, **usual)
            told = {}
            for name, engine in engines.items():
                first, told[name] = answered(engine, request)
                if number:
                    seconds[name, turn].append(first)
            messages += (told["without"].message,)
            if number:
                usage = told["kept"].usage
                tokens[turn].append((sum(usage.asked.values()), usage.reused))
                same, whole = same + (told["without"].message == told["kept"].message), whole + 1
    rows = []
    for turn in range(options.turns):
        plain, reusing = (median(seconds[name, turn]) for name in engines)
        asked, kept = (median([pair[at] for pair in tokens[turn]]) for at in (0, 1))
        rows.append(
            (
                str(turn + 1),
                f"{asked:.0f}",
                f"{kept:.0f}",
                f"{plain:.2f} s",
                f"{reusing:.2f} s",
                f"{plain / reusing:.1f}",
            )
        )
    table("until the first words", rows, ("turn", "tokens asked", "of them kept", "without", "kept", "ratio"))
    print(f"same: {same} of {whole} answers")
    finish("earlier_turns", {"rows": rows, "same": same, "answers": whole})


if __name__ == "__main__":
    main()
