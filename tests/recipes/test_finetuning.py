"""Fine-tuning: what moves, what is kept to the bit, what is written, how it is merged, and what the guard sees."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import plait
from plait import api
from plait.bundle.pack import start_files
from plait.collect import purging
from plait.contract import Message, Part, Sample
from plait.data import copies
from plait.data.pack import collate
from plait.data.rows import SOURCES, read_rows
from plait.data.sequence import Encoder, FlowConfig
from plait.errors import CheckpointError, ConfigError, DataError
from plait.eval import guard
from plait.model import sides
from plait.model.lora import FURTHER
from plait.recipes import finetuning
from plait.recipes.ancestry import HELD_OUT, start_of
from plait.runtime import locks
from plait.runtime.files import sha256_of
from plait.train import archive, checkpoint, probe, standing
from plait.train import run as runs

TINY = ("steps=6", "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", "dtype=float32", "pack.sequences=4")
FEW = ("steps=4", "dtype=float32")


def rows_of(folder, source, task, count=24):
    """Rows of a task of the digits, in a folder of their own."""
    known = plait.registry.build_all(plait.registry.available())
    rows = [sample for sample in read_rows(source / "train.jsonl", known) if sample.task == task]
    copies.write(rows[:count], folder / "train.jsonl")
    return folder


@pytest.fixture(scope="module", autouse=True)
def quickly():
    """Trainings of a few steps are not worth fifteen seconds of measuring."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "WARM_SECONDS", 0.0)
        patch.setattr(probe, "LEAST_ROUNDS", 1)
        yield


@pytest.fixture(scope="module")
def world(quickly, small_digits, tmp_path_factory):
    """A checkpoint of the digits after some steps, own rows of pictures to read, and what was trained on them."""
    folder = tmp_path_factory.mktemp("finetuning")
    base = plait.train("digits", f"data={small_digits}", *TINY, out=folder / "base", threads=1)
    reads = rows_of(folder / "reads", small_digits, "read")
    says = rows_of(folder / "says", small_digits, "say")
    tuned = finetuned(base, reads, folder / "tuned", lora=4)
    return SimpleNamespace(folder=folder, base=base, reads=reads, says=says, tuned=tuned, digits=small_digits)


def finetuned(source, data, out, *overrides, **choices):
    """The checkpoint of a fine-tuning of a few steps."""
    return api.finetune(source, *(overrides or FEW), data=data, out=out, say=str, threads=1, choices=choices)


def own(folder):
    return load_file(folder / checkpoint.WEIGHTS)


def answers(path, count=3):
    """Hidden states of questions about pictures and clips, with an answer of each modality."""
    model = plait.load(path, "float32")
    asked = [
        Message("user", (model.network.vocabulary.modalities[kind].example(seed),))
        for seed in range(count)
        for kind in ("image", "audio")
    ]
    with torch.inference_mode():
        found = []
        for message in asked:
            flow = FlowConfig(null_prob=0.0, context_noise_prob=0.0)
            for kind in ("text", "image", "audio"):
                answer = Part("text", "one") if kind == "text" else model.network.vocabulary.modalities[kind].example(9)
                sample = Sample((message, Message("assistant", (answer,))), "")
                row = Encoder(model.network.vocabulary, flow).row(sample, np.random.default_rng(1))
                batch = collate([[row]], len(row), model.network.vocabulary)
                found.append(model.network.hidden(batch))
    return found


