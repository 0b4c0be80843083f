"""Every graph does what its module does, and a player with graphs alone answers as the engine does."""

import inspect
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import TINY, World, templated

from plait import api
from plait.contract import Message
from plait.errors import CheckpointError, ConfigError, MissingError
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model.transformer import vanilla
from plait.portable import exporter, formats, page
from plait.portable.graphs import EMPTY, Step
from plait.portable.player import Player
from plait.train import checkpoint

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

NEAR = 1e-4
SPLIT = {
    "num_layers": 2,
    "num_kv_heads": 1,
    "norm_kind": "rms",
    "adapters": {"image_given": 4, "shared+mine": 2},
    "split": {"audio_written": 16, "image_written": 24},
    "split_every": {"audio_written": 2},
}
TRUNKS = {
    "plain": TINY,
    "experts": TINY.model_copy(update=SPLIT),
    "vanilla": vanilla(dim=32, num_layers=2, num_heads=2),
    "learned": TINY.model_copy(update={"positions": "learned", "max_positions": 256, "no_rotary_layers": (0,)}),
}


@pytest.fixture(scope="module", params=list(TRUNKS))
def exported(request, tmp_path_factory):
    """A model, its folder, and what plays it."""
    world = World()
    model = world.model(TRUNKS[request.param], tied=("text",) if request.param == "plain" else ())
    folder = exporter.write(model, tmp_path_factory.mktemp("onnx") / request.param, {"steps": 4})
    return world, model.eval(), Player(folder)


def asked(*parts, **options):
    return Request((Message("user", parts),), **{"steps": 4, "max_tokens": 12, "seed": 3} | options)


def test_answers_are_the_engines(exported):
    world, model, player = exported
    engine = Engine(model)
    for number, to in enumerate((*world.modalities, None)):
        for guidance in (1.0, 3.0):
            parts = [world.part(name, number) for name in world.modalities]
            request = asked(*parts, to=to, guidance=guidance)
            (theirs,) = engine.generate([request])
            ours = player.generate(request)
            assert theirs.error is None
            assert ours.reason == theirs.reason
            assert ours.usage == theirs.usage
            assert [segment.modality for segment in ours.segments] == [segment.modality for segment in theirs.segments]
            for own, other in zip(ours.segments, theirs.segments, strict=True):
                assert [block.header for block in own.blocks] == [block.header for block in other.blocks]
                for block, reference in zip(own.blocks, other.blocks, strict=True):
                    step = 2 / 255 if own.modality == "image" else NEAR  # pixels are rounded to levels
                    assert np.abs(block.tokens - reference.tokens).max(initial=0.0) <= step


def test_answers_by_chance_are_the_engines(exported):
    world, model, player = exported
    said = []
    for seed in (3, 4):
        request = asked(world.part("text", 1), to="text", temperature=20.0, top_p=0.9, seed=seed)
        (theirs,) = Engine(model).generate([request])
        said.append(player.generate(request).segments[0].blocks[0].tokens.tolist())
        assert said[-1] == theirs.segments[0].blocks[0].tokens.tolist()
    assert said[0] != said[1]


