"""What layers know on held-out rows of a recipe: the lens on right answers, and linear probes of what is given.

python benchmarks/layers.py runs/demo --rows 40
python benchmarks/layers.py runs/demo --rows 40 --probes read:image:expect.digit hear-digit:audio:expect.digit

Of words a number is the share of tokens for which a model that ended after so many layers would choose the one that is right; of flow tokens
the root mean square distance of their prediction to the data. A probe is named by its task, the modality of the part and the label in
meta; its numbers are accuracies on the half of the rows that it did not learn from, those of a probe of shuffled labels with the same penalty, and those on
hidden states of a trunk whose weights are drawn anew, behind embedders that stay as they are.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faithful import drawn_anew
from side_by_side import table

from plait import api
from plait.api.model import Model
from plait.data.rows import read_rows
from plait.explain.lens import IdReading, Lens
from plait.explain.probing import Probing

PROBES = ("read:image:expect.digit", "hear-digit:audio:expect.digit", "hear-speaker:audio:expect.speaker")


def by_layer(lens: Lens) -> np.ndarray:
    """[tokens, layers + 1] whether the right id is the first, or the squared distance to the data."""
    readings = [token.reading for token in lens.tokens]
    return np.array(
        [
            np.equal(one.rank, 0) if isinstance(one, IdReading) else np.square(one.to_data)
            for one in readings
        ],
        float,
    )  # fmt: skip


def lenses(model: Model, files: list[Path], rows: int) -> dict[str, dict[str, Any]]:
    """By the modality of the answer: numbers by layer, and how many tokens and rows they are of."""
    readings: dict[str, list[np.ndarray]] = defaultdict(list)
    for file in files:
        for sample in list(read_rows(file, model.network.vocabulary.modalities))[:rows]:
            if not sample.messages[-1].parts:
                continue
            lens = model.lens_reply(sample.messages[:-1], sample.messages[-1])
            readings[sample.messages[-1].parts[0].type].append(by_layer(lens))
        print(f"{file.name}", flush=True)
    facts = {}
    for kind, of_rows in readings.items():
        tokens = np.concatenate(of_rows)
        is_flow = model.network.vocabulary.modalities[kind].head == "flow"
        means = np.sqrt(tokens.mean(axis=0)) if is_flow else tokens.mean(axis=0)
        facts[kind] = {"rows": len(of_rows), "tokens": len(tokens), "by_layer": means.tolist()}
    return facts


def probes(model: Model, folder: Path, name: str, most: int, seeds: int) -> dict[str, list[float]]:
    """Mean accuracies over seeds by the number of layers; of the label that is the commonest one number."""
    task, kind, label = name.split(":")
    samples = list(read_rows(folder / f"{task}.test.jsonl", model.network.vocabulary.modalities))[:most]
    learned = model.inside
    of_seeds = [model.probe(samples, label, kind=kind, seed=seed) for seed in range(seeds)]
    torch.manual_seed(0)
    model.inside = drawn_anew(copy.deepcopy(learned), 1)
    of_drawn = [model.probe(samples, label, kind=kind, seed=seed) for seed in range(seeds)]
    model.inside = learned

    def mean(results: list[Probing], measure: str) -> list[float]:
        numbers = [[getattr(layer, measure) for layer in one.layers] for one in results]
        return [float(number) for number in np.mean(numbers, axis=0)]

    return {
        "accuracy": mean(of_seeds, "accuracy"),
        "shuffled labels": mean(of_seeds, "control"),
        "shuffled, by heart": mean(of_seeds, "by_heart"),
        "trunk drawn anew": mean(of_drawn, "accuracy"),
        "commonest": [float(np.mean([one.majority for one in of_seeds]))],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data", type=Path, help="folder of the recipe's data, if it is elsewhere")
    parser.add_argument("--rows", type=int, default=40, help="of each task, for the lens")
    parser.add_argument("--probes", nargs="*", default=PROBES)
    parser.add_argument("--probed", type=int, default=500, help="rows of a probe")
    parser.add_argument(
        "--seeds", type=int, default=3, help="of a probe's halves and shuffles, whose numbers are averaged"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = api.load(options.checkpoint)
    folder = options.data or Path(model.config["recipe"]["data"])
    facts: dict[str, Any] = {"lens": lenses(model, sorted(folder.glob("*.test.jsonl")), options.rows), "probes": {}}
    layers = model.network.trunk.config.num_layers
    head = ("what", "rows", *map(str, range(layers + 1)))
    rows = [
        (f"lens, {kind}", str(one["rows"]), *(f"{number:.2f}" for number in one["by_layer"]))
        for kind, one in facts["lens"].items()
    ]
    for name in options.probes:
        facts["probes"][name] = of_probe = probes(model, folder, name, options.probed, options.seeds)
        rows += [
            (f"probe, {name}, {which}", str(options.probed), *(f"{number:.2f}" for number in numbers))
            for which, numbers in of_probe.items()
        ]
    width = len(head)
    table("by the number of layers", [(*row, *[""] * (width - len(row))) for row in rows], head)
    if options.json is not None:
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