def test_it_writes_what_moved_and_stands_on_the_checkpoint(world):
    stored, config = own(world.tuned), checkpoint.read_config(world.tuned)
    assert stored, "nothing"
    below = own(world.base)
    new = {name for name in stored if FURTHER in name}
    assert {name.rpartition(".")[2] for name in new} == {"image_given+reads", "shared+reads"}
    learned = {name for name in new if ".up." in name and stored[name].any()}
    assert {name.rpartition(".")[2] for name in learned} == {"image_given+reads", "shared+reads"}
    assert not {name for name in stored if name.startswith("trunk.") and name not in new}, (
        "the trunk is the checkpoint's"
    )
    assert {*stored} - new <= {*below}
    assert config["parent"]["sha256"] == json.loads((world.base / "config.json").read_text())["config_sha256"]
    masks = [read["recipe"]["flow"] for read in (config, checkpoint.read_config(world.base))]
    assert [(mask["mask_prob"], mask["mask_from"]) for mask in masks] == [(0.0, 0.0), (0.05, 0.8)]
    before, after = answers(world.base), answers(world.tuned)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_words_are_kept_to_the_bit_where_that_is_asked_for(world, tmp_path):
    kept = finetuned(world.base, world.reads, tmp_path / "kept", keep_words=True)
    assert not [name for name in own(kept) if "shared" in name or name.startswith(("tables", "categorical"))]
    engines = [plait.load(path).engine for path in (world.base, kept, world.tuned)]
    assert guard.same_words(engines[0], engines[1])
    assert not guard.same_words(engines[0], engines[2])


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"lora": 2}, {"image-in", "text"}),
        ({"train": ("image-in",)}, {"image-in"}),
        ({"train": ("image-in", "text"), "lora": 2}, {"image-in", "text"}),
        ({"train": ("trunk",)}, {"trunk"}),
        ({"full": True}, {"image-in", "image-out", "audio-in", "audio-out", "text", "marks", "trunk"}),
        ({"full": True, "freeze": ("audio", "trunk")}, {"image-in", "image-out", "text", "marks"}),
        ({"freeze": ("text",)}, {"image-in"}),
    ],
)
def test_what_is_said_moves_and_nothing_else(world, choices, expected):
    start = finetuning.start_of(str(world.base))
    samples = list(read_rows(world.reads / "train.jsonl", start.modalities))
    chosen = finetuning.Choices(**choices)
    if choices == {"train": ("image-in",)}:  # a checkpoint without a reader has nothing of its own for what is seen
        with pytest.raises(ConfigError, match=r"nothing moves.*--lora"):
            finetuning.what_moves(chosen, start, world.reads, samples)
        return
    trunk, patterns = finetuning.what_moves(chosen, start, world.reads, samples)
    settings = start.recipe.model_copy(
        update={"trunk": trunk, "trainable": patterns, "init": str(world.base), "stands": True}
    )
    model = runs.start(settings).model
    moving = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    of_sides = {name: sides.sides_of_parameter(name, start.vocabulary) for name, _ in model.named_parameters()}
    with_adapters = "lora" in choices or not ({"full", "train"} & set(choices))
    shared = {"text", "trunk", "marks"}  # of these adapters alone move, where there are new ones
    if with_adapters:
        wanted = {name for name, of in of_sides.items() if of <= expected and (FURTHER in name or not of & shared)}
        wanted = {name for name in wanted if FURTHER in name or not name.startswith("trunk.")}
        assert {FURTHER in name for name in moving} >= {True}
    else:
        wanted = {name for name, of in of_sides.items() if of <= expected and FURTHER not in name}
    assert moving
    assert moving == wanted


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"lora": 0}, r"--lora 0; expected a rank from 1"),
        ({"lora": 10**6}, r"--lora 1000000; expected a rank of at most 32"),
        ({"train": ("image-in",), "freeze": ("image",)}, r"nothing moves"),
        ({"train": ("audio-out",)}, r"no row teaches audio-out.*rows in which that modality is answered with"),
        ({"train": ("eyes",)}, r"got 'eyes' to train or to freeze; expected some of .*image-in"),
        ({"freeze": ("image", "text")}, r"nothing moves.*less to be frozen"),
        ({"full": True, "lora": 4}, r"--full with --lora"),
        ({"words": True, "keep_words": True}, r"adapters of words change words"),
        ({"replay": 1.0}, r"--replay 1.0; expected a share"),
    ],
)
def test_what_cannot_be_says_what_to_do_and_leaves_nothing(world, tmp_path, choices, message):
    with pytest.raises(ConfigError, match=message):
        api.finetune(world.base, data=world.reads, out=tmp_path / "run", say=str, choices=choices)
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_rows_to_replay_that_are_not_here_are_asked_for(world, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(world.base, alone)
    config = json.loads((alone / "config.json").read_text())
    config["recipe"]["data"] = str(tmp_path / "gone")
    (alone / "config.json").write_text(json.dumps(checkpoint.sealed(config)))
    with pytest.raises(DataError, match=r"--replay 0.5.*expected them: --earlier FOLDER"):
        api.finetune(alone, data=world.reads, out=tmp_path / "run", say=str, choices={"replay": 0.5})
    with pytest.raises(DataError, match="holds no training rows"):
        api.finetune(alone, data=world.reads, out=tmp_path / "run2", say=str, earlier=tmp_path, choices={"replay": 0.5})


def test_the_run_folder_never_holds_what_it_starts_from(world, tmp_path):
    shutil.copytree(world.folder / "base", tmp_path / "birds")
    for out in (tmp_path / "birds", tmp_path):
        with pytest.raises(ConfigError, match=r"the run folder .* holds .*birds.*choose one with --out"):
            api.finetune(tmp_path / "birds", data=world.reads, out=out, say=str, overwrite=True)
    assert checkpoint.locate(tmp_path / "birds")


def test_a_run_goes_on_from_the_checkpoint_that_it_began_with(world):
    with pytest.raises(ConfigError, match=r"the run in .* began with .*, not with"):
        api.finetune(world.tuned, data=world.reads, out=world.folder / "tuned", say=str, resume=True)


def test_a_folder_where_nothing_was_trained_is_taken_again(world, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no power")

    monkeypatch.setattr(finetuning, "probe", fail)
    options = {"data": world.reads, "out": tmp_path / "run", "say": str, "threads": 1, "choices": {"lora": 2}}
    with pytest.raises(RuntimeError, match="no power"):
        api.finetune(world.base, *FEW, **options)
    assert (tmp_path / "run" / "replay").is_dir()
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "WARM_SECONDS", 0.0)
        assert checkpoint.is_done(api.finetune(world.base, *FEW, **options))


def test_it_is_found_from_any_folder(world, tmp_path, monkeypatch):
    monkeypatch.chdir(world.folder)
    saved = finetuned("base", "reads", "relative", lora=2, replay=0.3)
    merged = api.merge(saved, "merged")
    monkeypatch.chdir(tmp_path)
    place = world.folder / "relative"
    assert answers(place)
    api.merge(world.folder / merged, tmp_path / "apart", undo=True)
    assert answers(tmp_path / "apart")
    packed = api.export(place, tmp_path / "packed.plait")
    assert answers(packed)


def test_a_run_that_another_training_uses_is_left_as_it_is(world, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(world.folder / "tuned", run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with locks.alone(run):
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(ConfigError, match="in use by another training"):
                api.finetune(world.base, *FEW, data=world.reads, out=run, say=str, threads=1, **options)
            with pytest.raises(ConfigError, match="in use by another training"):
                plait.train("digits", f"data={world.digits}", *TINY, out=run, threads=1, **options)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_is_held_while_it_is_proposed_and_while_it_is_trained(world, tmp_path, monkeypatch):
    seen = []

    def held(name, function):
        def wrapped(*arguments, **options):
            with (
                pytest.raises(ConfigError, match="in use by another training"),
                locks.alone(tmp_path / "run", patience=0),
            ):
                pass
            seen.append(name)
            return function(*arguments, **options)

        return wrapped

    monkeypatch.setattr(finetuning, "propose", held("proposed", finetuning.propose))
    monkeypatch.setattr(runs, "_train_one", held("trained", runs._train_one))
    finetuned(world.base, world.reads, tmp_path / "run", lora=2)
    assert seen == ["proposed", "trained"]
    with locks.alone(tmp_path / "run", patience=0):
        pass
    api.train_on(world.reads, *TINY, out=tmp_path / "run", say=str, threads=1, overwrite=True)
    assert seen == ["proposed", "trained", "trained"]
    plait.train("digits", f"data={world.digits}", *TINY, out=tmp_path / "run", threads=1, overwrite=True)
    assert seen == ["proposed", "trained", "trained", "trained"]


def test_what_a_model_answers_about_new_media_says_whose_they_are(world, tmp_path):
    """So that a withdrawal finds it."""
    base = tmp_path / "base"
    shutil.copytree(world.base, base)
    shutil.copytree(world.digits, base / HELD_OUT)
    start = start_of(str(base))
    rows = [
        replace(row, meta={"collected": {"item": f"item{number}"}} if number else {})
        for number, row in enumerate(read_rows(world.reads / "train.jsonl", start.modalities))
    ]
    folder = finetuning.own_answers(start, start, rows, tmp_path / "run", str)
    answered = list(read_rows(folder / "train.jsonl", start.modalities))
    assert answered
    for row in answered:
        (shown,) = [part for part in row.messages[0].parts if part.type == "image"]
        data = Path(shown.value).read_bytes()
        sources = [
            dict(source.meta) for source in rows if data == Path(picture_of(source)).read_bytes() and source.meta
        ]
        assert row.meta.get(SOURCES, []) == sources
    purging.purge(
        tmp_path / "run",
        purging.Withdrawn(
            {row.meta[SOURCES][0]["collected"]["item"] for row in answered if SOURCES in row.meta}, set()
        ),
        purging.Removal(),
    )
    assert all(SOURCES not in row.meta for row in read_rows(folder / "train.jsonl", start.modalities))


def picture_of(sample):
    return next(part.value for message in sample.messages for part in message.parts if part.type == "image")


def test_an_archive_is_refused_with_the_way_out(world, tmp_path):
    packed = archive.pack(world.base, tmp_path / "base.plait")
    with pytest.raises(CheckpointError, match=r"is an archive; expected a folder.*plait export"):
        api.finetune(packed, data=world.reads, out=tmp_path / "run", say=str)


def test_earlier_rows_take_their_share(world, tmp_path):
    saved = finetuned(world.base, world.reads, tmp_path / "run", replay=0.25, lora=2)
    recipe = checkpoint.read_config(saved)["recipe"]
    shares = recipe["weights"]
    earlier = {task: share for task, share in shares.items() if task.startswith("earlier/")}
    assert sum(earlier.values()) == pytest.approx(0.25)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert earlier["earlier/step"] > earlier["earlier/larger"], "as its recipe weighs them"
    known = plait.registry.build_all(plait.registry.available())
    held_out = {contents(sample) for path in world.digits.glob("*.test.jsonl") for sample in read_rows(path, known)}
    learned = {contents(sample) for sample in read_rows(world.digits / "train.jsonl", known)}
    replayed = list(read_rows(tmp_path / "run" / "replay" / "train.jsonl", known))
    assert replayed
    assert {contents(sample) for sample in replayed} <= learned - held_out
    assert all(sample.meta["recalled"] for sample in replayed)
    assert recipe["objective"] == "recall"


def contents(sample):
    """What a row holds, whatever its media are called and whatever is known of it."""
    parts = [part for message in sample.messages for part in message.parts]
    return sample.task, *(part.value if part.type == "text" else Path(part.value).read_bytes() for part in parts)


def test_a_run_goes_on_where_it_stopped(world, tmp_path):
    options = {"data": world.reads, "say": str, "threads": 1, "choices": {"lora": 4}}
    api.finetune(world.base, "steps=4", "dtype=float32", "save_every=2", out=tmp_path / "run", **options)
    for folder in checkpoint.steps_of(tmp_path / "run")[1:]:
        checkpoint.remove(folder)
    again = api.finetune(world.base, out=tmp_path / "run", resume=True, **options)
    assert checkpoint.is_done(again)
    straight = own(world.tuned)
    resumed = own(again)
    assert {*straight} == {*resumed}
    assert all(torch.equal(straight[name], tensor) for name, tensor in resumed.items())


def test_time_stops_a_training_whose_steps_are_settled(world, tmp_path):
    stopped = finetuned(
        world.base, world.reads, tmp_path / "run", "steps=100000", "dtype=float32", lora=4, minutes=0.01
    )
    assert not api.finished(stopped)


def test_merged_answers_are_the_adapters_and_unmerged_is_what_was(world, tmp_path):
    merged = api.merge(world.tuned, tmp_path / "merged")
    config = checkpoint.read_config(merged)
    assert config["parent"] is None
    assert config["trunk"]["adapters"] == {"image_given": 4, "shared": 4}
    for one, other in zip(answers(world.tuned), answers(merged), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    apart = api.merge(merged, tmp_path / "apart", undo=True)
    before, after = own(world.tuned), own(apart)
    assert {*before} == {*after}
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    whole = checkpoint.load(apart)[0].state_dict()
    assert all(torch.equal(whole[name], tensor) for name, tensor in own(world.base).items() if name not in before)


def test_a_second_fine_tuning_joins_the_first(world, tmp_path):
    second = finetuned(world.tuned, world.says, tmp_path / "run", lora=2)
    adapters = checkpoint.read_config(second)["trunk"]["adapters"]
    assert adapters == {"image_given+reads": 4, "shared+reads": 4, "audio_written+says": 2, "shared+says": 2}
    merged = api.merge(second, tmp_path / "merged")
    assert checkpoint.read_config(merged)["trunk"]["adapters"] == {"image_given": 4, "shared": 6, "audio_written": 2}
    for one, other in zip(answers(second), answers(merged), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_what_is_whole_is_not_merged(world, tmp_path):
    merged = api.merge(world.tuned, tmp_path / "merged")
    with pytest.raises(CheckpointError, match="was merged already"):
        api.merge(merged, tmp_path / "twice")
    with pytest.raises(CheckpointError, match="stands on no other checkpoint"):
        api.merge(world.base, tmp_path / "base")
    with pytest.raises(CheckpointError, match="was not merged"):
        api.merge(world.base, tmp_path / "base", undo=True)
    with pytest.raises(ConfigError, match="exists; expected a new folder"):
        api.merge(world.tuned, merged)


def test_without_the_checkpoint_below_or_with_another_it_says_so(world, tmp_path):
    shutil.copytree(world.folder / "base", tmp_path / "base")
    shutil.copytree(world.folder / "tuned", tmp_path / "tuned")
    tuned = checkpoint.locate(tmp_path / "tuned")
    config = json.loads((tuned / "config.json").read_text())
    config["parent"]["name"] = "elsewhere"
    (tuned / "config.json").write_text(json.dumps(checkpoint.sealed(config)))
    plait.load(tuned)  # found from its own place
    below = checkpoint.locate(tmp_path / "base")
    weights = own(below)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, below / checkpoint.WEIGHTS)
    changed = json.loads((below / "config.json").read_text())
    changed["sha256"][checkpoint.WEIGHTS] = sha256_of(below / checkpoint.WEIGHTS)
    (below / "config.json").write_text(json.dumps(checkpoint.sealed(changed)))
    with pytest.raises(CheckpointError, match=r"stands on the checkpoint elsewhere.*is another.*plait merge"):
        plait.load(tuned)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(CheckpointError, match="which is not here"):
        plait.load(tuned)


def test_one_server_keeps_what_they_share_once(world, tmp_path):
    other = finetuned(world.base, world.says, tmp_path / "says", lora=2)
    models = api.load_several({"base": world.base, "reads": world.tuned, "says": other})
    places = [dict(model.network.named_parameters()) for model in models.values()]
    for tuned in places[1:]:
        apart = {name for name in tuned if name not in places[0] or tuned[name] is not places[0][name]}
        assert 0 < len(apart) < len(tuned) / 2, "what is the checkpoint's is there once"
    assert answers(world.tuned)[0].shape


def test_a_checkpoint_of_a_fine_tuning_is_exported_small_and_opened_again(world, tmp_path):
    packed = api.export(world.tuned, tmp_path / "tuned.plait")
    assert packed.stat().st_size < api.export(world.base, tmp_path / "base.plait").stat().st_size
    for one, other in zip(answers(world.tuned), answers(packed), strict=True):
        assert torch.equal(one, other)


def test_a_bundle_that_starts_from_it_needs_nothing_below(world, tmp_path):
    (name,) = files = start_files(str(world.tuned), tmp_path)
    (tmp_path / "alone.plait").write_bytes(files[name])
    with archive.opened(tmp_path / "alone.plait") as folder:
        assert checkpoint.read_config(folder)["parent"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["alone.plait"]


def test_the_guard_names_what_got_worse_and_nothing_else(world, tmp_path):
    result = api.guard(world.tuned, rows=8, say=str)
    assert result["aims"] == ["read"]
    assert (world.folder / "tuned" / finetuning.GUARD).is_file()
    tasks = {entry["task"] for entry in result["measures"]}
    assert {"read", "say", "draw", "translate", "step"} <= tasks
    assert all(entry["metric"] == guard.LOSS or entry["cell"].endswith("text") for entry in result["measures"])
    still = {
        e["task"]: (e["before"], e["after"])
        for e in result["measures"]
        if e["metric"] == guard.LOSS and e["cell"] == "text->audio"
    }
    assert still["say"][0] != still["say"][1], "adapters of words reach every answer"
    # now break what is said, and nothing else
    broken = tmp_path / "broken"
    shutil.copytree(world.folder / "tuned", broken)
    folder = checkpoint.locate(broken)
    stored = own(folder)
    damaged = {
        name: tensor
        for name, tensor in load_file(world.base / checkpoint.WEIGHTS).items()
        if name.startswith("flows.audio.")
    }
    stored |= {
        name: tensor + 0.5 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
        for name, tensor in damaged.items()
    }
    save_file(stored, folder / checkpoint.WEIGHTS)
    config = json.loads((folder / "config.json").read_text())
    config["sha256"][checkpoint.WEIGHTS] = sha256_of(folder / checkpoint.WEIGHTS)
    (folder / "config.json").write_text(json.dumps(checkpoint.sealed(config)))
    worse = api.guard(broken, rows=8, say=str)
    assert {"text->audio say", "image->audio say-picture", "audio->audio change-voice"} <= {*worse["regressed"]}
    assert not [name for name in worse["regressed"] if "->audio" not in name and name not in result["regressed"]]


def test_a_loss_that_is_no_number_any_more_is_worse():
    old, new = (guard.TaskMeasure("text->audio", np.array(values)) for values in ([1.0, 2.0], [1.0, np.nan]))
    (found,) = guard.compare({"say": old}, {"say": new}, ())
    assert found.regressed
    none = guard.TaskMeasure("text->audio", np.array([np.nan]))
    (found,) = guard.compare({"say": none}, {"say": none}, ())
    assert (found.n, found.worse) == (0, False)


def test_one_lost_answer_is_no_regression_and_two_are():
    def measured(value, metric="exact match"):
        entry = {"metric": metric, "value": value, "ci95": (0.05, 0.6), "higher_is_better": True, "n": 8}
        return {"read": guard.TaskMeasure("image->text", np.ones(4), [entry])}

    def regressed(before, after):
        return [one.regressed for one in guard.compare(before, after, ())]

    assert regressed(measured(1 / 8), measured(0.0)) == [False, False]
    assert regressed(measured(2 / 8), measured(0.0)) == [False, True]
    assert regressed(measured(2 / 8), measured(1.0, "another")) == [False, True], "a score that is gone"
    assert not guard.compare(measured(2 / 8), measured(0.0), {"read"})[1].regressed


def test_a_second_fine_tuning_is_guarded_on_what_the_first_checkpoint_knew(world, tmp_path):
    second = finetuned(world.tuned, world.says, tmp_path / "run", lora=2)
    result = api.guard(second, rows=2, say=str)
    assert {"draw", "translate", "step"} <= {entry["task"] for entry in result["measures"]}
    assert result["aims"] == ["say"]


def test_where_everything_moves_the_result_stands_alone_and_is_guarded(world, tmp_path):
    full = finetuned(world.base, world.reads, tmp_path / "full", full=True, replay=0)
    assert checkpoint.read_config(full)["parent"] is None
    assert {*own(full)} == {*own(world.base)}
    assert api.guard(full, rows=2, say=str)["aims"] == ["read"]
    with pytest.raises(CheckpointError, match="was trained from no other checkpoint"):
        api.guard(world.base, rows=2, say=str)


def test_losses_do_not_hang_on_the_rows_beside(world):
    engine = plait.load(world.base, "float32").engine
    known = engine.model.vocabulary.modalities
    rows = list(read_rows(world.digits / "say.test.jsonl", known))[:10]
    together = guard.losses(engine, rows, "audio", 0)
    np.testing.assert_allclose(guard.losses(engine, rows[:3], "audio", 0), together[:3], rtol=1e-4)
    assert np.isnan(guard.losses(engine, rows, "image", 0)).all()


def test_sets_come_apart_where_they_were_joined():
    sets = standing._sets({"a": 2, "a+x": 1, "b+x": 3})
    assert sets == {"a": {"a": 2, "a+x": 1}, "b": {"b+x": 3}}
    tensors = {
        f"l.adapters.out.{end}.{name}": torch.randn((rank, 4) if end == "down" else (4, rank))
        for end in ("down", "up")
        for name, rank in (("a", 2), ("a+x", 1), ("b+x", 3))
    }
    joined = standing._joined(tensors, sets)
    assert {name: tuple(tensor.shape) for name, tensor in joined.items()} == {
        "l.adapters.out.down.a": (3, 4),
        "l.adapters.out.up.a": (4, 3),
        "l.adapters.out.down.b": (3, 4),
        "l.adapters.out.up.b": (4, 3),
    }
    parted = standing._parted(joined, sets)
    assert {*parted} == {*tensors}
    assert all(torch.equal(parted[name], tensors[name]) for name in tensors)


def test_rows_of_preferences_are_taught_as_such_and_replayed_ones_as_ever(world):
    known = plait.registry.build_all(plait.registry.available())
    rows = list(read_rows(world.reads / "train.jsonl", known))
    others = [next(o for o in rows if o.messages[-1] != row.messages[-1]).messages[-1:] for row in rows]
    pairs = [Sample(row.messages, "better", rejected=rejected) for row, rejected in zip(rows, others, strict=True)]
    folder = world.folder / "pairs"
    copies.write(pairs, folder / "train.jsonl")
    said = []
    tuned = api.finetune(
        world.base, *FEW, data=folder, out=world.folder / "better", say=said.append, threads=1, choices={"replay": 0.5}
    )
    assert any("chosen" in line for line in said)
    recipe = checkpoint.read_config(tuned)["recipe"]
    assert recipe["objective"] == "dpo"
    assert any(task.startswith("earlier/") for task in recipe["weights"])
    log = (world.folder / "better" / "train.log").read_text()
    assert "preference" in log
    assert any(group in log for group in ("image", "audio")), "earlier rows have losses of their own"
