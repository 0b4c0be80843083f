"""Checkpoints of older formats: a tiny one that an earlier version wrote still says, draws and speaks the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from worlds import World, text

from plait import api
from plait.contract import Message
from plait.errors import CheckpointError
from plait.infer.engine import Engine
from plait.infer.likelihood import log_likelihoods
from plait.infer.request import Request
from plait.train import archive, checkpoint
from plait.train.migrations import FORMAT, MIGRATIONS, migrate_config

FIXTURE = Path(__file__).parents[1] / "fixtures" / "format-4"
OUTPUTS = json.loads(FIXTURE.with_name("format-4-outputs.json").read_text(encoding="utf-8"))


def questions():
    world = World()
    return [
        [text("draw seven")],
        [world.part("image", 3), text("what is this?")],
        [world.part("audio", 4), text("yes")],
    ]


def test_every_format_has_a_way_to_todays():
    assert sorted(MIGRATIONS) == list(range(1, FORMAT))


@pytest.mark.parametrize("stored", OUTPUTS["answers"], ids=lambda stored: f"{stored['ask']}-{stored['to']}")
def test_answers_are_those_of_the_version_that_wrote_it(stored):
    model, _ = checkpoint.load(FIXTURE)
    asked = (Message("user", tuple(questions()[stored["ask"]])),)
    request = Request(asked, to=stored["to"], seed=stored["ask"], steps=3, guidance=2.0, max_tokens=12)
    answer = Engine(model).generate([request])[0]
    tokens = [np.asarray(block.tokens, np.float64) for segment in answer.segments for block in segment.blocks]
    assert sum(map(len, tokens)) == stored["tokens"]
    assert sum(float(block.sum()) for block in tokens) == pytest.approx(stored["sum"], rel=1e-3, abs=0.05)
    assert sum(float((block**2).sum()) for block in tokens) == pytest.approx(stored["square"], rel=1e-3)
    if stored["text"] is not None:
        assert answer.message.parts[0].value == stored["text"]


def test_likelihoods_are_those_of_the_version_that_wrote_it():
    model, _ = checkpoint.load(FIXTURE)
    asked = [(Message("user", tuple(parts)),) for parts in questions()]
    found = log_likelihoods(Engine(model), asked, [text("yes"), text("zwei")])
    np.testing.assert_allclose(found, OUTPUTS["log_likelihoods"], rtol=1e-4)


def test_settings_have_their_names_of_today():
    config = checkpoint.read_config(FIXTURE)
    recipe = config["recipe"]
    assert (recipe["pca"], recipe["ema_decay"], recipe["optim"]["decay_fraction"]) == (8, 0.9, 0.7)
    assert recipe["augment"] == {"image->text": {"share": 0.3}}
    assert config["written_as"] == 4
    stored = json.loads((FIXTURE / "config.json").read_text(encoding="utf-8"))
    assert migrate_config(json.loads(json.dumps(stored)))["format"] == FORMAT
    assert stored["format"] == 4, "no pure function"


def test_an_archive_of_an_older_checkpoint_is_the_checkpoint_as_it_was(tmp_path):
    packed = archive.pack(FIXTURE, tmp_path / "old.plait")
    again = archive.unpack(packed, tmp_path / "old")
    before, after = (checkpoint.load(folder)[0].state_dict() for folder in (FIXTURE, again))
    assert all(before[name].equal(after[name]) for name in before)


def hostile(tmp_path, change):
    """A copy of the fixture whose config.json was changed by hand and sealed again."""
    folder = tmp_path / "hostile"
    shutil.copytree(FIXTURE, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(config)
    (folder / "config.json").write_text(json.dumps(checkpoint.sealed(config)), encoding="utf-8")
    return folder


SECRET = "secret.json"
HOSTILE = {
    "a file above": lambda c: c["modalities"]["text"]["tokenizer_json"].update(file=f"../{SECRET}"),
    "an absolute file": lambda c: c["modalities"]["text"]["tokenizer_json"].update(file="/etc/hostname"),
    "no file name": lambda c: c["modalities"]["text"].update(tokenizer_json={"file": 3}),
    "a sum above": lambda c: c["sha256"].update({f"../{SECRET}": "0"}),
    "an absolute sum": lambda c: c["sha256"].update({"/etc/hostname": "0"}),
    "a sum of the folder": lambda c: c["sha256"].update({"..": "0"}),
    "a trunk that is none": lambda c: c.update(trunk="deep"),
    "an impossible trunk": lambda c: c["trunk"].update(dim=-1),
    "a trunk of another version": lambda c: c["trunk"].update(experts=4),
    "no modalities": lambda c: c.pop("modalities"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_configuration_that_reaches_elsewhere_is_refused(case, tmp_path):
    (tmp_path / SECRET).write_text("{}")
    with pytest.raises(CheckpointError, match="expected"):
        api.load(hostile(tmp_path, HOSTILE[case]))


def test_loading_does_not_read_what_only_resuming_needs(tmp_path):
    folder = hostile(
        tmp_path, lambda c: c["sha256"].update({checkpoint.STATE_TENSORS: "0" * 64, checkpoint.STATE_JSON: "0" * 64})
    )
    (folder / checkpoint.STATE_TENSORS).write_bytes(b"damaged")
    (folder / checkpoint.STATE_JSON).write_text("{}")
    checkpoint.load(folder)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load_train_state(folder)
