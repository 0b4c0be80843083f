"""What taps cost while nobody looks inside: decoding and training as they are, and with every place removed where a tap could sit.

python benchmarks/taps_off.py smol --learns runs/demo

Taps are hooks on layers of a float32 copy (plait.explain.layers), so the only such place in the model is the call of a layer, which
looks for hooks. `removed` calls each layer's forward directly; `looked into` is the model after a lens has read a copy and taps have
been put on it and taken off; `again` is the model as it is once more, the noise of the measurement. Decoding is one greedy answer, with
the fused steps of a CPU where they fit, and by torch; a training step has one batch of random words.
Contenders alternate; a ratio is the median over rounds of the
processor time that a contender takes by that of `as it is` in the same round: others on the machine count less in it than in wall time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from side_by_side import alternate, finish, median, table

from plait import api
from plait.api.model import Model
from plait.contract import Message, Part
from plait.data.pack import Batch, collate
from plait.data.row import Ids, lay_out_clean
from plait.explain.layers import tapped
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import Layer
from plait.recipes.recipe import Recipe
from plait.train import optim, trainer
from plait.train.state import Training

AS_IT_IS, AGAIN, REMOVED, LOOKED_INTO = "as it is", "again", "removed", "looked into"
QUESTION = "Write three sentences about otters."
ROWS, LENGTH = 4, 128  # of a training step


@contextmanager
def removed() -> Iterator[None]:
    """Layers whose call is their forward, without a look for hooks."""
    Layer.__call__ = Layer.forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del Layer.__call__


def seconds(work: Callable[[], object]) -> float:
    """Seconds of all processors that `work()` takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def decoding(model: Model, tokens: int, is_fused: bool) -> Callable[[], object]:
    """One greedy answer of up to so many tokens."""
    engine = Engine(model.network)
    if not is_fused:
        engine.__dict__["fused"] = None
    question = (Message("user", (Part("text", QUESTION),)),)
    request = Request(question, to="text", guidance=1.0, temperature=0.0, max_tokens=tokens)
    return lambda: engine.generate([request])


def training(path: str) -> tuple[Callable[[], object], MultimodalTransformer]:
    """One optimizer step of a network that learns, on a batch of random words."""
    model = api.load(path)
    network = model.inside.train().requires_grad_(True)
    recipe = Recipe(name="benchmark", data="", modalities={"text": {}})
    state = Training(network, optim.build(recipe.optim, network), None)  # type: ignore[arg-type]
    batch = words(network)
    return lambda: trainer.one_step(state, [batch], recipe), network


def words(network: MultimodalTransformer) -> Batch:
    """ROWS rows of LENGTH random words, all of which are learned."""
    rng, vocabulary = np.random.default_rng(0), network.vocabulary
    rows = [
        [
            lay_out_clean(
                [Ids([vocabulary.end], False), Ids(rng.integers(0, vocabulary.size, LENGTH - 1).tolist(), True)]
            )
        ]
        for _ in range(ROWS)
    ]
    return collate(rows, LENGTH, vocabulary).to(network.device)


def ratios(work: Callable[[], object], rounds: int, look: Callable[[], object]) -> dict[str, float]:
    """Ratios of all contenders to the work as it is; what `look` does is not timed."""

    def without_sites() -> float:
        with removed():
            return seconds(work)

    def after_a_look() -> float:
        look()
        return seconds(work)

    contenders: dict[str, Callable[[], float]] = {
        AS_IT_IS: lambda: seconds(work),
        REMOVED: without_sites,
        AGAIN: lambda: seconds(work),
        LOOKED_INTO: after_a_look,
    }
    times = alternate(contenders, rounds)
    return {
        name: median([one / base for one, base in zip(times[name], times[AS_IT_IS], strict=True)])
        for name in (REMOVED, AGAIN, LOOKED_INTO)
    }


def tap(network: MultimodalTransformer) -> None:
    """Put taps on a network and take them off."""
    with tapped(network.trunk):
        pass


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decodes", help="checkpoint that answers")
    parser.add_argument("--learns", help="checkpoint whose training step is timed; the same if not given")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    facts: dict[str, Any] = {}
    model = api.load(options.decodes)
    model.lens(QUESTION, answer=Message("assistant", (Part("text", "Otters swim."),)))
    for name, is_fused in (("fused", True), ("torch", False)):
        if not is_fused or Engine(model.network).fused is not None:
            work = decoding(model, options.tokens, is_fused)
            facts[f"{options.decodes}, decoding, {name}"] = ratios(work, options.rounds, lambda: tap(model.network))
    learns = options.learns or options.decodes
    step, network = training(learns)
    facts[f"{learns}, a training step"] = ratios(step, options.rounds, lambda: tap(network))
    rows = [
        (name, *(f"{of_name[one]:.3f}" for one in (REMOVED, AGAIN, LOOKED_INTO))) for name, of_name in facts.items()
    ]
    table(f"processor time by that of {AS_IT_IS!r}", rows, ("work", REMOVED, AGAIN, LOOKED_INTO))
    finish("taps_off", {"ratios": facts, "rounds": options.rounds})


if __name__ == "__main__":
    main()
