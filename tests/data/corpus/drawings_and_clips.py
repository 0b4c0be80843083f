"""Drawings and clips that are unlike one another, for tests of near-duplicates and builds."""

import numpy as np
from PIL import Image, ImageDraw

from plait.modalities.audio.mel import RATE


def drawing(seed, size=96):
    """Some coloured shapes on white."""
    rng = np.random.default_rng(seed)
    canvas = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(canvas)
    for _ in range(4):
        x, y = rng.integers(0, size * 0.6, 2)
        wide, high = rng.integers(size // 6, size // 2, 2)
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape([int(x), int(y), int(x + wide), int(y + high)], fill=tuple(map(int, rng.integers(0, 200, 3))))
    return canvas


def clip(seed, seconds=1.0):
    """A few gliding tones with gaps, unlike one another."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    samples = np.zeros_like(time)
    for _ in range(5):
        start, end = np.sort(rng.uniform(0, seconds, 2))
        tone = np.sin(2 * np.pi * time * rng.uniform(150, 4000) * (1 + rng.uniform(-0.3, 0.3) * time))
        samples += tone * ((time >= start) & (time <= end))
    return (0.2 * samples + 0.01 * rng.normal(size=len(time))).astype(np.float32)
