"""Draws the curves of a study with matplotlib (extra `studies`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plait.errors import MissingError

STYLES = ("-o", "--s", ":^", "-.D", "-v", "--P")  # lines that can be told apart without colours


def draw(curves: Mapping[str, Any], path: Path) -> None:
    """Write `path` (SVG, PNG or PDF by its suffix): a line an arm over `x`, the spread of the seeds behind it. Raises
    MissingError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError("no figure: matplotlib is not installed; pip install 'plait[studies]'") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    places = list(range(len(curves["x"])))
    for number, (name, values) in enumerate(curves["lines"].items()):
        (line,) = axes.plot(
            places, [100 * value["mean"] for value in values], STYLES[number % len(STYLES)], label=name, markersize=5
        )
        low, high = ([100 * value[key] for value in values] for key in ("low", "high"))
        axes.fill_between(places, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xticks(places, curves["x"])
    axes.set_xlabel(curves["x_label"])
    axes.set_ylabel("right, per cent")
    axes.set_ylim(0, 100)
    axes.set_title(curves["title"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=120)
