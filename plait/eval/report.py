"""report.html: one file with the grid, examples beside their references, loss curves and the table of cells."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from plait import registry
from plait.contract import Part
from plait.eval.compare import SHARES
from plait.eval.runner import MAIN, SHOWN, write_json
from plait.eval.suites import Outcome
from plait.runtime.files import atomic_write, manifest_of
from plait.train import checkpoint
from plait.train.config import TrainingConfig
from plait.train.run import summary

LONGEST_VALUE = 200  # characters of a value without a rendering


def figure(cell: Mapping[str, Any], value: float | None) -> str:
    """A cell's number as tables print it: shares in per cent, other scores with three decimals."""
    if value is None:
        return ""
    return f"{100 * value:.1f}" if cell["metric"].endswith(SHARES) else f"{value:.3f}"


def training_summary(folder: Path, parameters: int, recipe: TrainingConfig) -> dict[str, Any]:
    """The report's `train` entry, as the checkpoint counts; zeros for one saved without its training state."""
    path = folder.parent.parent / "train.json"
    peak = json.loads(path.read_text(encoding="utf-8"))["train"]["peak_rss_mb"] if path.is_file() else 0.0
    nothing = {"seconds": 0.0, "step": 0, "tokens": 0, "stored": 0}
    return summary(checkpoint.read_counters(folder) or nothing, parameters, recipe, peak)


def write(
    report: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    folder: Path,
    json_at: Path | str | None,
    html_at: Path | str | None,
) -> None:
    """Write the report of the checkpoint in `folder` as JSON, and as a page, where they are asked for."""
    if json_at:
        write_json(Path(json_at), report)
    if html_at:
        write_html(Path(html_at), report, outcomes, curves(folder))


def data_summary(data: Path) -> dict[str, Any]:
    """Sources, licences, notes and hashes of the splits."""
    manifest = manifest_of(data)
    return {key: manifest.get(key) for key in ("sources", "notes", "counts", "files")}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Losses of each group by step, from the train.log of the checkpoint's run."""
    path = folder.parent.parent / "train.log"
    losses: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with suppress(ValueError):  # words, or an entry that a full disk cut short
            entry = json.loads(line) if line.startswith("{") else {}
            for key, value in entry.items():
                if key.startswith("loss/"):
                    losses.setdefault(key[5:], []).append((entry["step"], value))
    return losses


def show(part: Part | None) -> Markup:
    """A part as HTML; as its plain value where its modality has no rendering."""
    if part is None:
        return Markup('<span class="nothing">nothing</span>')
    renders = registry.renders(part.type)
    if renders is None:
        value = str(part.value)
        return Markup("<code>{}</code>").format(value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…")
    return Markup(renders.html(part))


@dataclass(frozen=True)
class Example:
    """A row as HTML: the question, what the model answered, and the reference."""

    question: Markup
    answer: Markup
    reference: Markup


def _examples(outcome: Outcome) -> list[Example]:
    """The first rows of a split, whatever they are."""
    pairs = list(zip(outcome.samples, outcome.answers, strict=True))[:SHOWN]
    return [
        Example(
            Markup(" ").join(show(part) for message in sample.messages[:-1] for part in message.parts),
            show(answer),
            show(sample.messages[-1].parts[0]),
        )
        for sample, answer in pairs
    ]


def _curve(points: Sequence[tuple[int, float]], width: int = 260, height: int = 90) -> Markup:
    """Loss by step on a log scale, as an SVG line."""
    steps = np.array([step for step, _ in points], float)
    logs = np.log(np.array([max(value, 1e-6) for _, value in points]))
    x = (steps - steps.min()) / max(1.0, float(np.ptp(steps))) * width
    y = (logs.max() - logs) / max(1e-9, float(np.ptp(logs))) * height
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return Markup('<svg viewBox="-4 -4 {} {}"><polyline points="{}"/></svg>').format(width + 8, height + 8, line)


def axes_of(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Modalities that some cell reads or writes, in the order of the cells."""
    return list(dict.fromkeys(name for cell in cells for name in re.split(r"->|\+", cell["cell"]) if name != "check"))


def _grid(outcomes: Sequence[Outcome], cells: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows of the grid: each cell's name, the examples of its first task, and its scores on the main split."""
    rows = []
    axes = axes_of(cells)
    for source in axes:
        line = []
        for target in axes:
            name = f"{source}->{target}"
            inside = [outcome for outcome in outcomes if outcome.task.cell == name and outcome.split in MAIN]
            scores = [cell for cell in cells if cell["cell"] == name and cell["split"] in MAIN]
            line.append({"name": name, "examples": _examples(inside[0])[:3] if inside else [], "scores": scores})
        rows.append(line)
    return rows


def write_html(
    path: Path, report: Mapping[str, Any], outcomes: Sequence[Outcome], losses: Mapping[str, list[tuple[int, float]]]
) -> None:
    """Renders the report into one file that loads nothing from elsewhere."""
    environment = Environment(loader=PackageLoader("plait.eval", "templates"), autoescape=select_autoescape())
    grid = _grid(outcomes, report["cells"])
    page = environment.get_template("report.html").render(
        report=report,
        seen=any(cell["split"] == "trained" for cell in report["cells"]),
        filled=sum(bool(cell["scores"]) for line in grid for cell in line),
        axes=axes_of(report["cells"]),
        figure=figure,
        grid=grid,
        tasks=[(outcome, _examples(outcome)) for outcome in outcomes if outcome.split in MAIN],
        curves=[(group, _curve(points), points[-1][1]) for group, points in losses.items() if len(points) > 1],
        met=met,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, page)


def met(cell: Mapping[str, Any]) -> bool | None:
    """Whether a cell reaches its target; None without one."""
    if cell["target"] is None:
        return None
    return bool(cell["value"] >= cell["target"] if cell["higher_is_better"] else cell["value"] <= cell["target"])
