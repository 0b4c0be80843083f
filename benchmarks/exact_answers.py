"""Share of a task's held-out rows whose answer a checkpoint of smol writes to the letter, greedily; and words wrong in all.

python benchmarks/exact_answers.py runs/smol --data data/smol --task name --split style --limit 150
python benchmarks/exact_answers.py runs/smol --data data/smol --task transcribe --split recorded --limit 600

`--by` says who answers: the model; or, without it, what is told of the first medium: the answer nearest to the task's own
question, or for sounds the likeliest letters, the lexicon's words, or those that the trunk finds likely too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import jiwer
import numpy as np
import torch

from plait import api, recipes
from plait.contract import WORDS, Sample
from plait.data.features import given_parts
from plait.heads.speller import Speller
from plait.infer.request import Request
from plait.model.heard import transcripts
from plait.recipes.recipe import Sampling
from plait.runtime.words import plain_words


def written(model: api.Model, rows: Sequence[Sample]) -> list[str]:
    """What the model answers."""
    answers = model.generate_all(
        [Request(row.messages[:-1], to=WORDS, max_tokens=60, repeats=Sampling().repeats) for row in rows]
    )
    return ["".join(str(part.value) for part in answer.message.parts) for answer in answers]


@torch.no_grad()
def told(model: api.Model, rows: Sequence[Sample], by: str) -> list[str]:
    """What is told in words of the first medium of each row."""
    network, features = model.network, model.engine.encoder.features
    assert features is not None
    if by in ("lexicon", "trunk") and network.lexicon is None:
        raise SystemExit(f"got --by {by}; expected letters: this checkpoint knows no words (words.json), train it anew")
    lexicon = None if by == "letters" else network.lexicon
    weigh = network.log_likelihoods if by == "trunk" else None
    texts = []
    for row in rows:
        part = next(part for part in given_parts([row]) if part.type in network.vocabulary.readers)
        reader = network.vocabulary.readers[part.type]
        inputs = torch.from_numpy(np.array(features(part, None))).to(network.dtype)
        if reader.letters:
            speller = cast(Speller, network.spellers[reader.name])
            texts += transcripts(speller, inputs, torch.tensor([len(inputs)]), lexicon, weigh)
        else:
            if (reader.name, row.task) not in network.memories:
                raise SystemExit(
                    f"got --by {by} for the task {row.task}; expected model: no answers to it are remembered"
                )
            memory = network.memories[reader.name, row.task]
            (answer,) = memory.nearest(network.pointing(reader.name, row.task, inputs), network.directions())
            texts.append(memory.texts[memory.answers.index(answer)])
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/smol"))
    parser.add_argument("--task", default="name")
    parser.add_argument("--split", default="style")
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--by", choices=("model", "letters", "lexicon", "trunk"), default="model", help="who answers")
    options = parser.parse_args()
    model = api.load(options.checkpoint)
    suite = recipes.module("smol").suite(options.data, model.network.vocabulary.modalities)
    rows = suite.rows.rows(suite.task(options.task), options.split)
    chosen = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))[: options.limit]]
    texts = written(model, chosen) if options.by == "model" else told(model, chosen, options.by)
    wanted = [str(row.messages[-1].parts[0].value) for row in chosen]
    right = [text == answer for text, answer in zip(texts, wanted, strict=True)]
    reference, written_words = ([plain_words(text) or "." for text in of] for of in (wanted, texts))
    print(
        f"{options.task}, {options.split}: {100 * np.mean(right):.1f} % of {len(right)} to the letter, "
        f"{100 * jiwer.wer(reference, written_words):.1f} % of words and {100 * jiwer.cer(reference, written_words):.1f} % of characters wrong"
    )


if __name__ == "__main__":
    main()
