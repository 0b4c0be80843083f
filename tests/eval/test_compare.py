"""Two reports, cell by cell."""

import copy
import json

import pytest

from plait.errors import DataError
from plait.eval.compare import compare, read


def cell(value, metric="exact match", higher=True, task="name", apart=0.0):
    return {
        "ci95": [value - apart, value + apart],
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
    ("before", "after", "higher", "metric", "regressed"),
    [
        (0.80, 0.78, True, "exact match", False),  # within the tolerance
        (0.80, 0.76, True, "exact match", True),
        (0.80, 0.95, True, "likeliest label: accuracy", False),
        (0.30, 0.35, False, "word error rate", True),  # an error rate that rose
        (0.30, 0.20, False, "word error rate", False),
        (1.10, 1.109, False, "word error rate", False),  # more than nothing, less than its interval
        (40.0, 41.0, False, "distance", False),  # 2.5 % of what it was
        (40.0, 42.0, False, "distance", True),
        (0.045, 0.074, False, "squared error", True),  # small numbers are no shares of rows
        (0.117, 0.088, True, "AP", True),
        (0.117, 0.110, True, "AP", False),  # 6 %, but within its interval
    ],
)
def test_a_cell_regresses_past_the_tolerance(before, after, higher, metric, regressed):
    old, new = (cell(value, metric, higher, apart=0.01) for value in (before, after))
    (change,) = compare(report(old), report(new), tolerance=0.03)
    assert change.regressed is regressed
    assert ("REGRESSED" in str(change)) is regressed


def test_equal_error_rates_are_compared():
    def report_with(rate):
        check = {"check": "speaker equal error rate", "task": "speaker", "value": rate, "ci95": [rate, rate]}
        return report() | {"checks": [check, {"check": "coverage of held-out features", "task": "draw", "made": 0.5}]}

    (change,) = compare(report_with(0.02), report_with(0.045))
    assert change.regressed
    assert "speaker equal error rate: 0.020 -> 0.045" in str(change)


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
