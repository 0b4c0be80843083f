"""Compares two reports of the same held-out data, cell by cell, and flags regressions past a tolerance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.errors import DataError

Key = tuple[str, str, str, str]  # cell, task, split, metric
TOLERANCE = 0.03
ERRORS = "equal error rate"  # of the checks, what is compared
SHARES = ("accuracy", "match", "agreement", "rate", "right")  # last words of metrics that are shares of rows


@dataclass(frozen=True)
class Change:
    """One cell before and after; None where a report lacks it. `regressed`: worse by more than the tolerance, or gone."""

    key: Key
    before: float | None
    after: float | None
    regressed: bool

    def __str__(self) -> str:
        def figure(value: float | None) -> str:
            return "nothing" if value is None else f"{value:.3f}"

        mark = "  REGRESSED" if self.regressed else ""
        return f"{' '.join(self.key)}: {figure(self.before)} -> {figure(self.after)}{mark}"


def read(path: Path) -> dict[str, Any]:
    """Reads a report.json. Raises DataError for a file that is none."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        report["cells"], report["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no report ({error!r}); expected the file that plait eval --json writes") from error
    return report


def compare(before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float = TOLERANCE) -> list[Change]:
    """Compares every cell and equal error rate of two reports.

    A share of rows (accuracy, exact match) regresses when it falls by more than `tolerance`. Another score (AP, chrF, error
    rates, distances) regresses when it gets worse by more than that share of its old value and leaves the old interval.
    Raises DataError where the reports are of different held-out rows.
    """
    files = [(report["data"] or {}).get("files") for report in (before, after)]
    if files[0] != files[1]:
        raise DataError(
            "the reports are of different data; expected the same held-out rows: evaluate both checkpoints with one --data"
        )
    old, new = ({_key(cell): cell for cell in _scored(report)} for report in (before, after))
    return [_change(key, old.get(key), new.get(key), tolerance) for key in dict.fromkeys((*old, *new))]


def _scored(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The cells of a report and the error rates among its checks, of which smaller is better."""
    rates = (check for check in report.get("checks", []) if check["check"].endswith(ERRORS) and "value" in check)
    checks = [
        {"cell": "check", "split": "", "metric": check["check"], "higher_is_better": False, **check} for check in rates
    ]
    return [*report["cells"], *checks]


def _key(cell: Mapping[str, Any]) -> Key:
    return cell["cell"], cell["task"], cell["split"], cell["metric"]


def _change(key: Key, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, tolerance: float) -> Change:
    if old is None or new is None:
        return Change(key, old["value"] if old else None, new["value"] if new else None, regressed=new is None)
    worse = old["value"] - new["value"] if old["higher_is_better"] else new["value"] - old["value"]
    if key[-1].endswith(SHARES) and not key[-1].endswith("error rate"):
        return Change(key, old["value"], new["value"], regressed=worse > tolerance)
    low, high = old.get("ci95") or (old["value"], old["value"])
    apart = not low <= new["value"] <= high
    return Change(key, old["value"], new["value"], regressed=worse > tolerance * abs(old["value"]) and apart)
