"""A model's own answers as rows: the noise goes with what was drawn from it, and the way from answers to a faster model."""

import json

import numpy as np
import pytest
import torch
from tiny_rows import config, write_rows
from worlds import World, text

from plait import api, registry
from plait.contract import Message, Part, Sample
from plait.data import media
from plait.data.drawn import SUFFIX, write_drawn
from plait.data.rows import dump_row, read_rows, row_id
from plait.data.sequence import Encoder, FlowConfig
from plait.errors import ConfigError, DataError, RowError
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.infer.teach import taught
from plait.recipes import load
from plait.recipes.overrides import override
from plait.recipes.recipe import Recipe
from plait.train import checkpoint, run

WORLD = World()


def drawing(seed, size=(8, 8)):
    question = (Message("user", (text("draw seven"),)),)
    return Request(question, to="image", seed=seed, steps=3, options={"image": {"size": size}})


@pytest.fixture(scope="module")
def answer():
    return Engine(WORLD.model()).generate([drawing(4)])[0]


def test_the_noise_of_a_block_is_what_it_was_drawn_from(answer):
    """It hangs on the request's seed alone, and is kept with the block."""
    (block,) = answer.segments[0].blocks
    assert block.noise.shape == block.tokens.shape
    other = Engine(WORLD.model()).generate([drawing(4), drawing(5)])
    np.testing.assert_array_equal(other[0].segments[0].blocks[0].noise, block.noise)
    assert not np.allclose(other[1].segments[0].blocks[0].noise, block.noise)


def test_a_file_gives_back_blocks_and_noise(answer, tmp_path):
    path = tmp_path / f"a{SUFFIX}"
    write_drawn(answer.segments[0], path)
    image = WORLD.modalities["image"]
    part = Part("image", str(path))
    media.check(image, part)
    (found,), (block,) = media.read(image, part).blocks, answer.segments[0].blocks
    assert found.header == block.header
    np.testing.assert_array_equal(found.tokens, block.tokens)
    np.testing.assert_allclose(found.noise, block.noise, atol=2e-3)
    with pytest.raises(RowError, match="other settings"):
        media.check(registry.build("image", {"patch": 2, "channels": 1}), part)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RowError, match="plait distill: make it anew"):
        media.read(image, part)


def test_every_copy_of_a_drawn_block_has_its_own_noise(answer, tmp_path):
    path = tmp_path / f"a{SUFFIX}"
    write_drawn(answer.segments[0], path)
    encoder = Encoder(
        WORLD.vocabulary, FlowConfig(copies=3, null_prob=0.0), lambda p: media.read(WORLD.modalities[p.type], p)
    )
    sample = Sample((Message("user", (text("draw seven"),)), Message("assistant", (Part("image", str(path)),))))
    (noised,) = (encoder.row(sample, np.random.default_rng(0)).noised,)
    tokens = noised["image"]
    noise = media.read(WORLD.modalities["image"], Part("image", str(path))).blocks[0].noise
    assert len(set(tokens.time.tolist())) == 3
    expected = tokens.time[:, None] * tokens.clean + (1 - tokens.time[:, None]) * np.tile(noise, (3, 1))
    np.testing.assert_allclose(tokens.inputs, expected, atol=1e-5)


def test_only_rows_that_ask_for_a_medium_are_answered(tmp_path):
    words = Sample((Message("user", (text("what?"),)), Message("assistant", (text("yes"),))), "read")
    drawn = Sample((Message("user", (text("draw seven"),)), Message("assistant", (WORLD.part("image", 1),))), "draw")
    rows = list(taught(Engine(WORLD.model()), {"read": [words], "draw": [drawn] * 5}, tmp_path, {"steps": 2}, 3, 0))
    assert [row.task for row in rows] == ["draw"] * 3 + ["read"]
    values = [row.messages[-1].parts[0].value for row in rows[:3]]
    assert len(set(values)) == 3
    lines = [dump_row(row) for row in rows]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    again = list(read_rows(tmp_path / "train.jsonl", WORLD.modalities))
    assert media.read(WORLD.modalities["image"], again[0].messages[-1].parts[0]).blocks[0].noise is not None
    with pytest.raises(ConfigError, match="no task asks for audio or image"):
        list(taught(Engine(WORLD.model()), {"read": [words]}, tmp_path, {}, 3, 0))


