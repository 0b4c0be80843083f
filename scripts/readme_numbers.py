"""Write the demo's numbers into the READMEs (one line a cell of the grid) and docs/results.md (every number).

    python scripts/readme_numbers.py docs/demo/seed-0.json docs/demo/seed-1.json docs/demo/seed-2.json

The first report gives the values, all reports the range over seeds. Replaces the text between each pair of marks.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.eval.report import met

Report = Mapping[str, Any]
Cell = Mapping[str, Any]

BEGIN, END = "<!-- numbers: {} (scripts/readme_numbers.py) -->", "<!-- end of numbers -->"
MAIN = "test"  # the split of the grid's table
KEY = ("cell", "task", "split", "metric")
CHINESE = {
    "cell": "格", "task": "任务", "metric": "指标", "value": "值", "95 %": "95 % 区间", "seeds": "种子 0-2",
    "baseline": "基线", "judge's ceiling": "评判上限",
    "text": "文字", "image": "图像", "audio": "声音", "exact match": "完全一致", "digit accuracy": "数字正确",
    "translate": "五种语言互译数词", "draw": "按词画数字", "say": "按词念数字", "read": "认数字", "next": "画下一个数字",
    "say-picture": "念出图中数字", "hear-digit": "听数字", "draw-heard": "画听到的数字", "change-voice": "换嗓音念同一个词",
}  # fmt: skip
ENGLISH = {
    "seeds": "seeds 0-2",
    "translate": "translate number words", "draw": "draw a digit", "say": "say a digit", "read": "read a digit",
    "next": "draw the next digit", "say-picture": "say the digit shown", "hear-digit": "name the digit heard",
    "draw-heard": "draw the digit heard", "change-voice": "same word, another voice",
}  # fmt: skip


def percent(value: float | None) -> str:
    """A share in per cent with one decimal; empty for None."""
    return "" if value is None else f"{100 * value:.1f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(line) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def spread(reports: Sequence[Report], cell: Cell) -> str:
    """Lowest and highest value of a cell over the reports, in per cent. Raises KeyError where a report lacks the cell."""
    values = [{tuple(other[k] for k in KEY): other["value"] for other in report["cells"]} for report in reports]
    values_of_cell = [by_key[tuple(cell[k] for k in KEY)] for by_key in values]
    return f"{percent(min(values_of_cell))}-{percent(max(values_of_cell))}"


def interval(cell: Cell) -> str:
    """The 95 % interval of a cell, in per cent."""
    return "-".join(map(percent, cell["ci95"]))


def headline_cells(report: Report) -> list[Cell]:
    """The first metric of the first task of each cell with one input and one output, on the test split."""
    first: dict[str, Cell] = {}
    for cell in report["cells"]:
        if cell["split"] == MAIN and re.fullmatch(r"\w+->\w+", cell["cell"]):
            first.setdefault(cell["cell"], cell)
    return list(first.values())


def headlines(reports: Sequence[Report], words: Mapping[str, str]) -> str:
    """Table with one line per cell of the 3 x 3 grid; `words` translates its names."""
    head = [words.get(name, name) for name in ("cell", "task", "metric", "value", "95 %", "seeds", "baseline", "judge's ceiling")]  # fmt: skip
    rows = []
    for cell in headline_cells(reports[0]):
        source, target = (words.get(kind, kind) for kind in cell["cell"].split("->"))
        task, metric = (words.get(cell[key], cell[key]) for key in ("task", "metric"))
        rows.append(
            (
                f"{source} → {target}", task, metric, f"**{percent(cell['value'])}**", interval(cell),
                spread(reports, cell), percent(cell["baseline"]), percent(cell["judge_ceiling"]),
            )
        )  # fmt: skip
    return markdown(head, rows)


def cells(reports: Sequence[Report], words: Mapping[str, str]) -> str:
    """Table of every number of the test split, with its baseline, ceiling, blank input and target."""
    head = ("cell", "task", "metric", "value", "95 %", "seeds", "baseline", "judge's ceiling", "blank input", "target", "")  # fmt: skip
    marks = {None: "", True: "met", False: "**missed**"}
    rows = [
        (
            cell["cell"], cell["task"], cell["metric"], percent(cell["value"]), interval(cell), spread(reports, cell),
            percent(cell["baseline"]), percent(cell["judge_ceiling"]), percent(cell["blank_input"]),
            percent(cell["target"]), marks[met(cell)],
        )
        for cell in reports[0]["cells"] if cell["split"] == MAIN
    ]  # fmt: skip
    return markdown([words.get(name, name) for name in head], rows)


def splits(reports: Sequence[Report], words: Mapping[str, str]) -> str:
    """Table of every number of the other splits: held-out phrasings, pairs and combinations, recordings."""
    head = ("split", "task", "metric", "value", "95 %", "seeds", "n")
    other = sorted((c for c in reports[0]["cells"] if c["split"] != MAIN), key=lambda cell: cell["split"])
    rows = [
        (c["split"], c["task"], c["metric"], percent(c["value"]), interval(c), spread(reports, c), str(c["n"]))
        for c in other
    ]
    return markdown([words.get(name, name) for name in head], rows)


Table = Callable[[Sequence[Report], Mapping[str, str]], str]
PAGES: dict[str, tuple[tuple[Table, ...], Mapping[str, str]]] = {
    "README.md": ((headlines,), ENGLISH),
    "README.zh-CN.md": ((headlines,), CHINESE),
    "docs/results.md": ((cells, splits), {}),
}


def replace(text: str, name: str, table: str) -> str:
    """`text` with `table` between the marks of `name`. Raises ValueError where a mark is missing."""
    begin = BEGIN.format(name)
    pattern = f"{re.escape(begin)}.*?{re.escape(END)}"
    if not re.search(pattern, text, flags=re.DOTALL):
        raise ValueError(f"the page lacks {begin} followed by {END}; put both where the table belongs")
    return re.sub(pattern, lambda _: f"{begin}\n{table}\n{END}", text, flags=re.DOTALL)


def fill(text: str, page: str, reports: Sequence[Report]) -> str:
    """`text` of the file `page` with its tables filled from the reports."""
    tables, words = PAGES[page]
    for table in tables:
        text = replace(text, table.__name__, table(reports, words))
    return text


def main(paths: Sequence[str]) -> None:
    """Rewrite all PAGES from the reports at `paths`."""
    reports = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    for page in PAGES:
        file = Path(page)
        file.write_text(fill(file.read_text(encoding="utf-8"), page, reports), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
