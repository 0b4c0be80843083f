"""The model card of a checkpoint: its training, its data with licences, its scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plait.eval.report import figure, met
from plait.eval.runner import MAIN
from plait.runtime.files import atomic_write

NAME = "README.md"
SHARE_ALIKE = "**Share-alike, in whole or in part: weights that it taught may be shipped only under the same licence.**"


def table(report: Mapping[str, Any]) -> str:
    """The held-out cells of a report as a Markdown table, in per cent."""
    lines = [
        "| cell | task | metric | value | 95 % | n | baseline | judge's ceiling | blank input | target | |",
        "|" + "---|" * 11,
    ]
    for cell in report["cells"]:
        if cell["split"] in MAIN:
            interval = "-".join(figure(cell, bound) for bound in cell["ci95"])
            numbers = (figure(cell, cell[key]) for key in ("baseline", "judge_ceiling", "blank_input", "target"))
            mark = {True: "met", False: "**missed**", None: ""}[met(cell)]
            row = (
                cell["cell"],
                cell["task"],
                cell["metric"],
                figure(cell, cell["value"]),
                interval,
                cell["n"],
                *numbers,
                mark,
            )
            lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def other_splits(report: Mapping[str, Any]) -> str:
    """Cells of the other held-out splits (phrasings, combinations, pairs, recordings), shorter."""
    lines = ["| task | split | metric | value | 95 % | n |", "|" + "---|" * 6]
    for cell in report["cells"]:
        if cell["split"] not in MAIN:
            interval = "-".join(figure(cell, bound) for bound in cell["ci95"])
            row = (cell["task"], cell["split"], cell["metric"], figure(cell, cell["value"]), interval, cell["n"])
            lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def source_line(source: Mapping[str, Any]) -> str:
    """A source with its licence and the attribution that it asks for."""
    named = f": {source['attribution']}" if source.get("attribution") else ""
    alike = f" {SHARE_ALIKE}" if source.get("share_alike") else ""
    return f"- {source['what']}: {source['from']} ({source['licence']}){named}{alike}"


def write(checkpoint: Path, report: Mapping[str, Any], recipe: str) -> Path:
    """Write the card into the checkpoint's folder; returns its path."""
    train, data = report["train"], report["data"]
    sources = [source_line(source) for source in data.get("sources") or []]
    notes = [f"- {note}" for note in (*report["notes"], *(data.get("notes") or []))]
    seen = any(cell["split"] == "trained" for cell in report["cells"])
    text = "\n".join(
        [
            f"# A Plait checkpoint: {recipe}",
            "",
            f"{train['parameters'] / 1e6:.1f} million parameters, {train['steps']} steps, {train['tokens'] / 1e6:.1f} million tokens, "
            f"{train['seconds'] / 60:.1f} minutes; commit {report['commit']}. Made by `plait train {recipe}`, measured by `plait eval`.",
            "",
            "## Trained on",
            "",
            *sources,
            "",
            "## Measured on rows of the training, per cent: learned by heart"
            if seen
            else "## Measured on held-out data, per cent",
            "",
            table(report),
            "",
            other_splits(report),
            "",
            *notes,
            "",
            "## Limits",
            "",
            "It does what the table says and nothing else. Where its speech comes from synthetic voices, it speaks with those.",
            "",
        ]
    )
    path = checkpoint / NAME
    atomic_write(path, text)
    return path
