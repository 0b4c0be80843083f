"""Write the table of the demo's numbers into README.md and README.zh-CN.md.

    python scripts/readme_numbers.py docs/demo/seed-0.json docs/demo/seed-1.json docs/demo/seed-2.json

The first report gives the values, all of them the spread over seeds. What stands between the two marks is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.eval.report import met

BEGIN, END = "<!-- numbers: scripts/readme_numbers.py -->", "<!-- end of numbers -->"
PAGES = {
    "README.md": ("cell", "task", "metric", "value", "95 %", "seeds", "baseline", "judge's ceiling", "blank input", "target", ""),
    "README.zh-CN.md": ("格", "任务", "指标", "值", "95 % 区间", "各种子", "基线", "评判上限", "空输入", "目标", ""),
}  # fmt: skip
MARKS = {"README.md": ("met", "**missed**"), "README.zh-CN.md": ("达到", "**未达**")}


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def table(reports: Sequence[Mapping[str, Any]], page: str) -> str:
    """The cells of the test split as Markdown, in per cent."""
    head = PAGES[page]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    key = ("cell", "task", "split", "metric")
    by_key = [{tuple(cell[k] for k in key): cell["value"] for cell in report["cells"]} for report in reports]
    for cell in reports[0]["cells"]:
        if cell["split"] != "test":
            continue
        values = [found[tuple(cell[k] for k in key)] for found in by_key]
        reached = met(cell)
        mark = "" if reached is None else MARKS[page][0 if reached else 1]
        row = (
            cell["cell"], cell["task"], cell["metric"], percent(cell["value"]), "-".join(map(percent, cell["ci95"])),
            f"{percent(min(values))}-{percent(max(values))}", percent(cell["baseline"]), percent(cell["judge_ceiling"]),
            percent(cell["blank_input"]), percent(cell["target"]), mark,
        )  # fmt: skip
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def with_table(text: str, made: str) -> str:
    """`text` with the part between the marks replaced. Raises ValueError when a mark is missing."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"the page lacks {BEGIN} or {END}; put both where the table belongs")
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{made}\n{END}", text, flags=re.DOTALL)


def main(paths: Sequence[str]) -> None:
    reports = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    for page in PAGES:
        place = Path(page)
        place.write_text(with_table(place.read_text(encoding="utf-8"), table(reports, page)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
