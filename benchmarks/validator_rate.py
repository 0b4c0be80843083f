"""How fast rows are checked, and that memory stays flat: a file of a million rows of words.

python benchmarks/validator_rate.py --rows 1000000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from side_by_side import finish

from plait import registry
from plait.data.validate import check_file
from plait.train.run import peak_rss_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    known = registry.build_all(registry.available())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(given.rows):
                turns = [
                    {"role": "user", "content": f"what is {number}?"},
                    {"role": "assistant", "content": f"it is {number}"},
                ]
                file.write(
                    json.dumps({"messages": turns} if number % 1000 else {"messages": turns, "spoiled": 1}) + "\n"
                )
        before = peak_rss_mb()
        begin = time.perf_counter()
        bad = 0

        def count(_: object) -> None:
            nonlocal bad
            bad += 1

        found = check_file(path, known, count)
        taken = time.perf_counter() - begin
        size = path.stat().st_size / 2**20
    assert bad == -(-given.rows // 1000)
    print(found)
    finish(
        "validator_rate",
        {
            "rows": found.rows,
            "rows_per_s": round(found.rows / taken),
            "file_mb": round(size),
            "memory_grew_mb": round(peak_rss_mb() - before, 1),
        },
    )


if __name__ == "__main__":
    main()
