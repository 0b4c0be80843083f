"""Independent judges: small convolutional networks trained on labelled real media that the model never trains on.

A judge shares no weights, no architecture family and no training item with the model, and has features of its own
(`judge.py` of a modality's folder). It sees what a user gets: an 8-bit picture, a waveform. Where the codec leaves traces
in what it decodes, a third of the judge's recordings are also shown after a round trip through the codec.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.contract import Part
from plait.modalities import JudgeView
from plait.runtime.parallel import parallel_map

BATCH = 128
SEEN_AT_ONCE = 256
WIDTH = 128  # features of a judge


class Judge(nn.Module):
    """Predicts all labels of a medium at once; `classes` maps an attribute to its values."""

    def __init__(self, classes: Mapping[str, Sequence[Any]], view: JudgeView) -> None:
        super().__init__()
        self.view = view
        self.classes = {name: list(values) for name, values in classes.items()}
        self.body = nn.Sequential(
            *self._stage(view.channels, 24, view.stride),
            *self._stage(24, 48),
            *self._stage(48, 64),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.features = nn.Sequential(nn.Linear(64 * 2 * 2, WIDTH), nn.ReLU(), nn.Dropout(0.3))
        self.heads = nn.ModuleList(
            nn.Linear(WIDTH, len(values)) for values in self.classes.values()
        )  # any name is allowed

    @staticmethod
    def _stage(before: int, after: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, 2 * stride + 1, stride=stride, padding=stride)
        return [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[n, channels, height, width] -> [n, 128] features, and for each attribute [n, classes] logits."""
        features = self.features(self.body(x))
        return features, {name: head(features) for name, head in zip(self.classes, self.heads, strict=True)}

    def see(self, parts: Sequence[Part]) -> Tensor:
        """[n, channels, height, width] the network's input."""
        return torch.stack([torch.from_numpy(image) for image in parallel_map(self.view.view, parts)])

    def fit(self, parts: Sequence[Part], labels: Sequence[Mapping[str, Any]], seed: int = 0) -> float:
        """Trains from scratch; returns seconds."""
        begin = time.perf_counter()
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        x = self.see(parts)
        y = {
            name: torch.tensor([values.index(label[name]) for label in labels]) for name, values in self.classes.items()
        }
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3, weight_decay=0.02)
        batch = min(BATCH, max(1, len(x) // 4))
        total = self.view.epochs * (len(x) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=total)
        self.train()
        for _ in range(self.view.epochs):
            order = torch.randperm(len(x), generator=generator)
            for start in range(0, len(x) - batch + 1, batch):
                rows = order[start : start + batch]
                _, logits = self(self.view.augment(x[rows], generator))
                loss = torch.stack([F.cross_entropy(logits[name], y[name][rows]) for name in y]).sum()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        self.eval()
        return time.perf_counter() - begin

    @torch.inference_mode()
    def judge(self, parts: Sequence[Part]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """[n, 128] features, and for each attribute [n, classes] probabilities."""
        if not parts:
            return np.zeros((0, WIDTH), np.float32), {name: np.zeros((0, len(v))) for name, v in self.classes.items()}
        features, scores = [], []
        for start in range(0, len(parts), SEEN_AT_ONCE):
            batch_features, logits = self(self.see(parts[start : start + SEEN_AT_ONCE]))
            features.append(batch_features)
            scores.append({name: torch.softmax(value, dim=-1) for name, value in logits.items()})
        joined = {name: torch.cat([score[name] for score in scores]).numpy() for name in self.classes}
        return torch.cat(features).numpy(), joined

    def says(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """The likeliest value of every attribute, a dictionary a part."""
        _, scores = self.judge(parts)
        return [
            {name: values[int(scores[name][i].argmax())] for name, values in self.classes.items()}
            for i in range(len(parts))
        ]

    def round_trips(self, parts: Sequence[Part]) -> list[Part]:
        """Parts after a round trip through the codec; unchanged where the modality's view has none."""
        return parallel_map(self.view.round_trip, parts) if self.view.round_trip else list(parts)


def load_or_fit(judge: Judge, path: Path, parts: Sequence[Part], labels: Sequence[Mapping[str, Any]]) -> None:
    """Loads a judge's weights from `path`; fits it and writes them where the file does not exist."""
    from safetensors.torch import load_file, save_file

    if path.is_file():
        judge.load_state_dict(load_file(path))
        judge.eval()
        return
    judge.fit(parts, labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(judge.state_dict(), partial)
    partial.rename(path)
