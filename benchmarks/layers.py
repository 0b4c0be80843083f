"""What layers know on held-out rows of a recipe: the lens on right answers, and linear probes of what is given.

python benchmarks/layers.py runs/demo --rows 40
python benchmarks/layers.py runs/demo --rows 40 --probes read:image:expect.digit hear-digit:audio:expect.digit

Of words a number is the share of tokens for which a model that ended after so many layers would choose the one that is right; of flow tokens
the root mean square distance of their prediction to the data. A probe is named by its task, the modality of the part and the label in
meta; its numbers are accuracies on the half of the rows that it did not learn from, those of a probe of shuffled labels with the same penalty, and those on
hidden states of a trunk whose weights are drawn anew, behind embedders that stay as they are. Patched: disjoint pairs of held-out rows of a
task that are laid out alike and have different answers, each the other's counterfactual; the mean share of the difference of the right answer's
score that comes back with the states of all that was given, and with those of all other tokens.
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
from plait.contract import Sample
from plait.data.rows import read_rows
from plait.explain.lens import IdReading, Lens
from plait.explain.patching import NotAlikeError
from plait.explain.probing import Probing

PROBES = ("read:image:expect.digit", "hear-digit:audio:expect.digit", "hear-speaker:audio:expect.speaker")

TRIED = 200  # rows of which pairs are looked for


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


def patched_both_ways(model: Model, samples: list[Sample], most: int) -> list[tuple[str, np.ndarray]]:
    """Of disjoint pairs of rows that are laid out alike and have different answers, each patched into the other: the cell, and [2, layers +
    1] the shares that come back from all that was given and from all other tokens."""
    left = list(samples)
    shares: list[tuple[str, np.ndarray]] = []
    while left and len(shares) < 2 * most:
        sample = left.pop(0)
        for other in left:
            if sample.meta.get("expect", sample.messages[-1]) == other.meta.get("expect", other.messages[-1]):
                continue
            try:
                ways = [
                    model.patch_reply(one.messages[:-1], another.messages[:-1], one.messages[-1])
                    for one, another in ((sample, other), (other, sample))
                ]
            except NotAlikeError:
                continue
            kinds = sorted({part.type for message in sample.messages[:-1] for part in message.parts} - {"text"})
            cell = f"{'+'.join(kinds) or 'text'}->{sample.messages[-1].parts[0].type}"
            shares += [(cell, np.array(way.restored[-2:])) for way in ways if way.is_telling]
            left.remove(other)
            break
    return shares


def patched(model: Model, files: list[Path], pairs: int) -> dict[str, dict[str, Any]]:
    """By what is given and answered: the mean share that comes back by the number of layers, from what was given and from the rest."""
    by_cell: dict[str, list[np.ndarray]] = defaultdict(list)
    for file in files:
        samples = [s for s in read_rows(file, model.network.vocabulary.modalities) if s.messages[-1].parts]
        for cell, shares in patched_both_ways(model, samples[:TRIED], pairs):
            by_cell[cell].append(shares)
        print(f"{file.name}: patched", flush=True)
    facts = {}
    for cell, of_cell in by_cell.items():
        of_given, of_rest = np.mean(of_cell, axis=0).tolist()
        facts[cell] = {"rows": len(of_cell), "given": of_given, "rest": of_rest}
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
    parser.add_argument("--pairs", type=int, default=10, help="of each task, that are patched")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = api.load(options.checkpoint)
    folder = options.data or Path(model.config["recipe"]["data"])
    files = sorted(folder.glob("*.test.jsonl"))
    facts: dict[str, Any] = {"lens": lenses(model, files, options.rows), "probes": {}, "patched": patched(model, files, options.pairs)}  # fmt: skip
    layers = model.network.trunk.config.num_layers
    head = ("what", "rows", *map(str, range(layers + 1)))
    rows = [
        (f"lens, {kind}", str(one["rows"]), *(f"{number:.2f}" for number in one["by_layer"]))
        for kind, one in facts["lens"].items()
    ]
    for cell, of_cell in facts["patched"].items():
        for which in ("given", "rest"):
            rows.append(
                (f"patched, {cell}, {which}", str(of_cell["rows"]), *(f"{share:.2f}" for share in of_cell[which]))
            )
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
