"""Methods that explain, by how faithful they are: deletion and insertion on held-out rows of a recipe, cell by cell.

python benchmarks/faithful.py runs/demo --rows 8
python benchmarks/faithful.py runs/demo-0 runs/demo-1 runs/demo-2 --rows 8      # of several seeds
python benchmarks/faithful.py smol --data data/smol --tasks name,colour,transcribe --rows 5

A number is the median over rows of faithfulness minus that of random orders (0: chance). Beside the methods stand `elsewhere`, the order
that masking gives another row of the task, which is what an explanation is worth that does not look at its input; and, of each method,
the rank correlation of its values with those for weights drawn anew (Adebayo et al., 2018): near 0 where it looks at the model.
Of rows with several kinds of what is given, each kind alone is measured, too: the others stay as they are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from held_out import add_options, cell_of, held_out
from scipy.stats import spearmanr
from side_by_side import table

from plait import api
from plait.contract import Sample
from plait.explain.faithfulness import ENUMERATED, LEAST, verdict
from plait.explain.methods import METHODS, Look, relevance_of
from plait.explain.scorer import Scorer, flow_of
from plait.explain.tracing import Tracer
from plait.infer.engine import Engine
from plait.model.init import initialise
from plait.model.multimodal import MultimodalTransformer
from plait.train import checkpoint


def drawn_anew(network: MultimodalTransformer, seed: int) -> MultimodalTransformer:
    """The same network with the weights of its trunk drawn."""
    names = {name for name, _ in network.named_parameters() if name.startswith("trunk.")}
    initialise(network, seed, names)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in names and not parameter.any():
                parameter.normal_(std=0.02)  # branches that begin at nothing would see nothing
    return network


def scorers(engine: Engine, samples: list[Sample], config: dict[str, object]) -> Iterator[Scorer]:
    """A scorer of the last answer of each row."""
    for sample in samples:
        yield Scorer(engine, sample.messages[:-1], sample.messages[-1], flow=flow_of(config))


class Measured:
    """Gains over chance by (cell, what is hidden) and method; seconds; correlations with a model that knows nothing."""

    def __init__(self) -> None:
        self.gains: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.alike: dict[str, list[float]] = defaultdict(list)

    def add(self, cell: str, scorer: Scorer, values: dict[str, np.ndarray]) -> None:
        """Measure the orders of all methods on one row, of all units and of each kind."""
        kinds = sorted({unit.kind for unit in scorer.units if unit.message < len(scorer.messages)})
        parts: list[tuple[str, np.ndarray | None]] = [("all", None)]
        if len(kinds) > 1:
            parts += [(kind, np.array([unit.kind == kind for unit in scorer.units])) for kind in kinds]
        for hidden, among in parts:
            if among is not None and among.sum() < ENUMERATED:
                continue
            for method, of_method in values.items():
                found = verdict(scorer, of_method, among=among)
                if found.matters >= LEAST:
                    self.gains[cell, hidden][method].append(found.curves.faithfulness - found.random)


def measure(path: str, options: argparse.Namespace, out: Measured) -> None:
    """Measure one checkpoint."""
    model = api.load(path)
    assert model.folder is not None
    inside, random = (checkpoint.load(model.folder, torch.float32)[0].eval() for _ in range(2))
    drawn = Engine(drawn_anew(random, 1))
    for task, samples in held_out(model, options):
        cell = cell_of(samples[0])
        before: np.ndarray | None = None
        for number, scorer in enumerate(scorers(model.engine, samples, model.config)):
            values = {}
            for method in METHODS:
                begun = time.perf_counter()
                values[method] = relevance_of(method, Look(scorer, Tracer(inside, scorer), seed=number))
                out.seconds[method].append(time.perf_counter() - begun)
            if number < 2:
                blind = Scorer(drawn, scorer.messages, scorer.answer, flow=flow_of(model.config))
                for method in METHODS:
                    other = relevance_of(method, Look(blind, Tracer(random, blind), seed=number + 100))
                    if len(other) > 3:
                        out.alike[method].append(float(spearmanr(values[method], other).statistic))
            if before is not None:
                values["elsewhere"] = np.resize(before, len(scorer.units))
            before = values["masking"]
            out.add(cell, scorer, values)
        print(f"{path} {task}: {len(samples)} rows", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, rows=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measured = Measured()
    for path in options.checkpoints:
        measure(path, options, measured)
    names = [*METHODS, "elsewhere"]
    rows = [
        (f"{cell}, {hidden}", str(len(gains["masking"])), *(f"{np.median(gains[name]):.2f}" if gains[name] else "" for name in names))
        for (cell, hidden), gains in sorted(measured.gains.items())
    ]  # fmt: skip
    of_all = [gains for (_, hidden), gains in measured.gains.items() if hidden == "all"]
    rows.append(
        (
            "mean of cells",
            "",
            *(f"{np.mean([np.median(gains[name]) for gains in of_all if gains[name]]):.2f}" for name in names),
        )
    )
    rows.append(("seconds a row", "", *(f"{np.mean(measured.seconds[name]):.2f}" for name in METHODS), ""))
    rows.append(("like random weights", "", *(f"{np.nanmean(measured.alike[name]):.2f}" for name in METHODS), ""))
    table("faithfulness beyond chance", rows, ("cell, what is hidden", "rows", *names))
    if options.json is not None:
        found = {
            f"{cell}, {hidden}": {n: list(v) for n, v in g.items()} for (cell, hidden), g in measured.gains.items()
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
