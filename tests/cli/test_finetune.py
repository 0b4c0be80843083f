"""The command of a fine-tuning: what its options become, and its exit codes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from plait import api
from plait.cli import app
from plait.errors import ConfigError, DataError

RUNNER = CliRunner()
KEPT = {"same_words": True, "regressed": []}


@pytest.fixture
def called(monkeypatch):
    """Calls of the verbs, which do nothing; what the guard finds is in `found`."""
    calls, found = [], [KEPT]

    def finetune(path, *overrides, **options):
        calls.append((path, overrides, options))
        return Path("runs/birds/checkpoints/step-00000004")

    monkeypatch.setattr(api, "finetune", finetune)
    monkeypatch.setattr(api, "finished", lambda path: True)
    monkeypatch.setattr(api, "guard", lambda path, **options: found[-1])
    return calls, found


def test_options_become_choices(called):
    calls, _ = called
    words = "finetune smol steps=8 --data data/birds --lora 8 --lora-on all --train image-in --train text --freeze readers --replay 0.1"
    done = RUNNER.invoke(app, [*words.split(), "--minutes", "3", "--earlier", "data/smol"])
    assert done.exit_code == 0, done.output
    ((path, overrides, options),) = calls
    assert (path, overrides) == ("smol", ("steps=8",))
    assert options["out"] == Path("runs/birds")
    assert options["earlier"] == Path("data/smol")
    assert options["choices"] == {
        "lora": 8, "words": True, "full": False, "train": ("image-in", "text"), "freeze": ("readers",), "keep_words": False, "replay": 0.1,
        "minutes": 3.0,
    }  # fmt: skip
    assert "words: the same to the bit" in done.output
    assert "nothing else got worse" in done.output


def test_a_cell_that_got_worse_fails_the_command_by_name(called):
    _, found = called
    found.append({"same_words": False, "regressed": ["text->audio say"]})
    done = RUNNER.invoke(app, ["finetune", "smol", "--data", "data/birds"])
    assert done.exit_code == 1
    assert "got worse: text->audio say; more --replay" in done.output
    assert "words: changed" in done.output
    assert RUNNER.invoke(app, ["finetune", "smol", "--data", "data/birds", "--no-guard"]).exit_code == 0


def test_words_that_were_to_be_kept_and_changed_fail(called):
    _, found = called
    found.append({"same_words": False, "regressed": []})
    assert RUNNER.invoke(app, ["finetune", "smol", "--data", "data/birds", "--keep-words"]).exit_code == 1
    assert RUNNER.invoke(app, ["finetune", "smol", "--data", "data/birds"]).exit_code == 0


def test_what_could_not_be_guarded_is_no_success(called, monkeypatch):
    def guard(path, **options):
        raise DataError("no rows")

    monkeypatch.setattr(api, "guard", guard)
    done = RUNNER.invoke(app, ["finetune", "smol", "--data", "data/birds"])
    assert done.exit_code == 3
    assert "not guarded: no rows" in done.output


def test_the_default_run_is_never_the_checkpoints_own(called):
    calls, _ = called
    RUNNER.invoke(app, ["finetune", "runs/birds", "--data", "data/birds"])
    assert calls[-1][2]["out"] == Path("runs/birds-tuned")


def test_adapters_are_put_on_experts_or_on_all(called):
    done = RUNNER.invoke(app, ["finetune", "smol", "--data", "data/birds", "--lora-on", "words"])
    assert isinstance(done.exception, ConfigError)
    assert "got --lora-on words; expected experts or all" in str(done.exception)
