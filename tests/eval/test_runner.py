"""The evaluation of a checkpoint: asking, scoring, and what a report says of where its code is from."""

import subprocess

import numpy as np
import pytest
from small_suite import drawn, evaluation, picture, task

from plait.eval import runner


def mean_distance(answers, references):
    cells = evaluation(task("text->image")).distances(drawn(answers, references))
    (cell,) = [cell for cell in cells if cell["metric"] == "mse"]
    assert cell["n"] == len(references), "rows without an answer went missing"
    return cell["value"]


@pytest.mark.parametrize(
    ("level", "error"),
    [(200, 20), (10, 200)],  # attempts better, and attempts worse than a black picture
    ids=["good attempts", "bad attempts"],
)
def test_a_model_that_is_silent_in_half_of_the_rows_does_not_beat_one_that_answers_all(level, error):
    rng = np.random.default_rng(0)
    references = [picture(rng.integers(0, 40, (8, 8)) + level) for _ in range(20)]
    answers = [picture(np.asarray(part.value, int) + (error if level < 100 else -error)) for part in references]
    half = [answer if number % 2 else None for number, answer in enumerate(answers)]
    everything = mean_distance(answers, references)
    assert everything == pytest.approx((error / 255) ** 2)
    assert mean_distance(half, references) >= everything - 1e-12
    assert mean_distance([None] * 20, references) > 0, "a model that never answers has a distance, too"


def git(folder, *arguments):
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_repository_that_only_encloses_the_package_is_not_its_commit(tmp_path, monkeypatch):
    """An environment within somebody's repository, which does not track what is installed in it."""
    package = tmp_path / "site-packages/plait/eval"
    package.mkdir(parents=True)
    (package / "runner.py").write_text("")
    (tmp_path / "theirs.txt").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "theirs.txt")
    git(tmp_path, "commit", "--quiet", "-m", "theirs")
    monkeypatch.setattr(runner, "__file__", str(package / "runner.py"))
    assert runner.commit().startswith("version ")
    git(tmp_path, "add", "-f", "site-packages")
    git(tmp_path, "commit", "--quiet", "-m", "ours")
    assert runner.commit() == git(tmp_path, "rev-parse", "--short", "HEAD")


def test_without_git_the_version_is_reported(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert runner.commit().startswith("version ")
