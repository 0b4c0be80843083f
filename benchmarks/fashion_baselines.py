"""What else reads Fashion-MNIST on the same cores: scikit-learn, which takes as long as it takes, and a small CNN in the same
minutes.

    plait data build fashion
    python benchmarks/fashion_baselines.py --minutes 15

The official split: 60,000 to learn from, 10,000 to test. scikit-learn's gradient-boosted trees and nearest neighbours
learn on all pixels; the CNN (two convolutions, 0.4 million weights, float32, random shifts and mirroring) trains until the
minutes are over, its rate falling to zero, and nothing is chosen by the test.
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

    def see(chosen: Tensor) -> Tensor:
        return chosen[:, None].float() / 127.5 - 1.0

    begin = time.perf_counter()
    while (spent := (time.perf_counter() - begin) / (60 * minutes)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1.0 - spent)
        chosen = torch.randint(0, len(pictures), (256,))
        shown = F.pad(see(pictures[chosen]), (2, 2, 2, 2), value=-1.0)
        down, right = torch.randint(0, 5, (2,)).tolist()
        shown = shown[:, :, down : down + 28, right : right + 28]
        mirrored = torch.rand(256) < 0.5
        shown[mirrored] = shown[mirrored].flip(-1)
        loss = F.cross_entropy(model(shown), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        return torch.cat(
            [model(see(piece)).argmax(1) for piece in torch.split(torch.from_numpy(tests.copy()), 1000)]
        ).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/fashion"))
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neighbors import KNeighborsClassifier

    (x, y), (tests, truth) = load(given.data, "train"), load(given.data, "t10k")
    flat, flat_tests = x.reshape(len(x), -1), tests.reshape(len(tests), -1)
    contenders: dict[str, Callable[[], np.ndarray]] = {
        "nearest neighbours": lambda: KNeighborsClassifier(5, n_jobs=given.threads).fit(flat, y).predict(flat_tests),
        "boosted trees": lambda: (
            HistGradientBoostingClassifier(max_iter=150, random_state=0).fit(flat, y).predict(flat_tests)
        ),
        "small CNN": lambda: cnn(given.minutes, x, y, tests),
    }
    rows, facts = [], {}
    for name, run in contenders.items():
        begin = time.perf_counter()
        right = float((run() == truth).mean())
        minutes = (time.perf_counter() - begin) / 60
        rows.append((name, f"{100 * right:.1f}", f"{minutes:.1f}"))
        facts[name] = {"accuracy": round(right, 4), "minutes": round(minutes, 1)}
        print(rows[-1], flush=True)
    table("Fashion-MNIST, 10,000 held-out pictures", rows, ("what", "right, %", "minutes"))
    finish("fashion_baselines", facts)


if __name__ == "__main__":
    main()
