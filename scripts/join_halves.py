"""Put what one checkpoint learned to write beside what another knows: two halves that were trained apart, on one base.

    python scripts/join_halves.py BASE OTHER OUT --take audio

From OTHER come the embedder, the flow head, the codec and the expert of what is written in a modality, the modality's settings, and
the marks that it alone owns. Everything else is BASE's, bit for bit, the mark that begins the modality included: when to begin it,
OTHER knows least of all, since it did nothing else (scripts/when_to_begin.py).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from plait.data.vocabulary import Vocabulary
from plait.model.multimodal import MultimodalTransformer
from plait.recipes.smol import RECIPE
from plait.train import checkpoint

MARKS = ("tables.marks.", "categorical.marks.")


def joined(base: Path, other: MultimodalTransformer, kind: str) -> MultimodalTransformer:
    """The model of the checkpoint in `base`, with the `kind` of another."""
    expert = f"{kind}_written"
    prefixes = (f"embedders.{kind}.", f"flows.{kind}.", f"codecs.{kind}.", f"trunk.experts.{expert}.")
    with tempfile.TemporaryDirectory() as place:
        known, config = checkpoint.load(base, torch.float32)
        kept = {name: tensor for name, tensor in known.state_dict().items() if not name.startswith(prefixes)}
        rest = checkpoint.save(Path(place) / "rest", known, kept, config["recipe"])
        config = checkpoint.read_config(rest)
        vocabulary = Vocabulary(
            checkpoint.load_modalities(rest, config) | {kind: other.vocabulary.modalities[kind]},
            checkpoint.load_template(rest, config),
        )
        trunk = other.trunk.config
        of_expert = trunk.model_copy(
            update={
                "adapters": {},
                "split": {expert: trunk.split[expert]},
                "split_every": {name: every for name, every in trunk.split_every.items() if name == expert},
            }
        )
        sizes = {kind: other.flows[kind].components}
        model = checkpoint.load_model(rest, config, vocabulary, seed=0, experts=of_expert, components=sizes)
    theirs, state = other.state_dict(), model.state_dict()
    for name, tensor in state.items():
        if name.startswith(prefixes):
            tensor.copy_(theirs[name])
        elif name.startswith(MARKS):
            for mark in vocabulary.modalities[kind].grammar()[1:]:
                tensor[vocabulary.ids[mark]] = theirs[name][other.vocabulary.ids[mark]]
    model.load_state_dict(state)
    model.unlearned.discard(f"flows.{kind}")
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--take", default="audio", help="a modality that OTHER writes")
    options = parser.parse_args()
    other, _ = checkpoint.load(checkpoint.locate(options.other), torch.float32)
    model = joined(checkpoint.locate(options.base), other, options.take)
    print(checkpoint.save(options.out, model, model.state_dict(), RECIPE.model_dump(mode="json")))


if __name__ == "__main__":
    main()
