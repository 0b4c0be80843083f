"""Run inside a copy of the package that holds the toy modality: one training step and one generation with it."""

import sys

import torch

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.loader import Loader, PackConfig
from plait.data.sequence import Encoder, FlowConfig
from plait.data.vocabulary import Vocabulary
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.recipes.recipe import Recipe
from plait.train import optim, trainer
from plait.train.state import Training

torch.set_num_threads(1)
name = sys.argv[1]
modalities = registry.build_all([name, *(other for other in registry.available() if other == "text")])
vocabulary = Vocabulary(modalities)
made = modalities[name]
samples = [
    Sample(
        (Message("user", (Part("text", "draw"), made.example(seed))), Message("assistant", (made.example(seed + 1),)))
    )
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
answer = Engine(model).generate(
    [Request((Message("user", (Part("text", "draw"),)),), to=name, steps=3, max_tokens=12)]
)[0]
assert answer.message.parts[0].type == name, answer
print("ok", losses)
