"""Run inside a copy of the package that holds the toy modality.

one_of_each.py NAME         one training step and one generation with it
one_of_each.py NAME train   rows of it in data/, trained on for one step into run/, and evaluated
one_of_each.py NAME eval    run/ evaluated again
"""

import json
import sys
from pathlib import Path

import torch

from plait import api, registry
from plait.contract import Message, Part, Sample
from plait.data.loader import Loader, PackConfig
from plait.data.rows import dump_row
from plait.data.sequence import Encoder, FlowConfig
from plait.data.vocabulary import Vocabulary
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.recipes.recipe import Recipe
from plait.train import optim, probe, trainer
from plait.train.state import Training

ROWS = 24  # of each task: enough that what is written is compared with the training set


def question_and_answer(question, answer, task=""):
    return Sample((Message("user", question), Message("assistant", (answer,))), task)


def one_step(name):
    """The modality is trained and generates."""
    modalities = registry.build_all([name, *(other for other in registry.available() if other == "text")])
    vocabulary = Vocabulary(modalities)
    modality = modalities[name]
    samples = [
        question_and_answer((Part("text", "draw"), modality.example(seed)), modality.example(seed + 1))
        for seed in range(8)
    ]
    recipe = Recipe(name="toy", data="", modalities={}, steps=2, dtype="float32")
    model = MultimodalTransformer(TrunkConfig(dim=32, num_layers=2, num_heads=2), vocabulary)
    loader = Loader(samples, {}, Encoder(vocabulary, FlowConfig(null_prob=0.0)), PackConfig(length=64, sequences=2), 0)
    training = Training(model, optim.build(recipe.optim, model), loader)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = trainer.one_step(training, loader.next_step(), recipe)
    assert losses[name] > 0, losses
    moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert any(key.startswith(f"embedders.{name}.") for key in moved), "the new modality's embedding did not move"
    request = Request((Message("user", (Part("text", "draw"),)),), to=name, steps=3, max_tokens=12)
    answer = Engine(model).generate([request])[0]
    assert answer.message.parts[0].type == name, answer
    return losses


def train(name):
    """Rows that read the modality and rows that write it, in files as a user has them; one step of training on them."""
    modality, data = registry.build(name), Path("data")
    data.mkdir()
    samples = []
    for number in range(ROWS):
        part = modality.example(number)
        (data / f"{number}.json").write_text(json.dumps(part.value))
        stored = Part(name, f"{number}.json")
        samples.append(question_and_answer((stored, Part("text", "Which?")), Part("text", f"number {number}"), "see"))
        samples.append(question_and_answer((Part("text", f"Draw {number}."),), stored, "draw"))
    (data / "train.jsonl").write_text("".join(f"{dump_row(sample)}\n" for sample in samples))
    probe.WARM_SECONDS = 0.0  # the steps that are timed beforehand
    small = ["trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", "dtype=float32", "pack.length=192"]
    sampling = ["sampling.steps=2", "sampling.max_tokens=12"]
    api.train_on(data, *small, *sampling, "pack.sequences=2", "steps=1", out="run")


def evaluate():
    api.evaluate("run", json="report.json", html="report.html")


if __name__ == "__main__":
    torch.set_num_threads(1)
    modality_name, *verbs = sys.argv[1:]
    if not verbs:
        print("ok", one_step(modality_name))
    if "train" in verbs:
        train(modality_name)
    if verbs:
        evaluate()
        print("ok")
