"""Rows that a shipped checkpoint is guarded with when somebody goes on to train it: a few of each task, never learned from.

    python scripts/held_out_rows.py data/smol plait/shipped/smol/held-out --rows 8

Copies the first rows of every TASK.test.jsonl with their media, pictures as lossless WebP, clips as Opus. What is under a share-alike licence is in none of these files (plait.recipes.smol.taught).
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image

from plait import registry
from plait.contract import Part
from plait.data import copies
from plait.data.corpus.spoken import write_opus
from plait.data.rows import dump_row, read_rows
from plait.modalities.audio.measure import waveform
from plait.runtime.files import atomic_write

PICTURES = (".png", ".jpg", ".jpeg")


ROWS = 8  # of each task


def copy_rows(data: Path, to: Path, count: int = ROWS) -> None:
    """Write the first rows of every test in the folder `data` to the folder `to`, with their media."""
    known = registry.build_all(registry.available())
    shutil.rmtree(to, ignore_errors=True)
    (to / "media").mkdir(parents=True)
    for file in sorted(data.glob("*.test.jsonl")):
        rows = list(read_rows(file, known))[:count]
        lines = [dump_row(copies.renamed(row, lambda value: copied(Path(str(value)), to))) for row in rows]
        atomic_write(to / file.name, "".join(f"{line}\n" for line in lines))
        print(f"{file.name}: {len(rows)} rows")


def main() -> None:
    """Copy them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("to", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS, help="of each task")
    arguments = parser.parse_args()
    copy_rows(arguments.data, arguments.to, arguments.rows)
    size = sum(path.stat().st_size for path in arguments.to.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB")


def copied(medium: Path, to: Path) -> str:
    """Copy a medium; returns its name in the folder."""
    name = Path(copies.media_name(str(medium.relative_to(medium.parents[1]))))
    if medium.suffix in PICTURES:
        buffer = io.BytesIO()
        Image.open(medium).save(buffer, "WEBP", lossless=True, quality=100, method=6)
        name, content = name.with_suffix(".webp"), buffer.getvalue()
        (to / name).write_bytes(content)
    elif medium.suffix == ".opus":
        (to / name).write_bytes(medium.read_bytes())
    else:
        name = name.with_suffix(".opus")
        write_opus(to / name, waveform(Part("audio", str(medium))))
    return name.as_posix()


if __name__ == "__main__":
    main()
