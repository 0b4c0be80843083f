"""`plait eval` on the command line: what it refuses, and its table."""

import json
import re

import pytest
from typer.testing import CliRunner

from plait.cli import app
from plait.cli.evaluate import print_table
from plait.errors import CheckpointError, ConfigError, DataError


def invoke(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)], catch_exceptions=False)


def cell(**changes):
    facts = {
        "cell": "image->text", "task": "read", "split": "test", "metric": "exact match", "higher_is_better": True, "value": 0.5,
        "ci95": [0.4, 0.6], "n": 20, "baseline": 0.1, "judge_ceiling": None, "blank_input": None, "target": 0.4,
    }  # fmt: skip
    return {**facts, **changes}


def test_three_checkpoints_are_too_many(tmp_path):
    with pytest.raises(ConfigError, match="got 3 checkpoints; expected one to measure, or two to compare"):
        invoke("a", "b", "c")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        invoke(tmp_path / "nowhere")


def test_fewer_than_twenty_rows_are_refused(tmp_path):
    result = invoke(tmp_path, "--limit", "19")
    assert result.exit_code == 2
    assert "20" in re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def test_reports_are_compared_without_a_checkpoint(tmp_path):
    for name, value in (("before", 0.9), ("after", 0.5)):
        report = {"cells": [cell(value=value)], "data": {"files": {}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    worse = invoke(tmp_path / "before.json", tmp_path / "after.json")
    assert worse.exit_code == 1
    assert "image->text read test exact match: 0.900 -> 0.500  REGRESSED" in worse.output
    assert "1 of 1 cells regressed" in worse.output
    assert invoke(tmp_path / "after.json", tmp_path / "before.json").exit_code == 0
    assert invoke(tmp_path / "before.json", tmp_path / "after.json", "--tolerance", "0.5").exit_code == 0
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match=r"other\.json is no report"):
        invoke(tmp_path / "before.json", tmp_path / "other.json")


def test_the_table_has_the_main_split_and_marks_targets(capsys):
    print_table({"cells": [cell(), cell(task="missing", target=0.6), cell(task="asked otherwise", split="phrasing")]})
    printed = capsys.readouterr().out
    assert re.search(r"image->text .* read .* exact match .* 50\.0 .* 40\.0-60\.0 .* 20 .* met ", printed)
    assert re.search(r" missing .* missed ", printed)
    assert "asked otherwise" not in printed
    assert "learning by heart" not in printed


def test_brackets_in_names_are_letters(capsys):
    print_table({"cells": [cell(task="[/b] a[en]", metric="[red]: exact match", split="trained")]})
    printed = capsys.readouterr().out
    assert "[/b] a[en]" in printed
    assert "[red]: exact match" in printed
    assert "learning by heart" in printed
