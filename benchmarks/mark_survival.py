"""How much of the marks in pictures and sound is left after what happens to files, and how often one is seen where there is none.

    python benchmarks/mark_survival.py data/smol

Takes the drawings and clips that the folder's held-out rows of `draw` and `say` answer with, as models draw and say things alike.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from PIL import Image
from side_by_side import finish, table

from plait import registry
from plait.contract import Part

SIDES = (28, 48, 96, 192)  # pixels
RATE = 16_000
Edit = Callable[[np.ndarray], np.ndarray]


def media(folder: Path, task: str, kind: str, count: int) -> list[Path]:
    """Files of the answers to held-out questions of a task."""
    with (folder / f"{task}.test.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    np.random.default_rng(0).shuffle(rows)
    return [folder / row["messages"][-1]["content"][0][kind] for row in rows[:count]]


def picture(path: Path, side: int) -> np.ndarray:
    """A drawing on white as pixels [side, side, 3]."""
    drawing = Image.open(path).convert("RGBA")
    canvas = Image.new("RGBA", drawing.size, "white")
    canvas.alpha_composite(drawing)
    return np.asarray(canvas.convert("RGB").resize((side, side)))


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Pixels after JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Pixels at another size."""
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((round(width * factor), round(height * factor))))


def cropped(pixels: np.ndarray, share: float) -> np.ndarray:
    """Pixels without a share of each side, cut off unevenly."""
    height, width = pixels.shape[:2]
    rows, columns = round(height * share), round(width * share)
    top, left = round(0.7 * rows), round(0.4 * columns)
    return pixels[top : height - rows + top, left : width - columns + left]


def encoded(samples: np.ndarray, container: str, subtype: str, rate: int = RATE) -> np.ndarray:
    """Samples after a codec."""
    buffer = io.BytesIO()
    soundfile.write(buffer, soxr.resample(samples, RATE, rate), rate, format=container, subtype=subtype)
    buffer.seek(0)
    decoded, rate = soundfile.read(buffer)
    return np.asarray(soxr.resample(decoded, rate, RATE))


PICTURES: dict[str, Edit] = {
    "as it is": lambda pixels: pixels,
    "JPEG 80": lambda pixels: jpeg(pixels, 80),
    "JPEG 50": lambda pixels: jpeg(pixels, 50),
    "half the size": lambda pixels: scaled(pixels, 0.5),
    "twice the size": lambda pixels: scaled(pixels, 2),
    "4 times the size, JPEG 70": lambda pixels: jpeg(scaled(pixels, 4), 70),
    "15 % of each side cut": lambda pixels: cropped(pixels, 0.15),
    "30 % of each side cut": lambda pixels: cropped(pixels, 0.3),
}
NOISE = np.random.default_rng(1)
SOUNDS: dict[str, Edit] = {
    "as it is": lambda samples: samples,
    "MP3": lambda samples: encoded(samples, "MP3", "MPEG_LAYER_III"),
    "Opus": lambda samples: encoded(samples, "OGG", "OPUS", 24_000),
    "a quarter cut": lambda samples: samples[len(samples) // 4 + 77 :],
    "noise at 20 dB": lambda samples: samples + NOISE.standard_normal(len(samples)) * samples.std() * 0.1,
    "noise at 10 dB": lambda samples: samples + NOISE.standard_normal(len(samples)) * samples.std() * 0.316,
    "8 kHz": lambda samples: soxr.resample(soxr.resample(samples, RATE, 8000), 8000, RATE),
    "1 % slower": lambda samples: soxr.resample(samples, RATE, 1.01 * RATE),
}


def shares(parts: list[Part], edits: dict[str, Edit]) -> dict[str, float]:
    """Of marked parts, the share in which the mark is found after each edit; and in parts that have none."""

    def found(part: Part) -> bool:
        return registry.provenance(part).is_marked

    def edited(part: Part, edit: Edit) -> Part:
        if isinstance(part.value, tuple):
            return Part(part.type, (edit(np.asarray(part.value[0], np.float64)).astype(np.float32), RATE))
        return Part(part.type, edit(np.asarray(part.value)))

    module = registry.marks(parts[0].type)
    assert module is not None
    marked = [module.mark(part) for part in parts]
    result = {name: float(np.mean([found(edited(part, edit)) for part in marked])) for name, edit in edits.items()}
    return {**result, "not marked": float(np.mean([found(part) for part in parts]))}


def strength_of_marks(parts: list[Part]) -> float:
    """Median over parts of how far the mark lies below the medium, in dB: below full brightness for pictures (PSNR), below the
    sound itself for sound (SNR)."""
    module = registry.marks(parts[0].type)
    assert module is not None
    ratios = []
    for part in parts:
        is_sound = isinstance(part.value, tuple)
        before, after = (
            np.asarray(each.value[0] if is_sound else each.value, np.float64) for each in (part, module.mark(part))
        )
        ratios.append(((before**2).mean() if is_sound else 255.0**2) / ((after - before) ** 2).mean())
    return float(10 * np.log10(np.median(ratios)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    files = media(options.folder, "draw", "image", options.count)
    drawings = {side: [Part("image", picture(file, side)) for file in files] for side in SIDES}
    for side, parts in drawings.items():
        print(f"{side} pixels: PSNR {strength_of_marks(parts):.1f} dB")
    of_pictures = {side: shares(parts, PICTURES) for side, parts in drawings.items()}
    rows = [(name, *(f"{of_pictures[side][name]:.1%}" for side in SIDES)) for name in of_pictures[SIDES[0]]]
    table("pictures in which the mark is found", rows, ("after", *(f"{side} pixels" for side in SIDES)))
    clips = []
    for file in media(options.folder, "say", "audio", options.count):
        samples, rate = soundfile.read(file)
        clips.append(Part("audio", (np.asarray(soxr.resample(samples, rate, RATE), np.float32), RATE)))
    print(f"clips: SNR {strength_of_marks(clips):.1f} dB")
    of_sounds = shares(clips, SOUNDS)
    seconds = float(np.mean([len(clip.value[0]) for clip in clips])) / RATE
    table(
        f"clips in which it is found, of {seconds:.1f} s on average",
        [(name, f"{share:.1%}") for name, share in of_sounds.items()],
        ("after", "found"),
    )
    finish(
        "mark_survival", {"pictures": {str(side): found for side, found in of_pictures.items()}, "sounds": of_sounds}
    )


if __name__ == "__main__":
    main()
