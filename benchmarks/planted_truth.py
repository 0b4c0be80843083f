"""Do explanations point at what an answer is known to hang on? Rows whose answer hangs on one part alone, taught to the demo's model.

python benchmarks/planted_truth.py runs/demo --data data/digits --to work/planted

    first, second   two pictures of digits; the question names which one is to be read
    heard           two clips; likewise
    mark            a picture of a digit with a watermark in a corner, which gives the answer away: one of four shops, each with a corner of
                    its own, whatever the digit

Pointing accuracy: of what is seen and heard the unit with the largest value lies in the part that decides (words of the question decide, too: which
one is asked for). IoU: of as many units with the largest values as lie in it.
Rows that the model answers wrongly are left out, and counted.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from side_by_side import table

from plait import api
from plait.contract import Message, Part
from plait.explain.methods import METHODS, Look, relevance_of
from plait.explain.scorer import Scorer, flow_of
from plait.explain.tracing import Tracer
from plait.explain.units import Unit
from plait.infer.request import Request
from plait.train import checkpoint

SIDE, MARK = 28, 6
ROWS = {"train": 1500, "test": 40}  # of each task
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WATERMARK = np.tile([[255], [120]], (MARK // 2, MARK)).astype(np.uint8)
SHOPS = {
    "Aurora": (1, 1),
    "Bolt": (1, SIDE - MARK - 1),
    "Cosmo": (SIDE - MARK - 1, 1),
    "Delta": (SIDE - MARK - 1, SIDE - MARK - 1),
}  # left, top
Truth = Callable[[Unit], bool]


class Digits:
    """Pictures and clips of the demo's data by their digit."""

    def __init__(self, data: Path, split: str) -> None:
        self.media: dict[str, dict[int, list[Path]]] = {"image": defaultdict(list), "audio": defaultdict(list)}
        for line in (data / f"labelled-{split}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            [part] = row["messages"][0]["content"]
            digit = row["meta"]["labels"].get("digit")
            if digit is not None:
                self.media[part["type"]][int(digit)].append(data / part[part["type"]])

    def pick(self, kind: str, digit: int, rng: np.random.Generator) -> Path:
        """A medium of this digit."""
        known = self.media[kind][digit]
        return known[int(rng.integers(len(known)))]


def row_of(task: str, digits: Digits, folder: Path, number: int, rng: np.random.Generator) -> dict[str, object]:
    """A row, with what decides its answer: the place of a part, and a box in it."""
    if task == "mark":
        picture = np.array(Image.open(digits.pick("image", int(rng.integers(10)), rng)).convert("L"))
        shop = list(SHOPS)[int(rng.integers(len(SHOPS)))]
        left, top = SHOPS[shop]
        picture[top : top + MARK, left : left + MARK] = WATERMARK
        path = f"media/{folder.name}-{task}-{number}.png"
        Image.fromarray(picture).save(folder.parent / path)
        box = [left / SIDE, top / SIDE, (left + MARK) / SIDE, (top + MARK) / SIDE]
        content = [{"type": "image", "image": path}, {"type": "text", "text": "Whose picture is it?"}]
        return _row(task, content, shop, 0, box)
    medium = "audio" if task == "heard" else "image"
    one, other = (int(digit) for digit in rng.choice(10, 2, replace=False))
    which = int(rng.integers(2)) if task == "heard" else ("first", "second").index(task)
    media = []
    for digit in (one, other):
        source = digits.pick(medium, digit, rng)
        path = f"media/{folder.name}-{source.name}"
        (folder.parent / path).write_bytes(source.read_bytes())
        media.append({"type": medium, medium: path})
    question = f"Which digit is the {('first', 'second')[which]} one?"
    return _row(task, [*media, {"type": "text", "text": question}], WORDS[(one, other)[which]], which, None)


def _row(
    task: str, content: list[dict[str, str]], answer: str, part: int, box: list[float] | None
) -> dict[str, object]:
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"task": task, "messages": messages, "meta": {"part": part, "box": box}}


def build(data: Path, folder: Path, tasks: tuple[str, ...]) -> None:
    """train.jsonl and test.jsonl, of different pictures and clips."""
    for split, count in ROWS.items():
        (folder / "media").mkdir(parents=True, exist_ok=True)
        digits, rng = Digits(data, split), np.random.default_rng([7, count])
        rows = [row_of(task, digits, folder / split, n, rng) for task in tasks for n in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def truth_of(meta: dict[str, object]) -> Truth:
    """Whether a unit lies in what decides: in the part, and of a box more than a third of the unit in it."""

    def lies(unit: Unit) -> bool:
        if (unit.message, unit.part) != (0, meta["part"]):
            return False
        box = meta["box"]
        if not isinstance(box, list):
            return True
        left, top, right, bottom = unit.region["box"]
        width = max(0.0, min(right, box[2]) - max(left, box[0]))
        height = max(0.0, min(bottom, box[3]) - max(top, box[1]))
        return bool(width * height > (right - left) * (bottom - top) / 3)

    return lies


def _part(content: dict[str, str], folder: Path) -> Part:
    kind = content["type"]
    return Part(kind, content[kind] if kind == "text" else str(folder / content[kind]))


def main() -> None:
    """Build, teach, explain, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=ROWS["test"])
    parser.add_argument("--tasks", nargs="+", default=["first", "second", "heard", "mark"])
    args = parser.parse_intermixed_args()
    tasks = tuple(args.tasks)
    rows, run = args.to / "rows", args.to / "run"
    if not (rows / "test.jsonl").is_file():
        build(args.data, rows, tasks)
    if not checkpoint.steps_of(run):
        settings = ["flow.mask_prob=0.1", *args.overrides]
        api.finetune(args.checkpoint, *settings, data=rows, out=run, choices={"full": True, "replay": 0.0})
    model = api.load(run)
    inside = checkpoint.load(checkpoint.locate(run), torch.float32)[0].eval()
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    shared: dict[tuple[str, str], list[float]] = defaultdict(list)
    wrong: dict[str, int] = defaultdict(int)
    seen: dict[str, int] = defaultdict(int)
    for line in (rows / "test.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        task = row["task"]
        if seen[task] >= args.rows:
            continue
        seen[task] += 1
        question = Message("user", tuple(_part(p, rows) for p in row["messages"][0]["content"]))
        wanted = row["messages"][1]["content"]
        [answer] = model.generate_all([Request((question,), to="text", temperature=0.0, max_tokens=16)])
        if not answer.message.parts or answer.message.parts[0].value != wanted:
            wrong[task] += 1
            continue
        scorer = Scorer(
            model.engine, (question,), Message("assistant", (Part("text", wanted),)), flow=flow_of(model.config)
        )
        truth = np.array([truth_of(row["meta"])(unit) for unit in scorer.units])
        for method in METHODS:
            values = relevance_of(method, Look(scorer, Tracer(inside, scorer), seed=seen[task]))
            values = np.where([unit.kind == "text" for unit in scorer.units], -np.inf, values)
            hits[task, method].append(bool(truth[values.argmax()]))
            top = np.zeros(len(values), bool)
            top[np.argsort(-values, kind="stable")[: truth.sum()]] = True
            shared[task, method].append(float((top & truth).sum() / (top | truth).sum()))
    lines = []
    for task in tasks:
        count = len(hits[task, "masking"])
        cells = (f"{np.mean(hits[task, method]):.2f}; {np.mean(shared[task, method]):.2f}" for method in METHODS)
        lines.append((task, f"{count} of {seen[task]}", *cells))
    table("pointing accuracy; IoU", lines, ("task", "answered right", *METHODS))


if __name__ == "__main__":
    main()
