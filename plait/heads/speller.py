"""From the features of a sound to the letters that are said in it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.model.layers import Linear, Norm

WIDTH, BLOCKS, EXPANSION = 320, 5, 2
KERNEL = 11  # steps that a letter is heard from at once
SLOTS = 2  # letters of a step
ROUNDED = 16  # steps: lengths are rounded up to a multiple, since oneDNN prepares every length anew


class Neighbours(nn.Module):
    """[B, T, D] -> the same, each step after its neighbours: a depthwise convolution and two layers (Liu et al., 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(width, 1, KERNEL))
        self.norm = Norm(width, bias=True)
        self.up, self.down = Linear(width, EXPANSION * width), Linear(EXPANSION * width, width)

    def draw(self, key: str, tensor: Tensor, generator: torch.Generator) -> None:
        """As `plait.model.init.Draws`."""
        tensor.normal_(std=1.0 / math.sqrt(KERNEL), generator=generator)

    def freeze_for_inference(self, dtype: torch.dtype) -> None:
        """As `Linear.freeze_for_inference`."""
        self.kernel.requires_grad_(False)
        self.kernel.data = self.kernel.data.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x.dtype)
        beside = F.conv1d(x.transpose(1, 2), kernel, padding=KERNEL // 2, groups=len(kernel)).transpose(1, 2)
        added: Tensor = self.down(F.gelu(self.up(self.norm(beside.flatten(0, 1)))))
        return x + added.view(x.shape)


class Speller(nn.Module):
    """([N, width] features of sounds, one after the other; [B] features of each) -> [B, T, classes] float32 logits of letters.

    A feature stands for `letters` slots, an even number; T is as many as the longest sound has or a few more, and slots past a
    sound's end mean nothing.
    """

    def __init__(self, width: int, letters: int, classes: int) -> None:
        super().__init__()
        self.letters, self.steps = letters, letters // SLOTS
        self.norm = Norm(width // self.steps, bias=True)
        self.rise = Linear(width // self.steps, WIDTH)
        self.blocks = nn.ModuleList(Neighbours(WIDTH) for _ in range(BLOCKS))
        self.last = Norm(WIDTH, bias=True)
        self.out = Linear(WIDTH, SLOTS * classes)

    def forward(self, features: Tensor, counts: Tensor) -> Tensor:
        """As the class says."""
        risen = self.rise(self.norm(features.reshape(len(features) * self.steps, -1)))
        sounds = list(torch.split(risen, (self.steps * counts).tolist()))
        x = nn.utils.rnn.pad_sequence(sounds, batch_first=True)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % ROUNDED))
        there = torch.arange(x.shape[1], device=x.device) < self.steps * counts[:, None]
        for block in self.blocks:
            x = block(x * there[..., None])
        logits: Tensor = self.out(self.last(x.flatten(0, 1)))
        return logits.float().reshape(len(x), x.shape[1] * SLOTS, -1)
