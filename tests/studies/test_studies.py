"""Studies: what their arms differ in is what they say, results are kept, and figures and tables show them."""

import json
from collections import Counter
from functools import partial

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from plait import studies
from plait.cli import app
from plait.data.mix import group_by_task
from plait.data.rows import read_rows
from plait.errors import ConfigError, DataError, PlaitError
from plait.recipes import load
from plait.registry import build_all
from plait.studies import arms, data, mixing
from plait.studies.arms import Arm, Settings
from plait.tasks.digits import TASKS
from plait.train import run as runs

KNOWN = build_all(("text", "image", "audio"))


def rows_of(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def key(row):
    return json.dumps(row["messages"][0])


def test_shares_of_the_rows_lie_within_each_other(small_digits, tmp_path):
    few, more = (data.changed(small_digits, tmp_path / f"{share}", share, 0.0) for share in (0.1, 0.3))
    counts = [Counter(row["task"] for row in rows_of(folder)) for folder in (few, more)]
    assert set(counts[0].values()) == {4}
    assert set(counts[1].values()) == {12}
    assert {key(row) for row in rows_of(few)} <= {key(row) for row in rows_of(more)}
    assert data.changed(small_digits, tmp_path / "0.1", 0.1, 0.0) == few, "kept"


def test_wrong_answers_are_wrong_and_as_many_as_asked_for(small_digits, tmp_path):
    right = {key(row): row for row in rows_of(data.changed(small_digits, tmp_path / "right", 1.0, 0.0))}
    wrong = rows_of(data.changed(small_digits, tmp_path / "wrong", 1.0, 0.3))
    by_task: dict[str, list[bool]] = {}
    for row in wrong:
        differs = row["messages"][-1] != right[key(row)]["messages"][-1]
        by_task.setdefault(row["task"], []).append(differs)
        assert row["meta"] == right[key(row)]["meta"], "what is expected stays"
    assert all(sum(found) <= 0.3 * len(found) + 1 for found in by_task.values())
    assert sum(map(sum, by_task.values())) > 0.2 * len(wrong)


def test_the_specialists_share_all_tasks_among_them():
    named = [task for tasks in mixing.cells().values() for task in tasks]
    assert sorted(named) == sorted(task.name for task in TASKS)
    assert len(mixing.cells()) == 10, "nine cells, and the questions with both media"


def test_an_arm_learns_its_own_tasks_alone(small_digits, tmp_path):
    recipe = Arm("a", small_digits, ("read", "draw"), 7, 3).recipe()
    assert (recipe.steps, recipe.seed, recipe.data) == (7, 3, str(small_digits))
    assert recipe.optim.warmup == 1, "not the fifty steps of a training of 1,500"
    usual = load("digits").weights
    assert {task: share for task, share in recipe.weights.items() if share} == {t: usual[t] for t in ("read", "draw")}
    with pytest.raises(ConfigError, match="no rows of \\['fly'\\]"):
        Arm("a", small_digits, ("fly",), 7, 3).recipe()


def test_a_task_costs_what_its_rows_hold_and_how_often_they_are_drawn(small_digits):
    samples = group_by_task(list(read_rows(small_digits / "train.jsonl", KNOWN)))
    recipe = load("digits")
    two = {task: samples[task] for task in ("read", "say")}
    cost = arms.tokens_a_task(two, recipe)
    assert cost["say"] / recipe.weights["say"] > cost["read"] / recipe.weights["read"], (
        "a clip and its copies are longer"
    )
    twice = recipe.model_copy(update={"weights": recipe.weights | {"say": 2 * recipe.weights["say"]}})
    assert arms.tokens_a_task(two, twice)["say"] == pytest.approx(2 * cost["say"])


def test_late_fusion_is_a_rule_over_what_two_specialists_read(small_digits, tmp_path):
    settings = Settings(tmp_path, small_digits, limit=20)
    said = {}
    for task in ("same", "larger"):
        rows = mixing._rows_of(task, settings)
        truth = [row.messages[-1].parts[0].value for row in rows]
        if task == "same":
            said["same image"] = ["one"] * len(rows)
            said["same audio"] = ["one" if answer == "yes" else "two" for answer in truth]
        else:
            said["larger image"], said["larger audio"] = truth, ["zero"] * len(rows)
    assert mixing._by_rule(said, settings) == {"same: same": 1.0, "larger: larger": 1.0}
    said["larger audio"] = ["nine"] * 20
    assert mixing._by_rule(said, settings)["larger: larger"] < 1.0


@pytest.fixture(scope="module")
def noisy(small_digits, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixing, "TRAINED_ROWS", 30)
        return mixing.build_senses(small_digits, tmp_path_factory.mktemp("noisy") / "senses")


def test_the_same_things_are_seen_and_heard_at_every_level_of_noise(noisy):
    by_level = [mixing._noisy_rows(noisy, mixing.BOTH, level, 20) for level in range(len(mixing.LEVELS))]
    digits = [[row.meta["digit"] for row in rows] for rows in by_level]
    assert all(found == digits[0] for found in digits)
    pictures = [np.asarray(Image.open(rows[3].messages[0].parts[0].value), np.float32) for rows in by_level]
    apart = [float(np.abs(picture - pictures[0]).mean()) for picture in pictures]
    assert apart == sorted(apart)
    assert apart[0] == 0 < apart[1]
    powers = [float(np.square(soundfile.read(rows[3].messages[0].parts[1].value)[0][:400]).mean()) for rows in by_level]
    assert powers[0] < powers[-1], "the silence before the word fills with noise"
    assert {row.task for row in read_rows(noisy / "train.jsonl", KNOWN)} == set(mixing.ASKED)


def test_without_the_digits_there_are_no_senses(tmp_path):
    with pytest.raises(DataError, match="no build of the digits"):
        mixing.build_senses(tmp_path / "none", tmp_path / "to")


def test_an_arm_that_is_stopped_is_not_measured(small_digits, tmp_path, monkeypatch):
    """It goes on with the same command, and is measured then."""
    small = ("trunk.dim=32", "trunk.num_heads=2", "trunk.num_layers=1", "pack.sequences=2")
    arm, settings = Arm("a", small_digits, ("read",), 3, 0, small), Settings(tmp_path, small_digits, 3, threads=1)
    whole = runs.train
    monkeypatch.setattr(runs, "train", partial(whole, max_seconds=0))
    with pytest.raises(PlaitError, match="a, seed 0 was stopped"):
        arms.result(arm, settings, lambda saved: pytest.fail("measured"))
    monkeypatch.setattr(runs, "train", whole)
    assert arms.result(arm, settings, lambda saved: {"name": saved.name})["name"] == "step-00000003"


def test_the_senses_are_measured_and_results_are_kept(small_digits, noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(mixing, "build_senses", lambda digits, to: noisy)
    monkeypatch.setattr(mixing, "TRAINED_ROWS", 30)
    small = ("trunk.dim=32", "trunk.num_heads=2", "trunk.num_layers=1", "pack.sequences=2")
    whole = Arm.recipe
    monkeypatch.setattr(
        Arm,
        "recipe",
        lambda arm: whole(Arm(*[getattr(arm, f) for f in ("name", "data", "tasks", "steps", "seed")], small)),
    )
    said = []
    settings = Settings(tmp_path, small_digits, steps=5, seeds=1, limit=20, threads=1, say=said.append)
    found = mixing.senses(settings)
    assert len(said) == 3, "three trainings"
    assert set(found["accuracy"]) == {
        "mixed, see", "mixed, hear", "mixed, both", "specialist, see", "specialist, hear", "late fusion",
    }  # fmt: skip
    assert all(len(levels) == len(mixing.LEVELS) for levels in found["accuracy"].values())
    assert mixing.senses(settings) == found
    assert len(said) == 3, "nothing is trained again"


GRID = {
    "steps": 10,
    "rows": 20,
    "flops": {"mixed": 2e12, "specialists": 2e12},
    "accuracy": {
        "mixed": {"read: digit": arms.spread([0.9, 0.8]), "same: same": arms.spread([0.7])},
        "specialists": {"read: digit": arms.spread([0.5]), "same: same": arms.spread([0.5])},
        "late fusion": {"same: same": arms.spread([0.6])},
    },
}
SENSES = {
    "steps": 4,
    "rows": 20,
    "flops": {"mixed": 1e12, "late fusion": 1e12},
    "levels": [{"pixels": noise, "decibel": below} for noise, below in mixing.LEVELS],
    "accuracy": {"mixed, both": [arms.spread([0.9 - 0.1 * n, 0.8 - 0.1 * n]) for n in range(len(mixing.LEVELS))]},
}


def test_a_study_is_told_in_words_and_drawn(tmp_path, monkeypatch, small_digits):
    monkeypatch.setattr(mixing, "run", lambda settings: {"grid": GRID, "senses": SENSES})
    words = studies.answer("mixing", tmp_path, data=small_digits, say=lambda line: None)
    assert "| read: digit | 85.0 (80.0-90.0) | 50.0 |  |" in words
    assert "| same: same | 70.0 | 50.0 | 60.0 |" in words
    assert (tmp_path / "mixing.md").read_text() == words + "\n"
    assert json.loads((tmp_path / "mixing.json").read_text())["grid"] == GRID
    pytest.importorskip("matplotlib")
    assert "<svg" in (tmp_path / "mixing.svg").read_text()


def test_without_matplotlib_the_words_remain(tmp_path, monkeypatch, small_digits):
    monkeypatch.setattr(mixing, "run", lambda settings: {"grid": GRID, "senses": SENSES})
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    said = []
    studies.answer("mixing", tmp_path, data=small_digits, say=said.append)
    assert any("pip install 'plait[studies]'" in line for line in said)
    assert (tmp_path / "mixing.md").is_file()
    assert not (tmp_path / "mixing.svg").exists()


def test_curves_of_the_data_are_by_what_is_answered():
    found = {
        "arms": {
            str(share): {
                "share": share,
                "wrong": 0.0,
                "accuracy": {f"{t.name}: x": arms.spread([share]) for t in TASKS},
            }
            for share in data.SHARES
        }
    }
    drawn = data.curves(found)
    assert list(drawn["lines"]) == ["answers in text", "answers in image", "answers in audio"]
    assert [value["mean"] for value in drawn["lines"]["answers in text"]] == pytest.approx(list(data.SHARES))


def test_an_unknown_study_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["study", "luck", "--out", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "expected one of data, mixing" in str(result.exception)
