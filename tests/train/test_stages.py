"""A training in stages, and one that stands on a base: each stage starts from the one before, and what the base has is not
stored again."""

import dataclasses
import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from tiny_rows import config, write_rows

from plait import api
from plait.contract import Message, Part
from plait.errors import CheckpointError, ConfigError, MissingError
from plait.infer.request import Request
from plait.train import archive, bases, checkpoint
from plait.train.run import train
from plait.train.status import status_of

KINDS, MORE = ("text",), ("text", "image")
EARLY = {"steps": 2, "trainable": ["flows.*"], "optim": {"lr": 0.5}, "weights": {"image": 1.0}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("stages") / "rows", MORE)


def staged(data, **settings):
    usual = {"stages": {"early": EARLY}, "steps": 3, "trainable": ("trunk.*",), "weights": {"image": 1.0, "text": 2.0}}
    return config(data, MORE, **usual | settings)


def weights_of(run):
    return load_file(checkpoint.locate(run) / checkpoint.WEIGHTS)


def test_a_stage_is_the_recipe_but_for_what_differs(data):
    recipe = staged(data)
    stage = recipe.stage("early")
    assert (stage.name, stage.steps, stage.stages, stage.weights) == ("tiny.early", 2, {}, {"image": 1.0})
    assert (stage.optim.lr, stage.optim.warmup) == (0.5, recipe.optim.warmup), "groups change setting by setting"
    assert recipe.weights == {"image": 1.0, "text": 2.0}


@pytest.mark.parametrize(
    "stages", [{"early": {"step": 2}}, {"early": {"optim": {"rate": 1}}}, {"early": {"steps": 0}}, {"Not/This": {}}]
)
def test_an_impossible_stage_is_refused_before_anything_is_trained(data, stages):
    with pytest.raises(ValidationError):
        staged(data, stages=stages)


def test_each_stage_moves_what_it_says_and_starts_from_the_one_before(data, tmp_path):
    run = tmp_path / "run"
    train(staged(data), run, threads=1)
    first, last = weights_of(run / "stages" / "early"), weights_of(run)
    start = config(data, MORE, steps=1, trainable=("tables.text.*",))
    untouched = weights_of(train(start, tmp_path / "other", threads=1).parent.parent)
    moved = {name for name in first if not torch.equal(first[name], untouched[name]) and not name.startswith("tables.")}
    assert moved
    assert all(name.startswith("flows.") for name in moved)
    moved = {name for name in last if not torch.equal(first[name], last[name])}
    assert moved
    assert all(name.startswith("trunk.") for name in moved)


