"""Preferences of words: a language model that answers at length learns to stop after its first sentence, by its own answers alone.

    python benchmarks/brief_answers.py make smollm2-135m-instruct data/brief
    plait finetune smollm2-135m-instruct --data data/brief --lora 16 --lora-on all --out runs/brief steps=24 --no-guard
    python benchmarks/brief_answers.py measure smollm2-135m-instruct runs/brief

`make` asks about things, and writes rows whose chosen answer is the first sentence and whose rejected one is the whole. `measure` asks
about other things: words an answer, how often two answers at temperature 0.8 differ, the loss that the new answers have gained on the
first model (nats a token), and, what no preference told of, capitals that are still named right.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np

import plait
from plait.contract import Message, Part, Sample
from plait.eval import guard

ASKED = ("What is {}?", "Tell me about {}.", "Explain {} to me.", "Why do people like {}?")
THINGS = (
    "rain", "a bicycle", "bread", "music", "the moon", "a river", "chess", "salt", "a library", "honey", "winter", "glass", "a market", "tea",
    "football", "a clock", "paper", "the sea", "gardening", "snow", "a camera", "coffee", "a bridge", "wool", "cheese", "poetry", "a train",
    "gold", "sleep", "a violin", "fishing", "rice",
)  # fmt: skip
HELD = (
    "fire", "a guitar", "a mountain", "milk", "painting", "a telescope", "soup", "the sun", "swimming", "a castle", "wine", "a kite", "wood",
    "dancing", "a candle", "history",
)  # fmt: skip
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Spain": "Madrid", "Germany": "Berlin", "Egypt": "Cairo", "Russia": "Moscow",
    "Greece": "Athens", "Portugal": "Lisbon", "Austria": "Vienna", "Norway": "Oslo", "Cuba": "Havana", "Peru": "Lima", "Kenya": "Nairobi",
    "Ireland": "Dublin", "Hungary": "Budapest", "Poland": "Warsaw", "Sweden": "Stockholm", "Finland": "Helsinki", "Thailand": "Bangkok",
}  # fmt: skip
MOST = 96  # tokens of an answer
SENTENCE = re.compile(r"^.*?[.!?](?=\s|$)", re.DOTALL)


def answers(model: plait.Model, questions: list[str], temperature: float = 0.0, seed: int = 0) -> list[str]:
    """The model's answers in words."""
    requests = [
        plait.Request(
            (Message("user", (Part("text", question),)),),
            to="text",
            max_tokens=MOST,
            temperature=temperature,
            seed=seed + n,
        )
        for n, question in enumerate(questions)
    ]
    return [
        "".join(str(part.value) for part in answer.message.parts).strip() for answer in model.generate_all(requests)
    ]


def first_sentence(answer: str) -> str | None:
    """Return an answer up to the end of its first sentence; None where no sentence ends."""
    found = SENTENCE.match(answer)
    return found[0] if found else None


def make(checkpoint: str, folder: Path) -> None:
    """Write the rows."""
    questions = [
        ASKED[(number + turn) % len(ASKED)].format(thing) for number, thing in enumerate(THINGS) for turn in range(2)
    ]
    lines = []
    for question, answer in zip(questions, answers(plait.load(checkpoint), questions), strict=True):
        first = first_sentence(answer)
        if first and len(first) < len(answer):
            lines.append(json.dumps({"task": "brief", "prompt": question, "chosen": first, "rejected": answer}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} preferences in {folder}")


def measure(before: str, after: list[str]) -> None:
    """Print a row of each model."""
    questions = [ASKED[number % len(ASKED)].format(thing) for number, thing in enumerate(HELD)]
    facts = [f"What is the capital of {country}?" for country in CAPITALS]
    first = plait.load(before)
    print("| model | words an answer | one sentence | answers that differ | nats a token from the first | capitals |")
    print("|---|---|---|---|---|---|")
    for name in (before, *after):
        model = plait.load(name)
        plain = answers(model, questions)
        pairs = zip(*(answers(model, questions, 0.8, seed) for seed in (1000, 2000)), strict=True)
        rows = [
            Sample((Message("user", (Part("text", q),)), Message("assistant", (Part("text", a),))), "")
            for q, a in zip(questions, plain, strict=True)
            if a
        ]
        gained = [guard.losses(of.engine, rows, "text", 0) for of in (first, model)]
        right = np.mean([capital in a for a, capital in zip(answers(model, facts), CAPITALS.values(), strict=True)])
        brief = np.mean([first_sentence(a) == a for a in plain])
        words = np.mean([len(a.split()) for a in plain])
        differ = np.mean([one != other for one, other in pairs])
        print(
            f"| {name} | {words:.1f} | {brief:.0%} | {differ:.0%} | {np.mean(gained[0] - gained[1]):.3f} | {right:.0%} |",
            flush=True,
        )


def main() -> None:
    """Make the rows, or measure checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "measure"))
    parser.add_argument("checkpoint")
    parser.add_argument("others", nargs="+")
    arguments = parser.parse_args()
    if arguments.what == "make":
        make(arguments.checkpoint, Path(arguments.others[0]))
    else:
        measure(arguments.checkpoint, arguments.others)


if __name__ == "__main__":
    main()
