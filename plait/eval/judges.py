"""Independent judges: small convolutional networks trained on labelled real media that no model trains on.

They share no weights, no family (convolutions, not a transformer) and no training item with the model, and have input
features of their own. The sound judge also hears a third of its recordings after phase reconstruction, the way all
made sound comes.
A judge sees what a user gets: an 8-bit picture, a waveform.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.contract import Part
from plait.eval.plain import pixels, waveform
from plait.modalities.audio import Audio
from plait.modalities.audio.mel import RATE
from plait.threads import each


class Judge(nn.Module, ABC):
    """Predicts every label of a medium at once: `classes` maps an attribute to its values."""

    kind: str
    epochs: int
    stride = 1  # of the first convolution
    batch = 128

    def __init__(self, classes: Mapping[str, Sequence[Any]], channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.classes = {name: list(values) for name, values in classes.items()}
        self.body = nn.Sequential(
            *self._stage(channels, 24, self.stride),
            *self._stage(24, 48),
            *self._stage(48, 64),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        width = 64 * 2 * 2
        self.features = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Dropout(0.3))
        self.heads = nn.ModuleList(
            nn.Linear(128, len(values)) for values in self.classes.values()
        )  # any name is allowed

    @staticmethod
    def _stage(before: int, after: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, 2 * stride + 1, stride=stride, padding=stride)
        return [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]

    @abstractmethod
    def see(self, part: Part) -> Tensor:
        """[channels, height, width] input of one part."""

    @abstractmethod
    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A training batch, varied."""

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.features(self.body(x))
        return features, {name: head(features) for name, head in zip(self.classes, self.heads, strict=True)}

    def fit(self, parts: Sequence[Part], labels: Sequence[Mapping[str, Any]], seed: int = 0) -> float:
        """Train from scratch; returns seconds."""
        begin = time.perf_counter()
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        x = torch.stack(each(self.see, parts))
        y = {name: torch.tensor([values.index(one[name]) for one in labels]) for name, values in self.classes.items()}
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3, weight_decay=0.02)
        batch = min(self.batch, max(1, len(x) // 4))
        total = self.epochs * (len(x) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=total)
        self.train()
        for _ in range(self.epochs):
            order = torch.randperm(len(x), generator=generator)
            for start in range(0, len(x) - batch + 1, batch):
                chosen = order[start : start + batch]
                _, logits = self(self.augment(x[chosen], generator))
                loss = torch.stack([F.cross_entropy(logits[name], y[name][chosen]) for name in y]).sum()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        self.eval()
        return time.perf_counter() - begin

    @torch.inference_mode()
    def judge(self, parts: Sequence[Part]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """[n, 128] features, and for each attribute [n, classes] probabilities."""
        features, scores = [], []
        for start in range(0, len(parts), 256):
            made, logits = self(torch.stack(each(self.see, parts[start : start + 256])))
            features.append(made)
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


class PictureJudge(Judge):
    """Pictures of `side` x `side` pixels, grey or RGB. `flip`: a mirrored picture means the same."""

    kind = "image"
    epochs = 30

    def __init__(
        self, classes: Mapping[str, Sequence[Any]], channels: int = 1, side: int = 28, flip: bool = False
    ) -> None:
        super().__init__(classes, channels)
        self.side, self.flip = side, flip

    def see(self, part: Part) -> Tensor:
        levels = pixels(part, self.side, self.channels).reshape(self.side, self.side, self.channels) / 255.0
        return torch.from_numpy(levels.transpose(2, 0, 1).copy())

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n = len(x)
        noise = torch.randn(n, 2, 3, generator=generator) * torch.tensor([0.12, 0.12, 0.08])
        looks = torch.eye(2, 3).repeat(n, 1, 1)
        if self.flip:
            looks[:, 0, 0] = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1.0
        grid = F.affine_grid(looks + noise, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class SoundJudge(Judge):
    """Waveforms, through its own features: log magnitudes of a 512-point STFT in 32 linear bands, the first `frames` of
    10 ms."""

    kind = "audio"
    epochs = 20
    stride = 2

    def __init__(self, classes: Mapping[str, Sequence[Any]], frames: int = 120) -> None:
        super().__init__(classes)
        self.frames = frames

    def see(self, part: Part) -> Tensor:
        samples = torch.from_numpy(np.ascontiguousarray(waveform(part), np.float32))
        samples = F.pad(samples, (0, max(0, RATE // 100 * self.frames - len(samples))))[: RATE // 100 * self.frames]
        spectrum = torch.stft(samples, 512, RATE // 100, window=torch.hann_window(512), return_complex=True).abs()
        bands = F.avg_pool1d(spectrum[1:].T, 8).T[:, : self.frames]
        return torch.log(bands + 1e-3)[None] / 4.0 + 0.5

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        gain = torch.randn(len(x), 1, 1, 1, generator=generator) * 0.2
        shift = int(torch.randint(-6, 7, (1,), generator=generator))
        return torch.roll(x, shift, dims=-1) + gain + 0.1 * torch.randn(x.shape, generator=generator)


def round_trips(parts: Sequence[Part]) -> list[Part]:
    """Recordings as the model's own mel and phase reconstruction would give them back."""
    audio = Audio(max_seconds=math.inf)
    return each(lambda part: audio.write(audio.read(part)), parts)


def load_or_fit(judge: Judge, path: Path, parts: Sequence[Part], labels: Sequence[Mapping[str, Any]]) -> None:
    """Weights from `path`, or fit and write them there."""
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
