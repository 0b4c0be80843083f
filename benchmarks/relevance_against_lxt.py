"""Our relevance and that of lxt (AttnLRP's authors) on the same language model: a number a token, which should be the same.

    python -m pip install --no-deps lxt tabulate
    python benchmarks/relevance_against_lxt.py [FILE.gguf]

SmolLM2-135M-Instruct in float32, in our trunk and in transformers' Llama with lxt's rules; relevance of the likeliest next word's logit.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch
from llama_cpp_agreement import default_file
from side_by_side import finish, table

QUESTIONS = ("What is the capital of France?", "Name three colours of the rainbow.", "How many legs has a spider?")


def lxt_rules() -> dict[Any, Any]:
    """What lxt puts in the place of what, of Llama. Its package imports every family at once, of which today's transformers lacks parts, so
    that only this one is imported."""
    spec = importlib.util.find_spec("lxt")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    [root] = spec.submodule_search_locations
    for name in ("lxt.efficient", "lxt.efficient.models"):
        package = types.ModuleType(name)
        package.__path__ = [f"{root}/{'/'.join(name.split('.')[1:])}"]
        sys.modules[name] = package
    rules: dict[Any, Any] = importlib.import_module("lxt.efficient.models.llama").attnLRP
    return rules


def patched(folder: Path) -> Any:
    """transformers' model of a folder, under lxt's rules."""
    modeling: Any = importlib.import_module("transformers.models.llama.modeling_llama")
    for module, patch in lxt_rules().items():
        if module is not modeling:
            patch(module)
    patches: Any = importlib.import_module("lxt.efficient.patches")
    modeling.eager_attention_forward = patches.wrap_attention_forward(modeling.eager_attention_forward)
    model = modeling.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return model.requires_grad_(False)


def theirs(model: Any, ids: list[int]) -> tuple[torch.Tensor, int]:
    """[n] relevance of each id for the likeliest next one, by lxt, and that one."""
    vectors = model.get_input_embeddings()(torch.tensor([ids])).requires_grad_()
    logits = model(inputs_embeds=vectors, use_cache=False).logits[0, -1]
    logits.max().backward()
    return (vectors.grad * vectors).sum(-1)[0].detach(), int(logits.argmax())


def ours(checkpoint: Path, question: str, answer: int) -> tuple[torch.Tensor, list[int]]:
    """[n] relevance by our rules, and the ids."""
    from plait import api
    from plait.contract import Block, Message, Part, Segment
    from plait.explain.scorer import Scorer, Target
    from plait.explain.tracing import Tracer
    from plait.infer.engine import Engine
    from plait.train import checkpoint as checkpoints

    network = checkpoints.load(api.load(checkpoint).folder or checkpoint, torch.float32)[0].eval()
    words = network.vocabulary.modalities["text"]
    offset = network.vocabulary.offsets["text"]
    text = str(words.write(Segment("text", (Block((), torch.tensor([answer]).numpy()),))).value)
    scorer = Scorer(
        Engine(network),
        (Message("user", (Part("text", question),)),),
        Message("assistant", (Part("text", text),)),
        Target(0, 0, 1),
    )
    tracer = Tracer(network, scorer)
    found = tracer.run(scorer.row, relevance=True)
    asking = int(found.asking[0])
    relevance = (found.gradient * found.embedded).sum(-1)[: asking + 1]
    return relevance, [int(number) - offset for number in scorer.row.ids[: asking + 1]]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    options = parser.parse_args()
    from plait import api

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, folder = Path(scratch) / "imported", Path(scratch) / "hub"
        api.import_model(str(options.file or default_file()), checkpoint)
        api.export(checkpoint, folder, to="huggingface")
        model = patched(folder)
        for question in QUESTIONS:
            _, ids = ours(checkpoint, question, 0)
            reference, chosen = theirs(model, ids)
            relevance, _ = ours(checkpoint, question, chosen)
            apart = float((relevance - reference).abs().max() / reference.abs().max())
            alike = float(torch.corrcoef(torch.stack([relevance, reference]))[0, 1])
            rows.append((question, str(len(ids)), f"{apart:.1e}", f"{alike:.6f}"))
    table("relevance", rows, ("question", "tokens", "largest difference", "correlation"))
    finish("relevance_against_lxt", {row[0]: float(row[2]) for row in rows})


if __name__ == "__main__":
    main()