def test_a_model_learns_from_its_own_answers_through_the_usual_training(small_digits, tmp_path):
    settings = ["trunk.dim=32", "trunk.num_heads=2", "trunk.num_layers=1", "steps=2", f"data={small_digits}"]
    weights = dict.fromkeys(load("digits").weights, 0.0) | {"draw": 1.0, "next": 1.0, "read": 1.0}
    recipe = override(load("digits").model_copy(update={"weights": weights}), settings)
    saved = run.train(recipe, tmp_path / "slow", threads=1)
    told = []
    path = api.distill(saved, tmp_path / "fast", rows=20, steps=2, say=told.append)
    assert any(line.startswith("draw: 20 of 20") for line in told)
    student = json.loads(path.read_text())
    assert (student["sampling"]["steps"], student["sampling"]["guidance"], student["steps"]) == (3, 1.0, 2)
    assert student["optim"]["lr"] == pytest.approx(0.2 * recipe.optim.lr)
    rows = [json.loads(line) for line in (tmp_path / "fast" / "train.jsonl").read_text().splitlines()]
    assert {row["task"] for row in rows} == {"draw", "next", "read"}
    assert sum(row["task"] == "draw" for row in rows) == 20
    fast = api.train(str(path), out=tmp_path / "trained", threads=1)
    before, after = (checkpoint.load(folder)[0].state_dict() for folder in (saved, fast))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ConfigError, match="not empty"):
        api.distill(saved, tmp_path / "fast")
    with pytest.raises(DataError, match=r"no train\.jsonl"):
        api.distill(saved, tmp_path / "other", data=tmp_path)


def test_what_a_run_held_out_stays_held_out(tmp_path):
    """And a row that the run found bad is no obstacle."""
    data = write_rows(tmp_path / "rows", ("text", "image"), count=60)
    lines = (data / "train.jsonl").read_text().splitlines()
    (data / "train.jsonl").write_text("\n".join([*lines, '{"task": "image", "messages": 3}']))
    small = config(data, ("text", "image"), hold_out={"test": 0.3}, steps=2)
    recipe = Recipe(**small.model_dump() | {"sampling": {"steps": 2}})
    saved = run.train(recipe, tmp_path / "slow", threads=1)
    held = {
        row
        for split, rows in json.loads((tmp_path / "slow" / "splits.json").read_text())["ids"].items()
        for row in rows
    }
    assert held
    path = api.distill(saved, tmp_path / "fast", rows=100, steps=2, say=lambda line: None)
    questions = {json.dumps(json.loads(line)["messages"][0]) for line in lines if row_id(line.encode()) in held}
    told = {
        json.dumps(json.loads(line)["messages"][0])
        for line in (tmp_path / "fast" / "train.jsonl").read_text().splitlines()
    }
    assert told
    assert not told & questions
    apart = (tmp_path / "fast" / "test.jsonl").read_text().splitlines()
    assert {json.dumps(json.loads(line)["messages"][0]) for line in apart} <= questions
    fast = api.train(str(path), out=tmp_path / "trained", threads=1)
    report = api.evaluate(fast, limit=20, say=lambda line: None)
    assert {cell["task"] for cell in report["cells"]} == {"text", "image"}


def test_rows_of_one_task_are_asked_one_by_one(tmp_path):
    words = Sample((Message("user", (text("what?"),)), Message("assistant", (text("yes"),))), "mixed")
    drawn = Sample((Message("user", (text("draw seven"),)), Message("assistant", (WORLD.part("image", 1),))), "mixed")
    for rows in ([words, drawn], [drawn, words]):
        found = list(taught(Engine(WORLD.model()), {"mixed": rows}, tmp_path, {"steps": 2}, 3, 0))
        assert sorted(row.messages[-1].parts[0].type for row in found) == ["image", "text"]


def test_nothing_is_left_of_a_distillation_that_failed(small_digits, tmp_path):
    settings = ["trunk.dim=32", "trunk.num_heads=2", "trunk.num_layers=1", "steps=1", f"data={small_digits}"]
    weights = dict.fromkeys(load("digits").weights, 0.0) | {"read": 1.0}
    saved = run.train(
        override(load("digits").model_copy(update={"weights": weights}), settings), tmp_path / "slow", threads=1
    )
    with pytest.raises(ConfigError, match="no task asks for"):
        api.distill(saved, tmp_path / "fast")
    assert not (tmp_path / "fast").exists()
