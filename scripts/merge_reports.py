"""A report of an evaluation of which a part was made anew: for weights that changed nothing but what is given of one modality.

    python scripts/merge_reports.py docs/smol/report.json new.json merged.json --given image

Cells, checks and cascades whose question holds that modality come from the new report, and are left out where it lacks them; all others
come from the old one. Scores of drawings that the model's own askers give need unchanged askers. A note says which cells are old. That the
others' weights are the same is for the caller to see to: `scripts/same_weights.py` compares two checkpoints.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

LISTS = ("cells", "checks", "cascade")


def merged(old: dict[str, Any], new: dict[str, Any], given: str) -> dict[str, Any]:
    """The report of both."""
    cells = {cell["task"]: cell["cell"] for report in (old, new) for cell in report["cells"]}
    anew = {task for task, cell in cells.items() if given in cell.split("->")[0].split("+")}
    parts = {
        name: [entry for entry in new[name] if entry["task"] in anew]
        + [entry for entry in old[name] if entry["task"] not in anew]
        for name in LISTS
    }
    missing = {
        name: sorted({entry["task"] for entry in old[name]} - {entry["task"] for entry in parts[name]})
        for name in LISTS
    }
    left_out = "; ".join(f"{name} of {', '.join(tasks)}" for name, tasks in missing.items() if tasks)
    note = (
        f"cells of questions without {given} are of an earlier evaluation, at commit {old['commit']}; scripts/same_weights.py "
        "compares the weights"
    )
    measured = [", ".join((cell["task"], cell["split"], cell["metric"])) for cell in parts["cells"]]
    still_true = [one for one in new["notes"] if not any(one.endswith(f"target of {what}") for what in measured)]
    notes = [*dict.fromkeys([*still_true, *old["notes"], note + (f"; left out: {left_out}" if left_out else "")])]
    return {**new, **parts, "notes": notes, "data": old["data"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--given", default="image", help="the modality whose questions were asked anew")
    options = parser.parse_args()
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (options.old, options.new))
    report = merged(old, new, options.given)
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(
        f"{len(report['cells'])} cells of {len({cell['task'] for cell in report['cells']})} tasks; {report['notes'][-1]}"
    )


if __name__ == "__main__":
    main()
