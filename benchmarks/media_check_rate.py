"""How fast rows with media are checked, beside the decoder alone: `plait data check` and Pillow or libsndfile, alternating.

python benchmarks/media_check_rate.py data/dictionary/category.test.jsonl data/dictionary/transcribe.test.jsonl
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch
from PIL import Image
from side_by_side import alternate, finish

from plait import registry
from plait.data.rows import read_rows
from plait.data.validate import check_file


def decoded(path: str) -> None:
    """One file, by the library that the modality reads it with."""
    if Path(path).suffix.lower() in (".wav", ".flac", ".ogg", ".mp3"):
        soundfile.read(path)
    else:
        with Image.open(path) as picture:
            picture.load()


def timed(work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    known = registry.build_all(registry.available())
    told: dict[str, dict[str, float]] = {}
    spent = {"ours": 0.0, "decoder": 0.0}
    for path in given.rows:
        samples = list(read_rows(path, known))
        flows = {n for n, m in known.items() if m.head == "flow"}
        media = {str(p.value) for s in samples for m in s.messages for p in m.parts if p.type in flows}

        def decoder(media: set[str] = media) -> None:
            for one in media:
                decoded(one)

        def ours(path: Path = path) -> None:
            check_file(path, known, print)

        seconds = alternate({"ours": timed(ours), "decoder": timed(decoder)}, given.rounds)
        mine, theirs = (statistics.median(seconds[name]) for name in spent)
        told[path.name] = rates(len(samples), len(media), mine, theirs)
        spent = {"ours": spent["ours"] + mine, "decoder": spent["decoder"] + theirs}
    rows, files = (int(sum(one[what] for one in told.values())) for what in ("rows", "media"))
    finish("media_check_rate", told | {"all": rates(rows, files, spent["ours"], spent["decoder"])})


def rates(rows: int, media: int, mine: float, theirs: float) -> dict[str, float]:
    """Rates, given the seconds that we and the decoder took."""
    return {
        "rows": rows,
        "media": media,
        "media_per_s": round(media / mine),
        "decoder_media_per_s": round(media / theirs),
        "share_of_the_decoder_s_rate": round(theirs / mine, 2),
    }


if __name__ == "__main__":
    main()
