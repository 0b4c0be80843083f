"""What do fewer rows and wrong labels cost? The digits on 3, 10, 30 and 100 % of their rows, and with 10 and 30 % of answers wrong.

Every arm trains for as many steps, so that only the data differ; smaller shares lie within the larger ones. A wrong answer is
another row's of the same task that expects something else. The held-out rows stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from plait.data import derived, store
from plait.data.splits import TRAIN
from plait.runtime.files import MANIFEST
from plait.studies.arms import DIGITS, Arm, Settings, accuracies, as_text, result, spread, table
from plait.tasks.digits import TASKS

SHARES = (0.03, 0.1, 0.3, 1.0)
WRONG = (0.0, 0.1, 0.3)
MOST_TRIED = 50  # rows, for one whose answer is another


def run(settings: Settings) -> dict[str, Any]:
    """Accuracies by `task: attribute` for each share of the rows and each share of wrong answers."""
    tasks = tuple(task.name for task in TASKS)
    arms = [(share, 0.0) for share in SHARES] + [(1.0, wrong) for wrong in WRONG if wrong]
    by_arm: dict[str, dict[str, Any]] = {}
    for share, wrong in arms:
        source = store.digest(settings.data, TRAIN)[:DIGITS]
        data = changed(settings.data, settings.folder / f"data-{source}-{share:g}-{wrong:g}", share, wrong)
        of_seeds = [
            result(
                Arm(f"data-{share:g}-{wrong:g}", data, tasks, settings.steps, seed),
                settings,
                lambda saved: {"accuracy": accuracies(saved, tasks, settings.limit, settings.say)},
            )
            for seed in range(settings.seeds)
        ]
        by_arm[f"{share:g} {wrong:g}"] = {
            "share": share,
            "wrong": wrong,
            "accuracy": {name: spread([one["accuracy"][name] for one in of_seeds]) for name in of_seeds[0]["accuracy"]},
        }
    return {"steps": settings.steps, "rows": settings.limit, "arms": by_arm}


def changed(data: Path, to: Path, share: float, wrong: float) -> Path:
    """The folder `to`: a share of the training rows of each task in `data`, some with wrong answers; the other files are the same.

    Raises DataError without rows.
    """
    if (to / MANIFEST).is_file():
        return to
    by_task: dict[str, list[dict[str, Any]]] = {}
    with derived.rows_file(data).open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            by_task.setdefault(row["task"], []).append(row)
    derived.links(data, to)
    kept = []
    for number, rows in enumerate(by_task.values()):
        order = np.random.default_rng([2026, 62, number]).permutation(len(rows))  # of every share: they are nested
        chosen = [rows[index] for index in order[: max(1, round(share * len(rows)))]]
        kept += _with_wrong_answers(chosen, wrong, np.random.default_rng([2026, 63, number]))
    derived.write_rows(data, to, (json.dumps(row, ensure_ascii=False) for row in kept))
    return to


def _with_wrong_answers(rows: list[dict[str, Any]], wrong: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows of one task, a share of them with the answer of another that expects something else."""
    chosen = set(rng.permutation(len(rows))[: round(wrong * len(rows))].tolist())
    answered = []
    for number, row in enumerate(rows):
        others = (rows[int(rng.integers(len(rows)))] for _ in range(MOST_TRIED)) if number in chosen else ()
        other = next((other for other in others if other["meta"]["expect"] != row["meta"]["expect"]), row)
        answered.append(row | {"messages": [*row["messages"][:-1], other["messages"][-1]]})
    return answered


def in_words(found: Mapping[str, Any]) -> str:
    """The study as Markdown."""
    arms = list(found["arms"].values())
    head = ["task: attribute", *(_name(arm) for arm in arms)]
    names = list(arms[0]["accuracy"])
    rows = [[name, *(as_text(arm["accuracy"][name]) for arm in arms)] for name in names]
    means = [f"{100 * np.mean([value['mean'] for value in arm['accuracy'].values()]):.1f}" for arm in arms]
    return (
        f"{found['steps']:,} steps each. Per cent right of {found['rows']} held-out rows, mean (lowest-highest) of the seeds.\n\n"
        + table(head, [*rows, ["mean", *means]])
    )


def _name(arm: Mapping[str, Any]) -> str:
    return f"{100 * arm['wrong']:g} % wrong" if arm["wrong"] else f"{100 * arm['share']:g} % of the rows"


def curves(found: Mapping[str, Any]) -> dict[str, Any]:
    """What to draw: accuracy over the share of the rows, by what the answer is."""
    arms = [arm for arm in found["arms"].values() if not arm["wrong"]]
    answers = {task.name: task.answers_in for task in TASKS}
    lines = {}
    for kind in dict.fromkeys(answers.values()):
        names = [name for name in arms[0]["accuracy"] if answers[name.split(":")[0]] == kind]
        lines[f"answers in {kind}"] = [
            {key: float(np.mean([arm["accuracy"][name][key] for name in names])) for key in ("mean", "low", "high")}
            for arm in arms
        ]
    return {
        "title": "accuracy by share of the rows",
        "x": [f"{100 * arm['share']:g} %" for arm in arms],
        "x_label": "of the training rows",
        "lines": lines,
    }
