"""A report of which a part was made anew, and the comparison of weights that allows it."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from worlds import World

from plait.train import checkpoint

SCRIPTS = Path(__file__).parents[2] / "scripts"


def cell(task, kinds, value):
    return {"task": task, "cell": kinds, "split": "test", "metric": "exact match", "value": value}


def test_what_holds_the_modality_is_of_the_new_report_and_all_else_of_the_old():
    merged = runpy.run_path(str(SCRIPTS / "merge_reports.py"))["merged"]
    cells = [cell("name", "image->text", 1), cell("say", "text->audio", 2), cell("say-picture", "image->audio", 3), cell("mix", "text+image->text", 4)]  # fmt: skip
    old = {"cells": cells, "checks": [{"task": "name", "value": 5}, {"task": "say", "value": 6}], "cascade": [{"task": "name", "value": 7}], "notes": ["a"], "commit": "old", "data": {"counts": 1}}  # fmt: skip
    new = {"cells": [cell("name", "image->text", 10), cell("say", "text->audio", 20), cell("mix", "text+image->text", 40)], "checks": [{"task": "name", "value": 50}], "cascade": [], "notes": ["b", "nothing was measured for the target of say, test, exact match"], "commit": "new", "data": {}}  # fmt: skip
    report = merged(old, new, "image")
    assert {entry["task"]: entry["value"] for entry in report["cells"]} == {"name": 10, "say": 2, "mix": 40}
    assert {entry["task"]: entry["value"] for entry in report["checks"]} == {"name": 50, "say": 6}
    assert report["commit"] == "new"
    assert report["data"] == old["data"]
    assert report["notes"][:2] == ["b", "a"]
    assert "at commit old" in report["notes"][-1]
    assert report["notes"][-1].endswith("left out: cells of say-picture; cascade of name")


def test_weights_that_may_not_differ_are_named(tmp_path, monkeypatch, capsys):
    model = World().model()
    for name in ("before", "after"):
        checkpoint.save(tmp_path / name, model, model.state_dict(), {"pack": {"length": 64}})
        with torch.no_grad():
            model.trunk.layers[0].attention.out.weight += 1
    main = runpy.run_path(str(SCRIPTS / "same_weights.py"))["main"]
    command = ["same_weights.py", str(tmp_path / "before"), str(tmp_path / "after")]
    monkeypatch.setattr(sys, "argv", [*command, "--but", "trunk.layers.*.attention.*"])
    main()
    assert "1 differ, 0 of them beside" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command, "--but", "flows.*"])
    with pytest.raises(SystemExit, match=r"trunk\.layers\.0\.attention\.out\.weight"):
        main()
