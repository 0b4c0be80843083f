"""Memory and rate of the loader on shards of any size.

    python benchmarks/shard_memory.py --gigabytes 10

Writes shards of pictures of noise (which do not compress, so a row is 50 kB) with a name each, opens them and draws packed batches
from all over them; prints rows, the resident memory on the way, the rate, and whether a loader that resumes in the middle gives the
same batches. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from side_by_side import finish

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.loader import Loader, PackConfig
from plait.data.media import Blob, CachedReader
from plait.data.sequence import Encoder, FlowConfig
from plait.data.shards import ShardRows, ShardWriter, index_of, shards_of
from plait.data.vocabulary import Vocabulary

SIDE = 128


def resident_mb() -> float:
    """Memory of this process that is its own: not the pages of files that the system may drop."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(facts["RssAnon"].split()[0]) / 1024


def write(folder: Path, gigabytes: float, known: dict[str, object]) -> None:
    rng = np.random.default_rng(0)
    with ShardWriter(folder, "train", registry.build_all(known)) as writer:
        written = 0
        while written < gigabytes * 1e9:
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(buffer, "PNG", compress_level=0)
            picture = Part("image", Blob(buffer.getvalue(), ".png"))
            name = Part("text", f"noise {writer.groups}")
            writer.add([Sample((Message("user", (picture,)), Message("assistant", (name,))), "name")])
            written += SIDE * SIDE * 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the shards are written; a temporary folder if not given")
    given = parser.parse_args()
    place = Path(given.folder or tempfile.mkdtemp())
    known = registry.build_all({"text": {}, "image": {"patch": 16, "max_patches": 16}})

    def loader() -> Loader:
        rows = ShardRows(place, "train", known)
        encoder = Encoder(Vocabulary(known), FlowConfig(), CachedReader(known, capacity=2**28))
        return Loader(rows, {}, encoder, PackConfig(length=256, sequences=16), 0)

    try:
        begin = time.perf_counter()
        if not shards_of(place, "train"):
            write(place, given.gigabytes, {name: modality.state() for name, modality in known.items()})
        wrote = time.perf_counter() - begin
        one = loader()
        memory = [resident_mb()]
        begin = time.perf_counter()
        for step in range(given.steps):
            if step == given.steps // 2:
                state = one.state()
            one.next_step()
            memory.append(resident_mb())
        seconds = time.perf_counter() - begin
        two = loader()
        two.load_state(state)
        for _ in range(given.steps - given.steps // 2):
            two.next_step()
        same = all(
            (a.ids == b.ids).all() and all((a.noised[n].inputs == b.noised[n].inputs).all() for n in a.noised)
            for a, b in zip(one.next_step(), two.next_step(), strict=True)
        )
        rows = len(one.mix.samples["name"])
        size = sum(path.stat().st_size for path in shards_of(place, "train"))
        extra = sum(path.stat().st_size for path in index_of(place, "train").iterdir())
        facts = {
            "gigabytes": round(size / 1e9, 2), "rows": rows, "index_mb": round(extra / 1e6, 1), "write_seconds": round(wrote, 1),
            "memory_mb": [round(memory[i]) for i in (0, given.steps // 4, given.steps // 2, given.steps)],
            "rows_a_second": round(one.mix.draws / seconds), "resumes_exactly": same,
        }  # fmt: skip
        finish("shard_memory", facts)
    finally:
        if given.folder is None:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
