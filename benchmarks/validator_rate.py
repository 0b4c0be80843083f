"""Rate and memory of the row checker on a large file of rows of words, a thousandth of them bad.

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
    arguments = parser.parse_args()
    modalities = registry.build_all(registry.available())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(arguments.rows):
                messages = [
                    {"role": "user", "content": f"what is {number}?"},
                    {"role": "assistant", "content": f"it is {number}"},
                ]
                file.write(
                    json.dumps({"messages": messages} if number % 1000 else {"messages": messages, "spoiled": 1}) + "\n"
                )
        memory_before = peak_rss_mb()
        start_time = time.perf_counter()
        num_bad = 0

        def count(_: object) -> None:
            nonlocal num_bad
            num_bad += 1

        report = check_file(path, modalities, count)
        duration = time.perf_counter() - start_time
        size = path.stat().st_size / 2**20
    assert num_bad == -(-arguments.rows // 1000)
    print(report)
    finish(
        "validator_rate",
        {
            "rows": report.rows,
            "rows_per_s": round(report.rows / duration),
            "file_mb": round(size),
            "memory_grew_mb": round(peak_rss_mb() - memory_before, 1),
        },
    )


if __name__ == "__main__":
    main()
