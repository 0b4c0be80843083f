"""From log-mel frames to a waveform by a small network, which may start before the frames end.

It predicts the spectrum of each frame, magnitude and phase, and the inverse short-time Fourier transform makes the samples
(Vocos, Siuzdak, 2023), in ConvNeXt blocks (Liu et al., 2022) that look back only; the first layer alone looks LOOKAHEAD frames ahead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.modalities.audio.mel import FLOOR, HOP, MELS, WINDOW, filterbank

KERNEL = 7
LOOKAHEAD = KERNEL // 2  # frames
OVERLAP = WINDOW // 2 // HOP + 1  # frames before and after a sample whose windows reach it, at most
LARGEST = 7.0  # log-magnitude
RESOLUTIONS = ((512, 80), (1024, 160), (2048, 320), (256, 40))  # windows and hops of the losses, in samples


class CausalConv(nn.Module):
    """Depthwise convolution over this frame and the KERNEL - 1 before it: [B, T, C] -> [B, T, C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(KERNEL, width))
        self.bias = nn.Parameter(torch.zeros(width))

    def draw(self, key: str, tensor: Tensor, generator: torch.Generator) -> None:
        """Initial values (plait.model.init)."""
        tensor.normal_(std=KERNEL**-0.5, generator=generator) if key == "weight" else tensor.zero_()

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        padded = F.pad(x, (0, 0, KERNEL - 1, 0))
        total = self.bias + padded[:, :T] * self.weight[0]
        for k in range(1, KERNEL):
            total = total + padded[:, k : k + T] * self.weight[k]
        return total


class ConvNeXt(nn.Module):
    """A residual block: convolution over time, normalisation, two layers a frame."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.conv = CausalConv(width)
        self.norm = nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        self.scale, self.start = nn.Parameter(torch.full((width,), 1.0 / layers)), 1.0 / layers

    def draw(self, key: str, tensor: Tensor, generator: torch.Generator) -> None:
        """Initial values (plait.model.init): a branch adds little, the more layers the less."""
        tensor.fill_(self.start)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.narrow(F.gelu(self.widen(self.norm(self.conv(x)))))
        return x + self.scale * branch


class Vocoder(nn.Module):
    """[B, T, MELS] normalised log-mel frames -> [B, (T - 1) * HOP] samples."""

    def __init__(self, width: int = 256, layers: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(KERNEL * MELS, width)
        self.blocks = nn.ModuleList(ConvNeXt(width, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, WINDOW + 2)
        self.context = LOOKAHEAD + layers * (KERNEL - 1) + OVERLAP  # frames before a sample that it may hang on

    def forward(self, frames: Tensor) -> Tensor:
        return inverse(self.spectrum(frames))

    def is_trained(self) -> bool:
        """Whether any branch weighs other than it began."""
        return any(bool((block.scale != block.start).any()) for block in self.blocks if isinstance(block, ConvNeXt))

    def spectrum(self, frames: Tensor) -> Tensor:
        """[B, T, WINDOW // 2 + 1] complex spectrum of each frame."""
        around = F.pad(frames, (0, 0, LOOKAHEAD, LOOKAHEAD)).unfold(1, KERNEL, 1)  # [B, T, MELS, KERNEL]
        x = self.first(around.flatten(2))
        for block in self.blocks:
            x = block(x)
        logs, phases = self.last(self.norm(x)).float().chunk(2, dim=-1)
        return torch.polar(logs.clamp(max=LARGEST).exp(), phases)


def inverse(spectrum: Tensor) -> Tensor:
    """The least-squares inverse of the short-time Fourier transform: [B, T, WINDOW // 2 + 1] -> [B, (T - 1) * HOP]."""
    T = spectrum.shape[1]
    window = torch.hann_window(WINDOW, device=spectrum.device)
    pieces = -(-WINDOW // HOP)

    def overlap_add(frames: Tensor) -> Tensor:
        """[B, T, WINDOW] -> [B, (T + pieces - 1) * HOP]."""
        chunks = F.pad(frames, (0, pieces * HOP - WINDOW)).view(len(frames), T, pieces, HOP)
        total = sum(F.pad(chunks[:, :, n], (0, 0, n, pieces - 1 - n)) for n in range(pieces))
        assert isinstance(total, Tensor)
        return total.flatten(1)

    samples = overlap_add(torch.fft.irfft(spectrum, WINDOW) * window)
    weight = overlap_add(window.square().expand(1, T, WINDOW))
    middle = slice(WINDOW // 2, WINDOW // 2 + (T - 1) * HOP)
    inverted: Tensor = samples[:, middle] / weight[:, middle]
    return inverted


def magnitudes(samples: Tensor, window: int, hop: int) -> Tensor:
    """[B, n] -> [B, frames, window // 2 + 1] magnitudes, only of whole windows."""
    shape = torch.hann_window(window, device=samples.device)
    spectrum = torch.fft.rfft(samples.unfold(-1, window, hop) * shape)
    found: Tensor = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
    return found


def loss(made: Tensor, target: Tensor) -> Tensor:
    """[B]: the distance of log-mels, and at several resolutions spectral convergence and the distance of log-magnitudes
    (Yamamoto et al., 2020), of [B, n] samples."""
    total = torch.zeros(len(made), device=made.device)
    for window, hop in RESOLUTIONS:
        a, b = magnitudes(made, window, hop), magnitudes(target, window, hop)
        converged = (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1).clamp_min(1e-3)
        total = total + (converged + (a.log() - b.log()).abs().flatten(1).mean(dim=1)) / len(RESOLUTIONS)
        if window == WINDOW:
            filters = filterbank().T.to(made.device)
            first, second = ((x @ filters).clamp_min(FLOOR).log() for x in (a, b))
            total = total + (first - second).abs().flatten(1).mean(dim=1)
    return total


class Piecewise:
    """Samples of [T, MELS] frames that come in pieces: all together what `decode` makes of the whole.

    Each piece is decoded with the `context` frames before it; the samples that later frames reach are held back.
    """

    HELD = LOOKAHEAD + OVERLAP  # frames whose samples are not final yet

    def __init__(self, decode: Callable[[Tensor], Tensor], context: int) -> None:
        self.decode, self.context = decode, context
        self.frames = torch.zeros(0, MELS)  # those that are needed still
        self.first = 0  # number of the first of them
        self.told = 0  # samples so far

    def add(self, frames: Tensor, last: bool) -> Tensor:
        """[n] samples that are final with these [T, MELS] frames."""
        self.frames = torch.cat((self.frames, frames))
        end = self.first + len(self.frames)
        ready = max(self.told, (end - 1 if last else end - 1 - self.HELD) * HOP)
        if ready <= self.told:
            return torch.zeros(0)
        samples = self.decode(self.frames)
        piece = samples[self.told - self.first * HOP : ready - self.first * HOP]
        self.told = ready
        drop = max(0, self.told // HOP - self.context - self.first)
        self.frames, self.first = self.frames[drop:], self.first + drop
        return piece
