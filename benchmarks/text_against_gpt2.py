"""Text alone, against Hugging Face's GPT-2 of equal size: rates of training and of greedy decoding.

    python -m pip install transformers
    python benchmarks/text_against_gpt2.py

Both train on the same ids (the standard library's source, byte-level BPE), SEQUENCES x LENGTH tokens a step, bfloat16 over
float32 weights, AdamW; both decode as many tokens after the same prompt with a cache. The weights are random: quality is not
compared. Every contender runs in a process of its own. GPT-2 also runs with glibc set to keep freed memory, as plait sets it
for itself.
"""

from __future__ import annotations

import argparse
import functools
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from side_by_side import Worker, contest, finish, gemm_rate, seconds, table

if TYPE_CHECKING:
    from plait.modalities.text import Text
    from plait.model.multimodal import MultimodalTransformer

VOCABULARY, LENGTH, SEQUENCES = 4096, 256, 8
DIM, LAYERS, HEADS = 320, 6, 5
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


@functools.cache
def text() -> tuple[Text, np.ndarray]:
    """A fitted tokenizer, and the [n] ids of text that every machine has: the source of the standard library."""
    from plait.contract import Part
    from plait.modalities.text import Text

    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:120]
    lines = "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files).splitlines()
    tokenizer = Text(VOCABULARY)
    tokenizer.fit([Part("text", line) for line in lines])
    return tokenizer, np.concatenate(
        [tokenizer.read(Part("text", line + "\n")).blocks[0].tokens for line in lines[:20000]]
    )


def prompt(ids: np.ndarray) -> np.ndarray:
    """[128] ids that decoding continues."""
    return ids[:128]


def plait_model() -> MultimodalTransformer:
    from plait.data.vocabulary import Vocabulary
    from plait.model.multimodal import MultimodalTransformer
    from plait.model.transformer import TrunkConfig
    from plait.runtime import native

    native.configure()  # as `plait train` and `plait.load` do
    vocabulary = Vocabulary({"text": text()[0]})
    return MultimodalTransformer(
        TrunkConfig(dim=DIM, num_layers=LAYERS, num_heads=HEADS), vocabulary, dtype=torch.bfloat16
    )


def multiplied_weights(model: MultimodalTransformer) -> int:
    """Number of weights that every token is multiplied with: all but the embedding tables, which are look-ups."""
    return sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.tables.parameters())


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY + 8, n_positions=1024, n_embd=DIM, n_layer=LAYERS, n_head=HEADS,
                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None)
    )  # fmt: skip


def train_plait(threads: int, steps: int) -> Callable[[], float]:
    from plait.data.pack import collate
    from plait.data.row import Ids
    from plait.data.sequence import Encoder
    from plait.recipes.recipe import Recipe
    from plait.train import optim, trainer
    from plait.train.optim import OptimConfig
    from plait.train.state import Training

    torch.set_num_threads(threads)
    model = plait_model()
    encoder = Encoder(model.vocabulary)
    _, ids = text()
    offset = model.vocabulary.offsets["text"]
    rows = [
        encoder.lay_out([Ids((ids[at : at + LENGTH] + offset).tolist(), True)], np.random.default_rng(0))
        for at in range(0, SEQUENCES * LENGTH, LENGTH)
    ]
    batch = collate([[row] for row in rows], LENGTH, model.vocabulary)
    recipe = Recipe(name="benchmark", data="", modalities={"text": {}}, optim=OptimConfig(name="adamw", lr=1e-4))
    training = Training(model, optim.build(recipe.optim, model), None)  # type: ignore[arg-type]

    def work() -> None:
        for _ in range(steps):
            trainer.one_step(training, [batch], recipe)

    return lambda: steps * SEQUENCES * LENGTH / seconds(work)


def train_gpt2(threads: int, steps: int) -> Callable[[], float]:
    torch.set_num_threads(threads)
    model = gpt2().train()
    _, ids = text()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)
    batch = torch.from_numpy(ids[: SEQUENCES * LENGTH].reshape(SEQUENCES, LENGTH))

    def work() -> None:
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return lambda: steps * SEQUENCES * LENGTH / seconds(work)


def gemm(threads: int) -> Callable[[], float]:
    """The processor's best rate in torch, measured between the contenders, since its clock varies over time."""
    torch.set_num_threads(threads)
    return lambda: gemm_rate(torch.bfloat16)


