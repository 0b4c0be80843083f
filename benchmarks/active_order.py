"""What it buys to label first what a model is unsure of: test accuracy by the number of labels, beside the order in which items lie.

    plait data build fashion
    python benchmarks/active_order.py --seeds 3

One person labels Fashion-MNIST's pictures truthfully in a real project (plait.annotate), which hands them out. After every --batch labels a
small CNN learns from all of them, and guesses the rest with its doubt; `active` is the order that the project then chooses, `random` is the
order of the shuffled pool. The learner is a CNN since a training of Plait's takes minutes a point; the order is the project's own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from fashion_baselines import load
from side_by_side import finish, table
from torch import Tensor, nn

from plait.annotate.kinds import Question
from plait.annotate.project import Plan, Project
from plait.annotate.store import ANSWER, Item, Prediction, Store

NAMES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
ORDERS = ("random", "active")
STEPS, BATCH = 300, 64


def to_input(pictures: np.ndarray) -> Tensor:
    """[n, 1, 28, 28] of [n, 28, 28] levels."""
    return torch.from_numpy(pictures.copy())[:, None].float() / 127.5 - 1.0


def learned(pictures: np.ndarray, labels: np.ndarray, seed: int) -> nn.Module:
    """A CNN that has learned from labelled pictures."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 49, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    inputs, targets = to_input(pictures), torch.from_numpy(labels.astype(np.int64))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / STEPS)
        chosen = torch.randint(0, len(inputs), (BATCH,))
        loss = nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


@torch.no_grad()
def shares(model: nn.Module, pictures: np.ndarray) -> np.ndarray:
    """[n, 10] probabilities."""
    probabilities: np.ndarray = torch.cat(
        [model(to_input(part)).softmax(1) for part in np.array_split(pictures, 10)]
    ).numpy()
    return probabilities


def curve(
    order: str,
    pool: tuple[np.ndarray, np.ndarray],
    tests: tuple[np.ndarray, np.ndarray],
    batch: int,
    most: int,
    seed: int,
) -> list[float]:
    """Test accuracy in per cent after every `batch` labels."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "a.sqlite", Question("label", "Which?", NAMES))
        store.add_items(Item(str(number), {}) for number in range(len(pool[0])))
        project = Project(store, Plan(gold_every=0, is_active=order == "active"))
        points: list[float] = []
        known: list[int] = []
        while len(known) < most:
            for _ in range(batch):
                item = project.next("ann")
                assert item is not None
                project.say(ANSWER, item.id, "ann", NAMES[pool[1][int(item.id)]], item.id)
                known.append(int(item.id))
            model = learned(pool[0][known], pool[1][known], seed)
            points.append(100 * float((shares(model, tests[0]).argmax(1) == tests[1]).mean()))
            guesses = shares(model, pool[0])
            left = set(range(len(pool[0]))) - set(known)
            project.add_predictions(
                [
                    Prediction(str(n), "cnn", NAMES[int(guesses[n].argmax())], float(1 - guesses[n].max()))
                    for n in sorted(left)
                ]
            )
        store.close()
    return points


def main() -> None:
    """Print both curves, means over seeds with the standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pool", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--most", type=int, default=1000)
    arguments = parser.parse_args()
    pictures, labels = load(arguments.data, "train")
    tests = load(arguments.data, "t10k")
    by_order: dict[str, list[list[float]]] = {order: [] for order in ORDERS}
    for seed in range(arguments.seeds):
        chosen = np.random.default_rng(seed).permutation(len(pictures))[: arguments.pool]
        for order in ORDERS:
            by_order[order].append(
                curve(order, (pictures[chosen], labels[chosen]), tests, arguments.batch, arguments.most, seed)
            )
    rows = []
    for place, count in enumerate(range(arguments.batch, arguments.most + 1, arguments.batch)):
        values = [[points[place] for points in by_order[order]] for order in ORDERS]
        rows.append((str(count), *(f"{np.mean(each):.1f} ± {np.std(each):.1f}" for each in values)))
    table("test accuracy, %", rows, ("labels", *ORDERS))
    finish("active_order", {order: np.mean(points, axis=0).round(2).tolist() for order, points in by_order.items()})


if __name__ == "__main__":
    main()
