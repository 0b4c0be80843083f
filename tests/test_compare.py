"""Two reports, cell by cell."""

import copy
import json

import pytest

from plait.errors import DataError
from plait.eval.compare import compare, read


def cell(value, metric="exact match", higher=True, task="name"):
    return {
        "cell": "image->text",
        "task": task,
        "split": "test",
        "metric": metric,
        "value": value,
        "higher_is_better": higher,
    }


def report(*cells):
    return {"cells": list(cells), "data": {"files": {"name.test.jsonl": {"rows": 3, "sha256": "a"}}}}


@pytest.mark.parametrize(
    ("before", "after", "higher", "regressed"),
    [
        (0.80, 0.78, True, False),  # within the tolerance
        (0.80, 0.76, True, True),
        (0.80, 0.95, True, False),
        (0.30, 0.35, False, True),  # an error rate that rose
        (0.30, 0.20, False, False),
        (40.0, 41.0, False, False),  # 2.5 % of what it was
        (40.0, 42.0, False, True),
    ],
)
def test_a_cell_regresses_past_the_tolerance(before, after, higher, regressed):
    (change,) = compare(report(cell(before, higher=higher)), report(cell(after, higher=higher)), tolerance=0.03)
    assert change.regressed is regressed
    assert ("REGRESSED" in str(change)) is regressed


def test_a_cell_that_is_gone_has_regressed_and_a_new_one_has_not():
    gone, come = compare(report(cell(0.5)), report(cell(0.5, task="draw")))
    assert (gone.after, gone.regressed) == (None, True)
    assert (come.before, come.regressed) == (None, False)


def test_reports_of_other_rows_are_refused():
    other = copy.deepcopy(report(cell(0.5)))
    other["data"]["files"]["name.test.jsonl"]["sha256"] = "b"
    with pytest.raises(DataError, match="different data"):
        compare(report(cell(0.5)), other)


def test_what_is_no_report_is_said(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DataError, match="is no report"):
        read(tmp_path / "a.json")
    (tmp_path / "b.json").write_text(json.dumps(report(cell(0.5))))
    assert read(tmp_path / "b.json")["cells"][0]["value"] == 0.5
