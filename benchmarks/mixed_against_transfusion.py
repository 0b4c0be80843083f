"""Text and images in one sequence, against transfusion-pytorch of equal width and depth: training, and drawing one image.

    python -m pip install transfusion-pytorch
    python benchmarks/mixed_against_transfusion.py

Both have the width, depth, vocabulary and sequences of the constants below, AdamW, and run in bfloat16 over float32 weights
and in float32. Tokens are counted once; plait also computes a clean copy of every image that text follows, which
transfusion-pytorch does not need. Drawing: an image after BEFORE text tokens with guidance 3; transfusion-pytorch with its
default of 16 midpoint steps, plait with its default of 12 Euler steps, and with 32 for as many evaluations of the model.
Every contender runs in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from side_by_side import Worker, contest, finish, seconds, table

if TYPE_CHECKING:
    from plait.model.multimodal import MultimodalTransformer

VOCABULARY, DIM, LAYERS, HEADS = 4096, 256, 6, 4
BEFORE, IMAGE, AFTER, SEQUENCES = 96, 64, 32, 8
TOKENS = SEQUENCES * (BEFORE + IMAGE + AFTER)


def plait_model(dtype: torch.dtype) -> MultimodalTransformer:
    from text_against_gpt2 import text

    from plait.contract import Modality
    from plait.data.vocabulary import Vocabulary
    from plait.modalities.image import Image
    from plait.model.multimodal import MultimodalTransformer
    from plait.model.transformer import TrunkConfig
    from plait.runtime import native

    native.configure()
    modalities: dict[str, Modality] = {"text": text()[0], "image": Image(patch=4, channels=3, max_patches=64)}
    vocabulary = Vocabulary(modalities)
    return MultimodalTransformer(TrunkConfig(dim=DIM, num_layers=LAYERS, num_heads=HEADS), vocabulary, dtype=dtype)


def train_plait(threads: int, steps: int, bfloat16: bool) -> Callable[[], float]:
    from PIL import Image as PILImage

    from plait.contract import Part
    from plait.data.pack import collate
    from plait.data.row import Ids
    from plait.data.sequence import Encoder
    from plait.recipes.recipe import Recipe
    from plait.train import optim, trainer
    from plait.train.optim import OptimConfig
    from plait.train.state import Training

    torch.set_num_threads(threads)
    model = plait_model(torch.bfloat16 if bfloat16 else torch.float32)
    encoder = Encoder(model.vocabulary)
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(SEQUENCES):
        picture = Part("image", PILImage.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)))
        before, after = (
            Ids((rng.integers(0, 4000, n) + model.vocabulary.offsets["text"]).tolist(), True) for n in (BEFORE, AFTER)
        )
        contents.append([before, *encoder._segment(encoder.encode_part(picture), True), after])
    longest = max(len(encoder.lay_out(content, rng)) for content in contents)
    recipe = Recipe(name="benchmark", data="", modalities={"text": {}}, optim=OptimConfig(name="adamw", lr=1e-4))
    training = Training(model, optim.build(recipe.optim, model), None)  # type: ignore[arg-type]

    def work() -> None:
        for _ in range(steps):
            rows = [[encoder.lay_out(content, rng)] for content in contents]  # new noise every step, as in training
            trainer.one_step(training, [collate(rows, longest, model.vocabulary)], recipe)

    return lambda: steps * TOKENS / seconds(work)


def transfusion() -> Any:
    from transfusion_pytorch import Transfusion

    torch.manual_seed(0)
    return Transfusion(
        num_text_tokens=VOCABULARY, dim_latent=48, modality_default_shape=(IMAGE,), modality_num_dim=1,
        transformer={"dim": DIM, "depth": LAYERS, "dim_head": DIM // HEADS, "heads": HEADS},
    )  # fmt: skip


def train_transfusion(threads: int, steps: int, bfloat16: bool) -> Callable[[], float]:
    torch.set_num_threads(threads)
    model = transfusion()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batch = [
        [torch.randint(0, VOCABULARY, (BEFORE,)), torch.randn(IMAGE, 48), torch.randint(0, VOCABULARY, (AFTER,))]
        for _ in range(SEQUENCES)
    ]

    def work() -> None:
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = model(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return lambda: steps * TOKENS / seconds(work)


def draw_plait(threads: int, steps: int, bfloat16: bool) -> Callable[[], float]:
    from text_against_gpt2 import text

    from plait.contract import Block, Message, Part, Segment
    from plait.infer.engine import Engine
    from plait.infer.request import Request

    torch.set_num_threads(threads)
    tokenizer, ids = text()
    words = tokenizer.write(Segment("text", (Block((), ids[:BEFORE]),))).value
    engine = Engine(plait_model(torch.bfloat16 if bfloat16 else torch.float32).for_inference())
    request = Request(
        (Message("user", (Part("text", words),)),), to="image", steps=steps, guidance=3.0,
        options={"image": {"size": (32, 32)}},
    )  # fmt: skip
    return lambda: seconds(lambda: engine.generate([request]))


def draw_transfusion(threads: int, bfloat16: bool) -> Callable[[], float]:
    torch.set_num_threads(threads)
    model = transfusion().eval()
    prompt = torch.randint(0, VOCABULARY, (BEFORE,))

    def work() -> None:
        with (
            open(os.devnull, "w") as quiet,
            contextlib.redirect_stderr(quiet),
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=bfloat16),
        ):
            model.sample(
                prompt=prompt, force_modality_at_start=(0, (IMAGE,)), fixed_modality_shape=(IMAGE,), cfg_scale=3.0,
                modality_steps=16, max_length=IMAGE, cache_kv=True,
            )  # fmt: skip

    return lambda: seconds(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="training steps a round")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    facts: dict[str, Any] = {}
    for bfloat16 in (True, False):
        dtype = "bfloat16" if bfloat16 else "float32"
        rates = contest(
            {
                "plait": Worker(train_plait, arguments.threads, arguments.steps, bfloat16),
                "transfusion-pytorch": Worker(train_transfusion, arguments.threads, arguments.steps, bfloat16),
            },
            arguments.rounds,
        )
        table(f"training, {dtype}", [(n, f"{r:.0f}") for n, r in rates.items()], ("model", "tokens/s"))
        facts[f"train_{dtype}"] = {name: round(rate) for name, rate in rates.items()}
        facts[f"train_{dtype}_ratio"] = round(rates["plait"] / rates["transfusion-pytorch"], 2)
        times = contest(
            {
                "plait": Worker(draw_plait, arguments.threads, 12, bfloat16),
                "plait, 32 steps": Worker(draw_plait, arguments.threads, 32, bfloat16),
                "transfusion-pytorch": Worker(draw_transfusion, arguments.threads, bfloat16),
            },
            arguments.rounds,
        )
        table(f"one image, {dtype}", [(n, f"{s:.3f}") for n, s in times.items()], ("model", "seconds"))
        facts[f"image_{dtype}"] = {name: round(value, 3) for name, value in times.items()}
        facts[f"image_{dtype}_ratio"] = round(times["transfusion-pytorch"] / times["plait"], 2)
        facts[f"image_{dtype}_ratio_equal_evaluations"] = round(
            times["transfusion-pytorch"] / times["plait, 32 steps"], 2
        )
    finish("mixed_against_transfusion", facts)


if __name__ == "__main__":
    main()