def test_a_run_that_is_stopped_in_a_stage_goes_on_there(data, tmp_path):
    run, recipe = tmp_path / "run", staged(data)
    stopped = train(recipe, run, threads=1, max_seconds=0)
    assert stopped.parent.parent == run / "stages" / "early"
    status = status_of(run)
    assert (status["name"], status["to_come"]) == ("tiny.early", ["tiny"])
    with pytest.raises(ConfigError, match="continue it with --resume"):
        train(recipe, run, threads=1)
    done = train(recipe, run, threads=1, resume=True)
    assert checkpoint.is_done(done)
    assert (status_of(run)["name"], status_of(run)["to_come"]) == ("tiny", [])
    whole = train(recipe, tmp_path / "whole", threads=1)
    for name, tensor in load_file(whole / checkpoint.WEIGHTS).items():
        assert torch.equal(tensor, load_file(done / checkpoint.WEIGHTS)[name]), name
    again = train(recipe, run, threads=1, overwrite=True, max_seconds=0)
    assert again.parent.parent == run / "stages" / "early"


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A base that is a checkpoint of words already, as if it had been fetched and imported."""
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path / "sources"))
    known = next(iter(bases.BASES.values()))
    base = dataclasses.replace(known, name="tiny-lm", title="TinyLM", sha256="ab" * 32)
    monkeypatch.setitem(bases.BASES, base.name, base)
    words = write_rows(tmp_path / "words", KINDS)
    trained = train(config(words, KINDS, steps=1), tmp_path / "of-words", threads=1)
    folder = bases.imported(base)
    folder.parent.mkdir(parents=True)
    trained.rename(folder)
    return base


def test_what_the_base_has_is_not_stored_and_what_moved_is(base, data, tmp_path):
    below = load_file(bases.imported(base) / checkpoint.WEIGHTS)
    recipe = staged(data, init=base.name, trainable=("*.image.*", "trunk.norm.*"), steps=2)
    run = tmp_path / "run"
    folder = train(recipe, run, threads=1)
    own = load_file(folder / checkpoint.WEIGHTS)
    assert "trunk.norm.weight" in own, "it moved"
    assert not [name for name in own if name.startswith("trunk.layers.") or ".text." in name]
    model, stored = checkpoint.load(folder)
    assert stored["base"] == {"name": base.name, "sha256": base.sha256}
    weights = model.state_dict()
    kept = {name for name in below if name.startswith("trunk.layers.") or ".text." in name}
    assert kept
    assert all(torch.equal(weights[name], below[name]) for name in kept)
    assert not torch.equal(weights["trunk.norm.weight"], below["trunk.norm.weight"])
    assert kept <= model.base.tensors
    again = train(config(data, MORE, init=str(run), steps=2, trainable=("flows.*",)), tmp_path / "again", threads=1)
    more = load_file(again / checkpoint.WEIGHTS)
    assert torch.equal(more["trunk.norm.weight"], own["trunk.norm.weight"]), "moved before, so it is stored still"
    assert not kept & set(more)
    unpacked = archive.unpack(archive.pack(folder, tmp_path / "it.plait", "bfloat16"), tmp_path / "it")
    travelled = checkpoint.load(unpacked)[0].state_dict()
    assert all(torch.equal(travelled[name], below[name]) for name in kept)
    for name, tensor in own.items():
        torch.testing.assert_close(travelled[name], tensor, rtol=1e-2, atol=1e-3, check_dtype=False)


def test_what_stands_on_a_base_reads_texts_as_long_as_the_base_did(base, data, tmp_path, monkeypatch):
    recipe = config(data, MORE, init=base.name, steps=1, trainable=("embedders.*",))
    model = api.load(train(recipe, tmp_path / "given", threads=1))
    question = "a cat " * recipe.pack.length
    assert (
        model.engine.prompt_length(Request((Message("user", (Part("text", question),)),), to="text"))
        > recipe.pack.length
    )
    assert model.generate(question, to="text", max_tokens=1)
    monkeypatch.setitem(bases.BASES, base.name, dataclasses.replace(base, length=recipe.pack.length + 1))
    with pytest.raises(ConfigError, match=f"expected at most {recipe.pack.length + 1}, the longest that the model"):
        model.generate(question, to="text", max_tokens=1)


def test_what_was_never_learned_is_not_written(base, data, tmp_path):
    """A head that was drawn beside a base writes noise until some training has moved it."""
    given = train(
        config(data, MORE, init=base.name, steps=1, trainable=("embedders.*",)), tmp_path / "given", threads=1
    )
    model = api.load(given)
    assert model.network.unlearned == {"flows.image"}
    with pytest.raises(ConfigError, match="has not learned to write image; expected text, or"):
        model.generate("draw a cat", to="image")
    assert model.generate("a cat", to="text", max_tokens=2).parts
    opener = next(index for index, name in model.network.vocabulary.openers.items() if name == "image")
    with torch.no_grad():
        model.network.categorical["marks"].logits.bias[opener] = 1e4  # would be chosen, if it might be
    assert {part.type for part in model.generate("a cat", max_tokens=4).parts} == {"text"}
    heads = config(data, MORE, init=str(given), steps=1, trainable=("flows.*",))
    written = train(heads, tmp_path / "written", threads=1)
    last = train(
        config(data, MORE, init=str(written), steps=1, trainable=("embedders.*",)), tmp_path / "last", threads=1
    )
    for folder in (written, last):
        assert api.load(folder).network.unlearned == set()


def test_a_run_on_a_base_resumes_exactly(base, data, tmp_path):
    recipe = config(data, MORE, init=base.name, steps=4, save_every=2, trainable=("*.image.*",))
    whole = train(recipe, tmp_path / "whole", threads=1)
    first = train(recipe, tmp_path / "parts", threads=1, max_seconds=0)
    assert not checkpoint.is_done(first)
    parts = train(recipe, tmp_path / "parts", threads=1, resume=True)
    for name, tensor in load_file(whole / checkpoint.WEIGHTS).items():
        assert torch.equal(tensor, load_file(parts / checkpoint.WEIGHTS)[name]), name


def test_nobody_is_asked_where_nobody_sits(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path))
    base = next(iter(bases.BASES.values()))
    with pytest.raises(MissingError, match=rf"plait import {base.name}  # .*{base.licence}.*93 MB"):
        bases.folder_of(base)
    monkeypatch.setattr(bases, "ask", lambda base: False)
    with pytest.raises(ConfigError, match="was not fetched"):
        bases.folder_of(base)
    assert not list(tmp_path.iterdir())


def test_the_base_of_a_checkpoint_is_fetched_and_named(base, data, tmp_path, monkeypatch):
    run = train(config(data, MORE, init=base.name, steps=1, trainable=("*.image.*",)), tmp_path / "run", threads=1)
    lines, agreements = [], []
    api.fetch_base(run, lines.append)
    assert not lines, "it is here"
    monkeypatch.setattr(bases, "imported", lambda base: tmp_path / "missing")
    monkeypatch.setattr(bases, "folder_of", lambda base, agreed=False: agreements.append(agreed))
    api.fetch_base(run, lines.append)
    assert (lines, agreements) == ([f"fetching {base}, once"], [True])


def test_a_damaged_base_is_said_and_how_to_mend_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path))
    base = next(iter(bases.BASES.values()))
    file = tmp_path / base.package.folder / base.file
    file.parent.mkdir(parents=True)
    for content in (None, b"half"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"missing, damaged .*: delete .*, then plait import {base.name}"):
            bases.folder_of(base)
    assert file.read_bytes() == b"half"


def test_a_base_that_is_not_there_is_said_before_a_run_is_begun(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path / "sources"))
    with pytest.raises(MissingError, match="plait import"):
        train(config(data, MORE, init=next(iter(bases.BASES))), tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", [{"name": "other-lm"}, {"sha256": "0" * 64}])
def test_a_base_that_is_not_known_is_named(base, data, tmp_path, change):
    folder = train(config(data, MORE, init=base.name, steps=1, trainable=("flows.*",)), tmp_path / "run", threads=1)
    stored = json.loads((folder / checkpoint.CONFIG).read_text())
    stored["base"] |= change
    (folder / checkpoint.CONFIG).write_text(json.dumps(checkpoint.sealed(stored)))
    with pytest.raises(CheckpointError, match=r"it stands on the language model .* expected one of"):
        checkpoint.load(folder)


def test_a_task_that_teaches_an_objective_nothing_is_not_drawn(data):
    from plait.train import run

    audio = {"audio": {"frames": 4, "block": 4, "vocoder": 16}}
    recipe = staged(data, stages={}, objective="codec", modalities=staged(data).modalities | audio)
    with pytest.raises(ConfigError, match="learns nothing from the tasks image, text"):
        run.start(recipe, ())