@pytest.mark.parametrize(("new", "kept"), [(1, 0), (1, 7), (3, 0), (6, 11)])
def test_a_step_is_the_same_for_any_number_of_tokens(exported, new, kept):
    world, model, player = exported
    config, experts = model.trunk.config, world.vocabulary.expert_numbers
    generator = torch.Generator().manual_seed(new + kept)
    state = [
        torch.randn(config.num_layers, config.kv_heads, kept, config.head_width, generator=generator) for _ in "kv"
    ]
    any_expert = torch.randint(len(experts), (new + kept,), generator=generator)
    inputs = (
        torch.randn(new, config.dim, generator=generator), kept + torch.arange(new), torch.arange(new) // 2, any_expert[:new], *state,
        any_expert[new:],
    )  # fmt: skip
    step = Step(model.trunk, experts)
    with torch.no_grad():
        expected = step(*inputs)
    names = inspect.signature(step.forward).parameters
    got = player.run("step", **{name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == tuple(theirs.shape)
        assert np.abs(ours - theirs.numpy()).max() < NEAR


def test_empty_places_are_seen_by_none(exported):
    _, model, player = exported
    config, generator = model.trunk.config, torch.Generator().manual_seed(5)
    state = torch.randn(2, config.num_layers, config.kv_heads, 9, config.head_width, generator=generator).numpy()
    vectors = torch.randn(2, config.dim, generator=generator).numpy()
    new = {"vectors": vectors, "position": np.array([4, 5]), "block": np.array([0, 1]), "expert": np.zeros(2, np.int64)}
    full = player.run("step", **new, keys=state[0, :, :, :4], values=state[1, :, :, :4], kept_experts=np.zeros(4, np.int64))  # fmt: skip
    places = np.array([0, 0, 0, 0, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY])
    padded = player.run("step", **new, keys=state[0], values=state[1], kept_experts=places)
    seen = player.run("step", **new, keys=state[0], values=state[1], kept_experts=np.zeros(9, np.int64))
    for ours, theirs in zip(padded, full, strict=True):
        assert np.abs(ours - theirs).max() < NEAR
    assert np.abs(seen[0] - full[0]).max() > NEAR


def test_weights_stand_in_one_file_once(exported, tmp_path):
    _, model, player = exported
    size = (player.folder / exporter.WEIGHTS).stat().st_size
    numbers = sum(parameter.numel() for parameter in model.parameters())  # of a tied table once
    assert size < 4 * numbers * 1.2 + 200 * exporter.ALIGNED
    graphs = {path.stem for path in player.folder.glob("*.onnx")}
    assert graphs == set(player.manifest["graphs"])
    assert {"step", "embed", "logits", "embed_image", "clean_image", "embed_audio", "clean_audio"} == graphs
    for name, inputs in player.manifest["graphs"].items():
        import onnx

        graph = onnx.load(player.folder / f"{name}.onnx", load_external_data=False)
        onnx.checker.check_model(player.folder / f"{name}.onnx")
        assert [each.name for each in graph.graph.input] == inputs


def test_what_cannot_be_is_said(exported, tmp_path, monkeypatch):
    world, model, player = exported
    with pytest.raises(CheckpointError, match="is there already"):
        exporter.write(model, player.folder)
    with pytest.raises(ConfigError, match="steps=33; expected at most 32"):
        player.generate(asked(world.part("text", 0), to="image", steps=33))
    monkeypatch.setitem(player.manifest, "unlearned", ["flows.image"])
    with pytest.raises(ConfigError, match="has not learned to write image"):
        player.generate(asked(world.part("text", 0), to="image"))
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="got to='onxx'; expected one of archive, huggingface"):
        formats.export(tmp_path, tmp_path / "new", "onxx", None)
    with pytest.raises(CheckpointError, match="expected a folder of plait export"):
        Player(tmp_path)
    told = player.manifest | {"format": 99}
    (tmp_path / exporter.MANIFEST).write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="has format 99; expected 1"):
        Player(tmp_path)
    (tmp_path / exporter.MANIFEST).write_text(json.dumps(player.manifest | {"names": ["<pad>"]}))
    with pytest.raises(CheckpointError, match="export it anew"):
        Player(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingError, match=r"onnxscript.*plait\[onnx\]"):
        exporter.write(model, tmp_path / "new")
    assert not (tmp_path / "new").exists(), "nothing half made is left"


def test_a_checkpoint_is_exported_by_name_of_the_format(exported, tmp_path):
    world, model, player = exported
    recipe = {"data": "nowhere", "sampling": {"steps": 5}, "pack": {"length": 64}}
    run = checkpoint.save(tmp_path / "run", model, model.state_dict(), recipe)
    with pytest.raises(ConfigError, match="precision=int8 for --to onnx; expected none"):
        api.export(run, tmp_path / "graphs", "int8", to="onnx")
    folder = api.export(run, tmp_path / "graphs", to="onnx")
    again = Player(folder)
    assert again.manifest["sampling"] == {"steps": 5}
    request = asked(world.part("image", 1), to="text")
    assert again.generate(request).segments[0].blocks[0].tokens.tolist() == (
        player.generate(request).segments[0].blocks[0].tokens.tolist()
    )


def test_the_page_refuses_what_it_cannot_run(tmp_path):
    world = templated(World())
    with pytest.raises(CheckpointError, match="has a chat template, which the page does without"):
        page.write(world.model(), tmp_path / "page", None, tmp_path)


def test_one_question_of_each_task_is_offered(tmp_path):
    world = World()
    picture = [{"type": "image", "image": "p.png"}, {"type": "text", "text": "what is this?"}]
    rows = [
        {"task": "a", "messages": [{"role": "user", "content": picture}, {"role": "assistant", "content": "yes"}]},
        {"task": "a", "messages": [{"role": "user", "content": "again"}, {"role": "assistant", "content": "yes"}]},
        {"task": "turns", "messages": [{"role": role, "content": "hm"} for role in ("user", "assistant") * 2]},
    ]
    (tmp_path / page.TRAIN).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    expected = {"task": "a", "parts": [{"type": "image"}, {"type": "text", "text": "what is this?"}], "to": "text"}
    assert list(page.prompts(world.model(), tmp_path)) == [expected]
    assert list(page.prompts(world.model(), tmp_path / "nowhere")) == []


def test_a_new_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "mine").write_text("kept")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    for target in (tmp_path / "new", tmp_path / "deep" / "er", tmp_path / "link", Path(".")):
        with suppress(RuntimeError), exporter.new_folder(target) as folder:
            (folder / "half").write_text("half")
            raise RuntimeError
        assert not target.exists() or not any(target.iterdir())
        with exporter.new_folder(target) as folder:
            (folder / "file").write_text("whole")
            (folder / "model").mkdir()
        assert sorted(path.name for path in target.iterdir()) == ["file", "model"]
        with pytest.raises(CheckpointError, match="is there already"), exporter.new_folder(target):
            pass
        for path in target.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()
    assert (tmp_path / "new.partial" / "mine").read_text() == "kept"
