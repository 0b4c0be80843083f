"""Share of a task's held-out rows whose answer a checkpoint of smol writes to the letter, greedily; and words wrong in all.

python benchmarks/exact_answers.py runs/smol --data data/smol --task name --split style --limit 150
python benchmarks/exact_answers.py runs/smol --data data/smol --task transcribe --split recorded --limit 600
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jiwer
import numpy as np

from plait import api, recipes
from plait.contract import WORDS
from plait.data.letters import plain_words
from plait.infer.request import Request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/smol"))
    parser.add_argument("--task", default="name")
    parser.add_argument("--split", default="style")
    parser.add_argument("--limit", type=int, default=150)
    options = parser.parse_args()
    model = api.load(options.checkpoint)
    suite = recipes.module("smol").suite(options.data, model.network.vocabulary.modalities)
    rows = suite.rows.rows(suite.task(options.task), options.split)
    chosen = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))[: options.limit]]
    answers = model.generate_all([Request(row.messages[:-1], to=WORDS, max_tokens=60) for row in chosen])
    written = ["".join(str(part.value) for part in answer.message.parts) for answer in answers]
    wanted = [str(row.messages[-1].parts[0].value) for row in chosen]
    right = [words == own for words, own in zip(written, wanted, strict=True)]
    wrong = jiwer.wer([plain_words(own) or "." for own in wanted], [plain_words(words) or "." for words in written])
    print(
        f"{options.task}, {options.split}: {100 * np.mean(right):.1f} % of {len(right)} to the letter, "
        f"{100 * wrong:.1f} % of words wrong"
    )


if __name__ == "__main__":
    main()
