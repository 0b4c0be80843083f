"""scripts/join_halves.py: what one checkpoint learned to write comes beside what another knows, and nothing else changes."""

import importlib.util
from pathlib import Path

import pytest
import torch
from worlds import SETTINGS, TINY, WORDS, World, text

from plait import registry
from plait.contract import Message, Sample
from plait.data.pack import collate
from plait.data.row import lay_out_clean
from plait.data.sequence import Encoder
from plait.data.vocabulary import Vocabulary
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.train import checkpoint

SCRIPT = Path(__file__).parents[1] / "scripts" / "join_halves.py"


@pytest.fixture(scope="module")
def joined():
    spec = importlib.util.spec_from_file_location("join_halves", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.joined


def scrambled(model, seed):
    """The model with weights that are all another's, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return model


def test_a_voice_comes_beside_what_a_model_knows(joined, tmp_path):
    world = World()
    base = scrambled(world.model(TrunkConfig(**TINY.model_dump() | {"split": {"image_written": 16}})), 1)
    base.unlearned.add("flows.audio")
    base = checkpoint.load(checkpoint.save(tmp_path / "base", base, base.state_dict(), {}))[0].eval()
    modalities = registry.build_all(
        SETTINGS | {"audio": {"frames": 4, "block": 4, "letters": True, "max_seconds": 3.0}}
    )
    modalities["text"].fit([text(word) for word in WORDS])
    trunk = TrunkConfig(**TINY.model_dump() | {"split": {"audio_written": 24}, "split_every": {"audio_written": 2}})
    other = scrambled(MultimodalTransformer(trunk, Vocabulary(modalities), components={"audio": 7}), 2)
    other = checkpoint.load(checkpoint.save(tmp_path / "other", other, other.state_dict(), {}))[0].eval()

    model = joined(tmp_path / "base", other, "audio").eval()
    assert "flows.audio" not in model.unlearned
    assert model.vocabulary.modalities["audio"].state() == other.vocabulary.modalities["audio"].state()
    mine, theirs, before = model.state_dict(), other.state_dict(), base.state_dict()
    taken = [
        name for name in mine if name.startswith(("embedders.audio.", "flows.audio.", "trunk.experts.audio_written."))
    ]
    assert len(taken) > 20
    for name in taken:
        assert torch.equal(mine[name], theirs[name]), name
    for name in mine.keys() - taken:
        if ".marks." not in name:
            assert torch.equal(mine[name], before[name]), name
    for table in ("tables.marks.weight", "categorical.marks.logits.weight"):
        rows, theirs_rows, rows_before = mine[table], theirs[table], before[table]
        for mark, place in model.vocabulary.ids.items():
            is_taken = mark in model.vocabulary.modalities["audio"].grammar()[1:]
            of, source = (other, theirs_rows) if is_taken else (base, rows_before)
            assert torch.equal(rows[place], source[of.vocabulary.ids[mark]]), mark

    asked = Sample(
        (Message("user", (text("draw"), world.part("image", 3))), Message("assistant", (world.part("image", 5),)))
    )

    def hidden(network):
        row = lay_out_clean(Encoder(network.vocabulary).prompt(asked))
        return network.hidden(collate([[row]], len(row), network.vocabulary))

    with torch.no_grad():
        assert torch.equal(hidden(model), hidden(base)), "pictures are read and written as before"
