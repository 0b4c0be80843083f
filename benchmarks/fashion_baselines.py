"""Baselines on Fashion-MNIST on the same cores: scikit-learn's classifiers without a time limit, a small CNN with one.

    plait data build fashion
    python benchmarks/fashion_baselines.py --minutes 15

On the official split. Gradient-boosted trees and nearest neighbours use all pixels. The CNN (two convolutions, float32,
random shifts and mirroring) trains until the time is up, its learning rate decaying to zero. The test set selects nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from side_by_side import finish, table
from torch import Tensor, nn


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """[n, 28, 28] uint8 pictures and [n] labels of a split, from its IDX files anywhere under `folder`."""
    from plait.data.importers.idx import load as read

    source = next(folder.rglob(f"{name}-images-idx3-ubyte.gz")).parent
    return read(source / f"{name}-images-idx3-ubyte.gz"), read(source / f"{name}-labels-idx1-ubyte.gz")


def cnn(minutes: float, x: np.ndarray, y: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """Labels of `tests` by a CNN trained for `minutes`."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    pictures, labels = torch.from_numpy(x.copy()), torch.from_numpy(y.astype(np.int64))

    def to_input(batch: Tensor) -> Tensor:
        return batch[:, None].float() / 127.5 - 1.0

    start_time = time.perf_counter()
    while (progress := (time.perf_counter() - start_time) / (60 * minutes)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1.0 - progress)
        indices = torch.randint(0, len(pictures), (256,))
        batch = F.pad(to_input(pictures[indices]), (2, 2, 2, 2), value=-1.0)
        down, right = torch.randint(0, 5, (2,)).tolist()
        batch = batch[:, :, down : down + 28, right : right + 28]
        mirrored = torch.rand(256) < 0.5
        batch[mirrored] = batch[mirrored].flip(-1)
        loss = F.cross_entropy(model(batch), labels[indices])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        return torch.cat(
            [model(to_input(batch)).argmax(1) for batch in torch.split(torch.from_numpy(tests.copy()), 1000)]
        ).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/fashion"))
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neighbors import KNeighborsClassifier

    (x, y), (tests, truth) = load(arguments.data, "train"), load(arguments.data, "t10k")
    flat, flat_tests = x.reshape(len(x), -1), tests.reshape(len(tests), -1)
    contenders: dict[str, Callable[[], np.ndarray]] = {
        "nearest neighbours": lambda: (
            KNeighborsClassifier(5, n_jobs=arguments.threads).fit(flat, y).predict(flat_tests)
        ),
        "boosted trees": lambda: (
            HistGradientBoostingClassifier(max_iter=150, random_state=0).fit(flat, y).predict(flat_tests)
        ),
        "small CNN": lambda: cnn(arguments.minutes, x, y, tests),
    }
    rows, facts = [], {}
    for name, run in contenders.items():
        start_time = time.perf_counter()
        accuracy = float((run() == truth).mean())
        minutes = (time.perf_counter() - start_time) / 60
        rows.append((name, f"{100 * accuracy:.1f}", f"{minutes:.1f}"))
        facts[name] = {"accuracy": round(accuracy, 4), "minutes": round(minutes, 1)}
        print(rows[-1], flush=True)
    table("Fashion-MNIST, 10,000 held-out pictures", rows, ("what", "right, %", "minutes"))
    finish("fashion_baselines", facts)


if __name__ == "__main__":
    main()
