"""Share of a task's held-out rows whose answer a checkpoint of smol writes to the letter, greedily; and words wrong in all.

python benchmarks/exact_answers.py runs/smol --data data/smol --task name --split style --limit 150
python benchmarks/exact_answers.py runs/smol --data data/smol --task transcribe --split recorded --limit 600

With --alone the language model takes no part: what the speller reads, or the nearest answer to the task's own question.
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
from plait.data.letters import plain_words
from plait.heads.speller import Speller
from plait.infer.request import Request
from plait.model.heard import transcripts


def written(model: api.Model, rows: Sequence[Sample]) -> list[str]:
    """What the model answers."""
    answers = model.generate_all([Request(row.messages[:-1], to=WORDS, max_tokens=60) for row in rows])
    return ["".join(str(part.value) for part in answer.message.parts) for answer in answers]


@torch.no_grad()
def told_alone(model: api.Model, rows: Sequence[Sample]) -> list[str]:
    """What the reader of the first medium of each row tells in words."""
    network, features = model.network, model.engine.encoder.features
    assert features is not None
    texts = []
    for row in rows:
        part = next(part for part in given_parts([row]) if part.type in network.vocabulary.readers)
        reader = network.vocabulary.readers[part.type]
        inputs = torch.from_numpy(np.array(features(part, None))).to(network.dtype)
        if reader.letters:
            speller = cast(Speller, network.spellers[reader.name])
            texts += transcripts(speller, inputs, torch.tensor([len(inputs)]), network.lexicon, network.likelihoods)
        else:
            memory = network.memories[reader.name, row.task]
            assert memory is not None
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
    parser.add_argument("--alone", action="store_true", help="what the readers tell without the language model")
    options = parser.parse_args()
    model = api.load(options.checkpoint)
    suite = recipes.module("smol").suite(options.data, model.network.vocabulary.modalities)
    rows = suite.rows.rows(suite.task(options.task), options.split)
    chosen = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))[: options.limit]]
    texts = (told_alone if options.alone else written)(model, chosen)
    wanted = [str(row.messages[-1].parts[0].value) for row in chosen]
    right = [text == answer for text, answer in zip(texts, wanted, strict=True)]
    reference, written_words = ([plain_words(text) or "." for text in of] for of in (wanted, texts))
    print(
        f"{options.task}, {options.split}: {100 * np.mean(right):.1f} % of {len(right)} to the letter, "
        f"{100 * jiwer.wer(reference, written_words):.1f} % of words and {100 * jiwer.cer(reference, written_words):.1f} % of characters wrong"
    )


if __name__ == "__main__":
    main()