def decode_plait(threads: int, size: int, new: int) -> Callable[[], float]:
    from plait.contract import Block, Message, Part, Segment
    from plait.infer.engine import Engine
    from plait.infer.request import Request

    torch.set_num_threads(threads)
    tokenizer, ids = text()
    words = tokenizer.write(Segment("text", (Block((), prompt(ids)),)))
    engine = Engine(plait_model().for_inference())
    request = Request((Message("user", (Part("text", words.value),)),), to="text", max_tokens=new, guidance=1.0)

    def run() -> float:
        token_counts: list[int] = []

        def work() -> None:
            for answer in engine.generate([request] * size):
                token_counts.append(sum(len(block.tokens) for segment in answer.segments for block in segment.blocks))

        duration = seconds(work)  # before token_counts is read
        return sum(token_counts) / duration

    return run


def decode_gpt2(threads: int, size: int, new: int, half: bool) -> Callable[[], float]:
    torch.set_num_threads(threads)
    model = gpt2().eval()
    if half:
        model = model.to(torch.bfloat16)
    prompts = torch.from_numpy(np.stack([prompt(text()[1])] * size))

    def work() -> None:
        with torch.inference_mode():
            model.generate(
                prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new, min_new_tokens=new, do_sample=False,
                pad_token_id=0,
            )  # fmt: skip

    return lambda: size * new / seconds(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4, help="training steps a round")
    parser.add_argument("--new", type=int, default=128, help="tokens decoded a request")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ours, theirs = plait_model(), gpt2()
    sizes = {"plait": sum(p.numel() for p in ours.parameters()), "gpt2": sum(p.numel() for p in theirs.parameters())}
    per_token = {  # GPT-2's tied embedding counts once, as output
        "plait": multiplied_weights(ours),
        "gpt2": sizes["gpt2"] - theirs.transformer.wpe.weight.numel(),
    }
    flops = {name: 6 * count + 12 * LAYERS * DIM * LENGTH for name, count in per_token.items()}
    rates = contest(
        {
            "plait": Worker(train_plait, arguments.threads, arguments.steps),
            "gpt2": Worker(train_gpt2, arguments.threads, arguments.steps),
            "gpt2, memory kept": Worker(train_gpt2, arguments.threads, arguments.steps, environment=KEEP_MEMORY),
            "GEMM": Worker(gemm, arguments.threads),
        },
        arguments.rounds,
    )
    gemm_flops = rates.pop("GEMM")
    rows = [
        (
            name,
            f"{sizes[name.split(',')[0]] / 1e6:.2f} M",
            f"{rate:.0f}",
            f"{rate * flops[name.split(',')[0]] / gemm_flops:.2f}",
        )
        for name, rate in rates.items()
    ]
    table(f"training, {SEQUENCES} x {LENGTH}, bfloat16, AdamW; GEMM {gemm_flops / 1e9:.0f} GFLOP/s", rows,
          ("model", "parameters", "tokens/s", "MFU"))  # fmt: skip
    facts: dict[str, Any] = {
        "gemm_gflops": round(gemm_flops / 1e9),
        "train": {name: round(rate) for name, rate in rates.items()},
    }
    facts["train_ratio"] = round(rates["plait"] / rates["gpt2"], 3)
    facts["mfu"] = round(rates["plait"] * flops["plait"] / gemm_flops, 3)
    for size in (1, 8):
        decoders = {"plait": Worker(decode_plait, arguments.threads, size, arguments.new)}
        for half in (False, True):
            decoders[f"gpt2 {'bfloat16' if half else 'float32'}"] = Worker(
                decode_gpt2, arguments.threads, size, arguments.new, half
            )
        decoding_rates = contest(decoders, arguments.rounds)
        table(
            f"decoding, batch {size}",
            [(name, f"{value:.0f}") for name, value in decoding_rates.items()],
            ("model", "tokens/s"),
        )
        best = max(value for name, value in decoding_rates.items() if name != "plait")
        facts[f"decode_{size}"] = {name: round(value) for name, value in decoding_rates.items()}
        facts[f"decode_{size}_ratio"] = round(decoding_rates["plait"] / best, 3)
    finish("text_against_gpt2", facts)


if __name__ == "__main__":
    main()
