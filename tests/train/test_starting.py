"""Where a training starts and what moves: from a checkpoint its weights, of them those that fit the patterns, and nothing that
was there moves when a modality is added."""

import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny_rows import config, write_rows

from plait.data.hidden import HIDDEN
from plait.data.loader import PackConfig
from plait.data.sequence import FlowConfig
from plait.data.vocabulary import MARKS
from plait.errors import CheckpointError, ConfigError
from plait.train import archive, checkpoint, trainer
from plait.train import run as runs

KINDS, MORE = ("text", "image"), ("text", "image", "audio")
ROWS = (f"tables.{MARKS}.weight", f"categorical.{MARKS}.logits.weight", f"categorical.{MARKS}.logits.bias")


def take_steps(training, settings, count=1):
    with training.loader.steps() as steps:
        return [trainer.one_step(training, next(steps), settings) for _ in range(count)]


def copied(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Rows of two and of three modalities, and a checkpoint of two after three steps."""
    folder = tmp_path_factory.mktemp("starting")
    data, more = write_rows(folder / "data", KINDS), write_rows(folder / "more", MORE)
    settings = config(data, KINDS)
    training = runs.start(settings)
    take_steps(training, settings, 3)
    base = trainer.save(training, settings, folder / "base")
    return SimpleNamespace(data=data, more=more, base=base, vocabulary=training.model.vocabulary)


def test_a_training_begins_with_the_average_of_its_checkpoint(world):
    stored = load_file(world.base / checkpoint.WEIGHTS)
    training = runs.start(config(world.data, KINDS, init=str(world.base), seed=7))
    begun = training.model.state_dict()
    assert set(begun) == set(stored)
    assert all(torch.equal(begun[name], stored[name]) for name in stored)
    assert all(torch.equal(a, stored[name]) for name, a in zip(training.names, training.ema, strict=True))
    raw = load_file(world.base / checkpoint.STATE_TENSORS)
    assert any(not torch.equal(stored[name], raw[f"weights.{name}"]) for name in stored), "the average is the weights"
    assert (training.step, training.tokens) == (0, 0)
    fresh = runs.start(config(world.data, KINDS, seed=7)).model.state_dict()
    assert not all(torch.equal(fresh[name], stored[name]) for name in stored)


def test_the_tokenizer_is_that_of_the_checkpoint(world, tmp_path):
    """Ids of words mean what they meant, whatever the new rows say."""
    other = write_rows(tmp_path / "other", KINDS)
    rows = other / "train.jsonl"
    rows.write_text(re.sub("draw", "paint", rows.read_text()))
    training = runs.start(config(other, KINDS, init=str(world.base)))
    assert training.model.vocabulary.modalities["text"].state() == world.vocabulary.modalities["text"].state()


@pytest.mark.parametrize(
    ("patterns", "moves"),
    [
        (("*.image.*",), lambda name: ".image." in name),
        (("trunk.layers.1.*", "tables.text.*"), lambda name: name.startswith(("trunk.layers.1.", "tables.text."))),
        (("*",), lambda name: True),
    ],
)
def test_only_what_fits_moves_and_only_that_has_state(world, patterns, moves):
    settings = config(world.data, KINDS, init=str(world.base), trainable=patterns, ema_decay=0.5)
    training = runs.start(settings)
    expected = {name for name, _ in training.model.named_parameters() if moves(name)}
    assert len(expected) > 0
    assert set(training.names) == expected
    assert len(training.ema) == len(expected)
    before = copied(training.model)
    take_steps(training, settings, 2)
    after = training.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed <= expected
    assert len(changed) > 0.9 * len(expected)
    tensors = training.image().tensors
    assert {name.removeprefix("weights.") for name in tensors if name.startswith("weights.")} == expected
    assert {name.split(".", 2)[2] for name in tensors if name.startswith("optimizer.")} == expected
    weights = training.ema_weights()
    assert set(weights) == set(after)
    for name in expected & changed:
        assert not torch.equal(weights[name], after[name]), f"{name} has no average of its own"
    for name in set(after) - expected:
        assert torch.equal(weights[name], before[name])


def test_a_checkpoint_of_a_partial_training_is_whole_and_resumes(world, tmp_path):
    settings = config(world.data, KINDS, init=str(world.base), trainable=("flows.*",), optim={"name": "adamw"})
    training = runs.start(settings)
    take_steps(training, settings, 2)
    folder = trainer.save(training, settings, tmp_path / "run")
    model, _ = checkpoint.load(folder)
    weights = training.ema_weights()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    resumed = runs.restart(settings, folder)
    assert resumed.names == training.names
    for one in (training, resumed):
        take_steps(one, settings, 2)
    assert_same_tensors(training.image().tensors, resumed.image().tensors)
    assert_same_tensors(training.ema_weights(), resumed.ema_weights())


def assert_same_tensors(some, others):
    assert set(some) == set(others)
    different = [name for name in some if not torch.equal(some[name], others[name])]
    assert not different


@pytest.mark.parametrize("pattern", ["trunks.*", "image", "flows.audio.*", "TRUNK.*", ""])
def test_a_pattern_that_fits_nothing_is_refused_with_examples(world, pattern):
    with pytest.raises(ConfigError, match=r"no parameter fits .*expected patterns such as .*\.\*"):
        runs.start(config(world.data, KINDS, trainable=("*.image.*", pattern)))


def test_no_pattern_at_all_is_refused(world):
    with pytest.raises(ConfigError, match="nothing moves"):
        runs.start(config(world.data, KINDS, trainable=()))


def test_what_moves_is_counted_by_what_it_is_for(world):
    notes = []
    training = runs.start(config(world.data, KINDS, trainable=("*.image.*", "trunk.norm.*")), say=notes.append)
    (note,) = notes
    assert note == trainer.moving(training.model)
    sizes = {name: parameter.numel() for name, parameter in training.model.named_parameters()}
    both = sum(size for name, size in sizes.items() if name.startswith("embedders.image."))
    drawn = sum(size for name, size in sizes.items() if ".image." in name) - both
    trunk = sum(size for name, size in sizes.items() if name.startswith("trunk."))
    marks = sum(size for name, size in sizes.items() if name in ROWS)
    text = sum(sizes.values()) - both - drawn - trunk - marks
    assert note == (
        f"parameters that move: image-in and image-out {both:,} of {both:,}, image-out {drawn:,} of {drawn:,}, marks 0 of {marks:,}, "
        f"text 0 of {text:,}, "
        f"trunk {sizes['trunk.norm.weight']:,} of {trunk:,}"
    )
    runs.start(config(world.data, KINDS), say=notes.append)
    assert len(notes) == 1, "a training of everything from nothing is told of as well"


def test_an_added_modality_moves_nothing_that_was_there(world):
    """Rows of the table of marks are found by name: `<open:audio>` stands before `<open:image>` now."""
    before = load_file(world.base / checkpoint.WEIGHTS)
    training = runs.start(config(world.more, MORE, init=str(world.base)))
    model = training.model
    after, vocabulary = model.state_dict(), model.vocabulary
    assert world.vocabulary.ids["<open:image>"] != vocabulary.ids["<open:image>"], (
        "nothing has moved: a test of nothing"
    )
    for name, tensor in before.items():
        if name not in ROWS:
            assert torch.equal(after[name], tensor), name
            continue
        assert len(after[name]) == len(vocabulary.names)
        for mark in world.vocabulary.names:
            assert torch.equal(after[name][vocabulary.ids[mark]], tensor[world.vocabulary.ids[mark]]), (name, mark)
    added = {name for name in after if name not in before}
    assert added
    assert all(".audio." in name for name in added)


def test_what_is_added_is_as_in_a_model_from_nothing(world):
    """Its weights are drawn from the seed and their names, whatever else the model has learned."""
    taught = runs.start(config(world.more, MORE, init=str(world.base), seed=3)).model.state_dict()
    fresh = runs.start(config(world.more, MORE, seed=3)).model.state_dict()
    names = [name for name in fresh if ".audio." in name]
    assert names
    assert all(torch.equal(taught[name], fresh[name]) for name in names)


def test_an_added_modality_learns_its_statistics_and_the_others_keep_theirs(world):
    modalities = runs.start(config(world.more, MORE, init=str(world.base))).model.vocabulary.modalities
    assert abs(float(modalities["audio"].mean[0]) + 6.0) > 0.1, "still the mean of before any sound"
    assert modalities["text"].state() == world.vocabulary.modalities["text"].state()


def test_an_added_modality_is_trained_and_saved(world, tmp_path):
    settings = config(
        world.more, MORE, init=str(world.base), trainable=("*.audio.*", *ROWS[:1]), weights={"audio": 9.0}
    )
    training = runs.start(settings)
    before = copied(training.model)
    losses = take_steps(training, settings, 2)
    assert "audio" in losses[0]
    after = training.model.state_dict()
    assert torch.equal(
        after["trunk.layers.0.attention.project.weight"], before["trunk.layers.0.attention.project.weight"]
    )
    assert not torch.equal(after["flows.audio.predict.weight"], before["flows.audio.predict.weight"])
    model, config_json = checkpoint.load(trainer.save(training, settings, tmp_path / "run"))
    assert set(config_json["modalities"]) == set(MORE)
    assert model.vocabulary.names == training.model.vocabulary.names


def test_more_grammar_names_move_nothing_either(world):
    """Larger pictures want more rows and columns."""
    before = load_file(world.base / checkpoint.WEIGHTS)[ROWS[0]]
    wider = {"text": {}, "image": {"max_patches": 12}}
    training = runs.start(config(world.data, KINDS, modalities=wider, init=str(world.base)))
    vocabulary, after = training.model.vocabulary, training.model.state_dict()[ROWS[0]]
    assert len(after) == len(before) + 12
    assert all(
        torch.equal(after[vocabulary.ids[mark]], before[world.vocabulary.ids[mark]]) for mark in world.vocabulary.names
    )


@pytest.mark.parametrize(
    ("modalities", "named"),
    [
        ({"image": {"max_patches": 4}}, r"knows the grammar names .*which the installed modalities lack"),
        ({"image": {"patch": 8}}, r"embedders\.image\.tokens\.weight has shape \[32, 16\]; expected \[32, 64\]"),
        ({"image": {"channels": 3}}, "has shape"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(world, modalities, named):
    with pytest.raises(CheckpointError, match=named):
        runs.start(config(world.data, KINDS, modalities=modalities, init=str(world.base)))


def test_a_checkpoint_that_is_not_there_is_said(world, tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        runs.start(config(world.data, KINDS, init=str(tmp_path / "nowhere")))


def test_a_run_folder_and_an_archive_are_checkpoints_too(world, tmp_path):
    packed = archive.pack(world.base, tmp_path / "base.plait")
    stored = load_file(world.base / checkpoint.WEIGHTS)
    for place in (packed, world.base.parent.parent):
        begun = runs.start(config(world.data, KINDS, init=str(place))).model.state_dict()
        assert all(torch.equal(begun[name], stored[name]) for name in stored)


@pytest.mark.parametrize("tied", [("text",), (MARKS, "text")])
def test_a_tied_table_is_its_head_after_training_and_loading(world, tmp_path, tied):
    settings = config(world.data, KINDS, tied=tied)
    training = runs.start(settings)
    assert not [name for name in training.names if name.startswith(tuple(f"categorical.{table}." for table in tied))]
    before = copied(training.model)
    take_steps(training, settings, 2)
    loaded, config_json = checkpoint.load(trainer.save(training, settings, tmp_path / "run"))
    assert tuple(config_json["tied"]) == loaded.tied == tied
    for model in (training.model, loaded, checkpoint.load(tmp_path / "run/checkpoints/step-00000002")[0]):
        hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
        for table in tied:
            weight = model.tables[table].weight
            torch.testing.assert_close(model.categorical[table](hidden), hidden @ weight.T)
            with torch.no_grad():
                weight[5] += 1.0
            torch.testing.assert_close(model.categorical[table](hidden)[:, 5], hidden @ weight[5])
            assert not torch.equal(weight[6:], before[f"tables.{table}.weight"][6:]), "the table has not moved"
    untied = set(training.model.vocabulary.tables) - set(tied)
    assert all(f"categorical.{table}.logits.weight" in before for table in untied)


def test_state_of_optimizers_lies_under_the_names_of_its_parameters(world):
    """Restored into a training whose optimizers hold the parameters in another order, it finds its way."""
    settings = config(world.data, KINDS, optim={"name": "adamw", "warmup": 1, "flow_lr_scale": 0.5})
    training = runs.start(settings)
    take_steps(training, settings, 2)
    image = training.image()
    shapes = {name: parameter.shape for name, parameter in training.model.named_parameters()}
    for name in shapes:
        assert image.tensors[f"optimizer.exp_avg.{name}"].shape == shapes[name]
        assert image.tensors[f"optimizer.exp_avg_sq.{name}"].shape == shapes[name]
        assert image.tensors[f"optimizer.step.{name}"] == 2
    other = runs.start(settings.model_copy(update={"seed": 9}))
    for group in other.optimizers[0].param_groups:
        group["params"].reverse()
    other.restore(image, {name: tensor.clone() for name, tensor in training.ema_weights().items()})
    assert_same_tensors(other.image().tensors, image.tensors)
    for name, optimizer, parameter in other._optimized():
        assert torch.equal(optimizer.state[parameter]["exp_avg"], image.tensors[f"optimizer.exp_avg.{name}"])
        assert optimizer.state[parameter]["exp_avg"] is not image.tensors[f"optimizer.exp_avg.{name}"]


def test_matrices_of_the_trunk_are_muon_s_and_all_else_is_adamw_s(world):
    settings = config(world.data, KINDS)
    training = runs.start(settings)
    take_steps(training, settings)
    tensors = training.image().tensors
    by_muon = {name.split(".", 2)[2] for name in tensors if name.startswith("optimizer.momentum_buffer.")}
    by_adamw = {name.split(".", 2)[2] for name in tensors if name.startswith("optimizer.exp_avg.")}
    parameters = dict(training.model.named_parameters())
    assert by_muon == {name for name, p in parameters.items() if name.startswith("trunk.") and p.ndim == 2}
    assert by_adamw == set(parameters) - by_muon


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_hide_nothing_before_their_share_of_the_steps(world, workers):
    flow = FlowConfig(mask_prob=0.9, mask_from=0.5, null_prob=0.0)
    pack = PackConfig(length=128, sequences=4, workers=workers)
    training = runs.start(config(world.data, KINDS, flow=flow, pack=pack, steps=6))
    with training.loader.steps() as steps:
        hidden = [int(sum((batch.copy == HIDDEN).sum() for batch in next(steps))) for _ in range(6)]
    assert hidden[:3] == [0, 0, 0]
    assert sum(hidden[4:]) > 0
