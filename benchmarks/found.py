"""What a checkpoint says about held-out rows: counts and places to the letter, boxes by F1 at 0.5.

python benchmarks/found.py runs/finding --data data/smol --limit 150
python benchmarks/found.py smol --data data/smol --by model

`--by` says who answers: the finder alone, or the model, which reads what the finder writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from plait import api, recipes
from plait.contract import WORDS, Sample
from plait.data.pack import collate
from plait.eval.metrics.boxes import Matching
from plait.infer.request import Request
from plait.modalities.image.boxes import boxes_in_text
from plait.tasks.composing import CANVAS

TASKS = ("count", "where", "detect")


def found(model: api.Model, rows: Sequence[Sample]) -> list[str]:
    """What the finder writes about the picture and the question of each row."""
    network, encoder = model.network, model.engine.encoder
    (name,) = network.finders
    texts = []
    for row in rows:
        laid = encoder.lay_out(encoder.prompt(Sample(row.messages[:-1])), np.random.default_rng(0))
        batch = collate([[laid]], len(laid), network.vocabulary).to(network.device)
        with torch.inference_mode():
            texts += network.found(name, network.media_of(batch.clean[name], name))
    return texts


def answered(model: api.Model, rows: Sequence[Sample]) -> list[str]:
    """What the model answers."""
    answers = model.generate_all([Request(row.messages[:-1], to=WORDS, max_tokens=160) for row in rows])
    return ["".join(str(part.value) for part in answer.message.parts) for answer in answers]


def f1(texts: Sequence[str], answers: Sequence[str]) -> float:
    """F1 of the boxes in texts at an overlap of 0.5, as `plait eval` matches them."""
    predicted, true = (
        [[{**box, "label": "", "score": 1.0} for box in boxes_in_text(text, (CANVAS, CANVAS))] for text in of]
        for of in (texts, answers)
    )
    return Matching(true, predicted).f1(np.arange(len(texts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/smol"))
    parser.add_argument("--limit", type=int, default=150, help="held-out rows a task")
    parser.add_argument("--by", choices=("finder", "model"), default="finder", help="who answers")
    options = parser.parse_args()
    model = api.load(options.checkpoint)
    suite = recipes.module("smol").suite(options.data, model.network.vocabulary.modalities)
    for task in TASKS:
        rows = suite.rows.rows(suite.task(task), "test")
        rows = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))[: options.limit]]
        answers = [str(next(part.value for part in row.messages[-1].parts if part.type == WORDS)) for row in rows]
        texts = found(model, rows) if options.by == "finder" else answered(model, rows)
        right = (
            f1(texts, answers) if task == "detect" else np.mean([a == b for a, b in zip(texts, answers, strict=True)])
        )
        silent = np.mean([not text for text in texts])
        print(
            f"{task}: {100 * right:.1f} % of {len(rows)}, {100 * silent:.1f} % without an answer; such as {texts[0]!r} for {answers[0]!r}"
        )


if __name__ == "__main__":
    main()
