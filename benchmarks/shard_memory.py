"""Memory and rate of the loader on large shards.

    python benchmarks/shard_memory.py --gigabytes 10

Writes shards of pictures of noise, which do not compress, with a name each, and draws packed batches from all of them. Prints
one JSON line: rows, resident memory during the run, the rate, and whether a loader resumed in the middle gives the same
batches.
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
from plait.contract import Message, Modality, Part, Sample
from plait.data.loader import Loader, PackConfig
from plait.data.media import Blob, CachedReader
from plait.data.sequence import Encoder, FlowConfig
from plait.data.shards import ShardRows, ShardWriter, index_of, shards_of
from plait.data.vocabulary import Vocabulary

SIDE = 128


def resident_mb() -> float:
    """Anonymous resident memory of this process in MiB: without pages of files, which the system may drop."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(facts["RssAnon"].split()[0]) / 1024


def write(folder: Path, gigabytes: float, modalities: dict[str, Modality]) -> None:
    """Write shards of about `gigabytes` of pictures."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder, "train", modalities) as writer:
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
    arguments = parser.parse_args()
    folder = Path(arguments.folder or tempfile.mkdtemp())
    modalities = registry.build_all({"text": {}, "image": {"patch": 16, "max_patches": 16}})

    def make_loader() -> Loader:
        rows = ShardRows(folder, "train", modalities)
        encoder = Encoder(Vocabulary(modalities), FlowConfig(), CachedReader(modalities, capacity=2**28))
        return Loader(rows, {}, encoder, PackConfig(length=256, sequences=16), 0)

    try:
        start_time = time.perf_counter()
        if not shards_of(folder, "train"):
            write(folder, arguments.gigabytes, modalities)
        write_seconds = time.perf_counter() - start_time
        loader = make_loader()
        memory = [resident_mb()]
        start_time = time.perf_counter()
        for step in range(arguments.steps):
            if step == arguments.steps // 2:
                state = loader.state()
            loader.next_step()
            memory.append(resident_mb())
        seconds = time.perf_counter() - start_time
        resumed = make_loader()
        resumed.load_state(state)
        for _ in range(arguments.steps - arguments.steps // 2):
            resumed.next_step()
        resumes_exactly = all(
            (a.ids == b.ids).all() and all((a.noised[n].inputs == b.noised[n].inputs).all() for n in a.noised)
            for a, b in zip(loader.next_step(), resumed.next_step(), strict=True)
        )
        rows = len(loader.mix.samples["name"])
        size = sum(path.stat().st_size for path in shards_of(folder, "train"))
        index_size = sum(path.stat().st_size for path in index_of(folder, "train").iterdir())
        facts = {
            "gigabytes": round(size / 1e9, 2), "rows": rows, "index_mb": round(index_size / 1e6, 1),
            "write_seconds": round(write_seconds, 1),
            "memory_mb": [round(memory[i]) for i in (0, arguments.steps // 4, arguments.steps // 2, arguments.steps)],
            "rows_a_second": round(loader.mix.draws / seconds), "resumes_exactly": resumes_exactly,
        }  # fmt: skip
        finish("shard_memory", facts)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
