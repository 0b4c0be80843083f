"""Rewards: rounds of own answers, what judges them, what is written, and what is refused."""

import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import plait
from plait import api
from plait.data.drawn import SUFFIX
from plait.data.rows import read_rows
from plait.data.sequence import ADVANTAGE
from plait.errors import ConfigError, DataError
from plait.eval import guard
from plait.recipes import rewarding
from plait.train import checkpoint

TINY = ("steps=120", "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", "dtype=float32", "pack.sequences=8")
SHORT = {"rounds": 2, "questions": 12, "answers": 4, "held": 8, "temperature": 1.5}


@pytest.fixture(scope="module")
def start(small_digits, tmp_path_factory):
    """A checkpoint that has learned little, so that its answers differ, but enough to end them: after 40 steps one in ten is whole."""
    return plait.train(
        "digits", f"data={small_digits}", *TINY, out=tmp_path_factory.mktemp("rewarding") / "base", threads=1
    )


def write_reward(folder, body):
    (folder / "own.py").write_text(f"def worth(question, answer, expected):\n    return {body}\n", encoding="utf-8")
    return f"{folder / 'own.py'}:worth"


def rewarded(start, out, task="read", **options):
    said = []
    saved = api.reward(start, task, out=out, say=said.append, choices={"full": True}, **SHORT | options)
    return saved, json.loads((out / rewarding.REWARDS).read_text()), said


def test_rounds_leave_rows_and_a_report_and_the_last_checkpoint(start, tmp_path):
    by = write_reward(tmp_path, "sum(map(ord, answer.value)) % 7")
    saved, report, _ = rewarded(start, tmp_path / "run", by=by, questions=40, answers=8)
    known = plait.registry.build_all(plait.registry.available())
    for number in (1, 2):
        rows = list(read_rows(tmp_path / "run" / f"round-{number:02d}" / "rows" / "train.jsonl", known))
        assert len(rows) == report["history"][number - 1]["rows"]
        assert all("expect" in row.meta for row in rows), (
            "what stood beside the question stays: a withdrawal finds rows by it"
        )
        by_question = defaultdict(list)
        for row in rows:
            reward = sum(map(ord, row.messages[-1].parts[0].value)) % 7
            by_question[tuple(part.value for m in row.messages[:-1] for part in m.parts)].append((reward, row))
        assert max(map(len, by_question.values())) > 1
        for answers in by_question.values():  # an answer is better or worse than others to the same question
            for (reward, row), (other, worse) in itertools.combinations(answers, 2):
                assert np.sign(row.meta[ADVANTAGE] - worse.meta[ADVANTAGE]) == np.sign(reward - other)
        media = [part.value for row in rows for m in row.messages for part in m.parts if part.type == "image"]
        assert media
        assert all(Path(value).is_file() for value in media), "the rows are whole without the data"
    assert saved == checkpoint.locate(tmp_path / "run" / "round-02" / "training")
    assert not (tmp_path / "run" / "round-01" / "training").exists(), "only the last one stays"
    assert report["before"]["gained"] == 0
    assert report["before"]["otherwise"] is None, "words need no other judge"
    assert plait.load(saved).generate("hello", to="text")


def test_what_is_rewarded_becomes_likelier(start, tmp_path, monkeypatch):
    monkeypatch.setattr(rewarding, "RATE", 0.3)  # a model that knows nothing has little to lose
    by = write_reward(tmp_path, "-len(answer.value)")
    saved, _, _ = rewarded(start, tmp_path / "run", by=by, rounds=1, questions=16, answers=6)
    known = plait.registry.build_all(plait.registry.available())
    rows = list(read_rows(tmp_path / "run" / "round-01" / "rows" / "train.jsonl", known))
    losses = [guard.losses(plait.load(path, "float32").engine, rows, "text", 0) for path in (start, saved)]
    better = np.array([row.meta[ADVANTAGE] for row in rows])
    assert {*np.sign(better)} >= {-1, 1}
    assert (better * (losses[0] - losses[1])).sum() > 0


