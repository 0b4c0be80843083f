"""How well checkpoints of `plait train fuse` do as they are told: is the picture that they draw the thing that was given, and as it was asked?

python benchmarks/edits.py runs/fuse runs/fuse-pixels --data data/fuse --limit 200 --sheet edits.png

Drawings are compared as 64 x 64 pixels on white. *As asked*: among all drawings of the thing in other styles (or tones), and the
given one, the one that was asked for is the nearest. *The thing*: so it is among nine drawings of other held-out things in that style.
The picture given back, and the answer to another row, stand beside the models.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from plait import api, recipes
from plait.contract import Part, Sample
from plait.data.media import Member
from plait.infer.request import Request
from plait.runtime.pictures import open_picture, to_canvas

SIDE, OTHERS, ROW = 64, 9, 96
SHEET = 6  # rows of each task


def pixels(part: Part) -> np.ndarray:
    """[SIDE, SIDE, 3] levels of a picture from 0 to 1."""
    value = part.value.read() if isinstance(part.value, Member) else part.value
    canvas = to_canvas(open_picture(value), 3).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(canvas, np.float32) / 255


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square of the differences."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def key_of(task: str, facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the drawings have in common among which the words choose."""
    return (facts.get("code"),) if task == "restyle" else (facts["style"], facts.get("base"), facts.get("gender", ""))


class Drawings:
    """All drawings of the data by their file, and by what the words choose among."""

    def __init__(self, data: Path) -> None:
        lines = (data / "collected" / "emoji" / "assets.jsonl").read_text(encoding="utf-8").splitlines()
        self.facts = {
            line["media"]["picture"]: line["facts"] for line in map(json.loads, lines) if "picture" in line["media"]
        }
        self.folder = data / "collected" / "emoji"
        self.groups: dict[tuple[str, tuple[Any, ...]], set[str]] = defaultdict(set)
        for name, facts in self.facts.items():
            for task in ("restyle", "tone"):
                if task == "restyle" or "tone" in facts:
                    self.groups[task, key_of(task, facts)].add(name)

    def alternatives(self, task: str, target: str) -> list[np.ndarray]:
        """The drawings among which the words choose, but the target."""
        names = self.groups[task, key_of(task, self.facts[target])] - {target}
        return [pixels(Part("image", str(self.folder / name))) for name in sorted(names)]


def answers_of(checkpoint: Path, rows: Sequence[Sample]) -> list[np.ndarray]:
    """What a model draws."""
    model = api.load(checkpoint)
    requests = [Request(row.messages[:-1], to="image", seed=number, **model.usual) for number, row in enumerate(rows)]
    answers = model.generate_all(requests)
    if failed := next((answer.error for answer in answers if answer.error is not None), None):
        raise failed
    return [pixels(answer.message.parts[0]) for answer in answers]


def measured(task: str, rows: Sequence[Sample], drawn: Sequence[np.ndarray], drawings: Drawings) -> dict[str, float]:
    """Shares of answers as asked and of the thing, and the mean distance to what was asked for."""
    targets = [pixels(row.messages[-1].parts[0]) for row in rows]
    names = [Path(str(row.messages[-1].parts[0].value)).name for row in rows]
    as_asked, chance, right_thing, errors = [], [], [], []
    for number, (answer, target, name) in enumerate(zip(drawn, targets, names, strict=True)):
        mine = distance(answer, target)
        others = drawings.alternatives(task, name)
        as_asked.append(all(mine < distance(answer, other) for other in others))
        chance.append(1 / (1 + len(others)))
        style, key = drawings.facts[name]["style"], key_of(task, drawings.facts[name])
        strangers = [
            target
            for target, other in zip(targets, names, strict=True)
            if drawings.facts[other]["style"] == style and key_of(task, drawings.facts[other]) != key
        ]
        if len(strangers) >= OTHERS:
            chosen = np.random.default_rng(number).permutation(len(strangers))[:OTHERS]
            right_thing.append(all(mine < distance(answer, strangers[index]) for index in chosen))
        errors.append(mine)
    return {
        "as asked": 100 * float(np.mean(as_asked)), "chance": 100 * float(np.mean(chance)),
        "the thing": 100 * float(np.mean(right_thing)) if right_thing else float("nan"), "of": len(right_thing), "distance": float(np.mean(errors)),
    }  # fmt: skip


def sheet(rows: Sequence[Sample], columns: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """A picture: what was given and asked for, and what each column made of it."""
    canvas = Image.new("RGB", (260 + (ROW + 8) * len(columns), 24 + (ROW + 8) * len(rows)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (title, pictures) in enumerate(columns.items()):
        draw.text((260 + column * (ROW + 8), 6), title[:16], fill="black")
        for number, picture in enumerate(pictures):
            shown = Image.fromarray((picture * 255).round().clip(0, 255).astype(np.uint8)).resize((ROW, ROW))
            canvas.paste(shown, (260 + column * (ROW + 8), 24 + number * (ROW + 8)))
    for number, row in enumerate(rows):
        words = next(str(part.value) for part in row.messages[0].parts if part.type == "text")
        draw.text((6, 24 + number * (ROW + 8) + ROW // 2), words[:42], fill="black")
    canvas.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=Path("data/fuse"))
    parser.add_argument("--limit", type=int, default=200, help="held-out rows a task")
    parser.add_argument("--split", default="test", help="test, or phrasing: wordings never trained")
    parser.add_argument("--sheet", type=Path, help="draw some answers into this picture")
    options = parser.parse_args()
    drawings = Drawings(options.data)
    suite = recipes.module("fuse").suite(options.data, api.load(options.checkpoints[0]).network.vocabulary.modalities)
    shown: list[Sample] = []
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    for task in ("restyle", "tone"):
        rows = suite.rows.rows(suite.task(task), options.split)
        rows = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))[: options.limit]]
        given = [pixels(next(part for part in row.messages[0].parts if part.type == "image")) for row in rows]
        wanted = [pixels(row.messages[-1].parts[0]) for row in rows]
        drawn = {str(path): answers_of(path, rows) for path in options.checkpoints}
        beside = {"the given picture": given, "another row's answer": wanted[1:] + wanted[:1]}
        for name, pictures in (beside | drawn).items():
            measures = measured(task, rows, pictures, drawings)
            print(
                f"{task}, {name}: as asked {measures['as asked']:.1f} % (chance {measures['chance']:.1f}), the thing {measures['the thing']:.1f} % "
                f"(chance {100 / (OTHERS + 1):.0f}, n {measures['of']}), distance {measures['distance']:.3f}; n {len(rows)}",
                flush=True,
            )
        shown += rows[:SHEET]
        for title, pictures in ({"given": given, "asked for": wanted} | drawn).items():
            columns[Path(title).name] += pictures[:SHEET]
    if options.sheet:
        sheet(shown, columns, options.sheet)


if __name__ == "__main__":
    main()
