"""Media per second that `plait data check` checks, against Pillow or libsndfile alone; the two alternate.

python benchmarks/media_check_rate.py data/dictionary/category.test.jsonl data/dictionary/transcribe.test.jsonl
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

import soundfile
import torch
from PIL import Image
from side_by_side import alternate, finish, seconds

from plait import registry
from plait.data.rows import read_rows
from plait.data.validate import check_file


def decode(path: str) -> None:
    """Decode a file with the library that its modality uses."""
    if Path(path).suffix.lower() in (".wav", ".flac", ".ogg", ".mp3"):
        soundfile.read(path)
    else:
        with Image.open(path) as picture:
            picture.load()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    modalities = registry.build_all(registry.available())
    results: dict[str, dict[str, float]] = {}
    totals = {"check": 0.0, "decoder": 0.0}
    for path in arguments.rows:
        samples = list(read_rows(path, modalities))
        flows = {n for n, m in modalities.items() if m.head == "flow"}
        media = {str(p.value) for s in samples for m in s.messages for p in m.parts if p.type in flows}

        def decoder(media: set[str] = media) -> None:
            for file in media:
                decode(file)

        def check(path: Path = path) -> None:
            check_file(path, modalities, print)

        times = alternate({"check": partial(seconds, check), "decoder": partial(seconds, decoder)}, arguments.rounds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        results[path.name] = rates(len(samples), len(media), medians["check"], medians["decoder"])
        totals = {name: total + medians[name] for name, total in totals.items()}
    rows, files = (int(sum(result[key] for result in results.values())) for key in ("rows", "media"))
    finish("media_check_rate", results | {"all": rates(rows, files, totals["check"], totals["decoder"])})


def rates(rows: int, media: int, check_seconds: float, decoder_seconds: float) -> dict[str, float]:
    """Rates from the seconds of the check and of the decoder."""
    return {
        "rows": rows,
        "media": media,
        "media_per_s": round(media / check_seconds),
        "decoder_media_per_s": round(media / decoder_seconds),
        "share_of_the_decoder_s_rate": round(decoder_seconds / check_seconds, 2),
    }


if __name__ == "__main__":
    main()