def test_the_best_answer_of_a_question_is_preferred_to_the_worst(start, tmp_path, monkeypatch):
    monkeypatch.setattr(rewarding, "RATE", 1.0)
    by = write_reward(tmp_path, "sum(map(ord, answer.value)) % 7")  # lengths are often all the same
    saved, _, _ = rewarded(start, tmp_path / "run", by=by, objective="dpo", questions=40, answers=8, rounds=1)
    known = plait.registry.build_all(plait.registry.available())
    rows = list(read_rows(tmp_path / "run" / "round-01" / "rows" / "train.jsonl", known))
    assert rows
    for row in rows:
        better, worse = (sum(map(ord, message.parts[0].value)) % 7 for message in (row.messages[-1], row.rejected[0]))
        assert better > worse
    assert checkpoint.read_config(saved)["recipe"]["objective"] == "dpo"


def test_pictures_are_judged_and_told_by_another_kind_of_judge(start, tmp_path, monkeypatch):
    monkeypatch.setattr(rewarding, "LEAST_SPREAD", 1e-9)  # after so few steps it draws noise, one like the other
    _, report, _ = rewarded(start, tmp_path / "run", task="draw", rounds=1)
    for when in ("before", "after"):
        assert 0 < report[when]["reward"] < 1
        assert 0 <= report[when]["otherwise"] <= 1
        assert report[when]["diversity"] > 0
    names = [path.name for path in (tmp_path / "run" / "round-01" / "rows" / "media").iterdir()]
    assert names
    assert all(name.endswith(SUFFIX) for name in names), "as they were drawn, not as files round them"


def test_a_reward_that_is_constant_says_so_and_nothing_is_lost(start, tmp_path):
    before = {path: path.read_bytes() for path in start.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="same reward"):
        rewarded(start, tmp_path / "run", by=write_reward(tmp_path, "0.0"))
    assert {path: path.read_bytes() for path in start.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "nonsense"}, "expected one of .*draw"),
        ({"by": "nowhere.py:worth"}, "FILE.py:NAME"),
        ({"by": "worth"}, "FILE.py:NAME"),
        ({"answers": 1}, "at least 2"),
        ({"rounds": 0}, "at least 1"),
        ({"temperature": 0.0}, "temperature"),
        ({"objective": "ppo"}, "grpo or dpo"),
    ],
)
def test_what_cannot_be_is_refused(start, tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        rewarded(start, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_file_without_the_function_and_a_folder_in_use_are_refused(start, tmp_path):
    place = write_reward(tmp_path, "1.0")
    with pytest.raises(ConfigError, match="no function 'other'"):
        rewarded(start, tmp_path / "run", by=place.replace(":worth", ":other"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with pytest.raises(ConfigError, match="exists"):
        rewarded(start, tmp_path / "run", by=place)
    assert (tmp_path / "run" / "mine.txt").read_text() == "kept"


def test_without_the_rows_that_it_learned_from_it_says_so(start, tmp_path):
    with pytest.raises(DataError, match="no training rows"):
        rewarded(start, tmp_path / "run", data=tmp_path)


def test_a_reward_that_is_no_number_says_what_it_was(start, tmp_path):
    with pytest.raises(ConfigError, match="nan"):
        rewarded(start, tmp_path / "run", by=write_reward(tmp_path, "float('nan')"))


def test_an_answer_that_is_none_counts_as_the_worst_of_its_question():
    nothing = np.nan
    better = rewarding.advantages(np.array([[-3.0, -1.0, nothing, -2.0], [nothing] * 4, [1.0, 1.0, 1.0, 1.0]]))
    assert better[0].tolist() == [-0.75, 1.25, -0.75, 0.25]
    assert not better[1:].any()


@pytest.mark.parametrize("body", ["None", "answer.nothing", "'much'"])
def test_a_reward_that_fails_says_at_which_answer(start, tmp_path, body):
    with pytest.raises(ConfigError, match="failed at the answer"):
        rewarded(start, tmp_path / "run", by=write_reward(tmp_path, body))
