"""A checkpoint as a layer of Keras, in a process of its own: Keras chooses its backend when it is imported."""

import os
import subprocess
import sys
from importlib.util import find_spec
from textwrap import dedent

import pytest
import torch
from worlds import TINY, World, templated

from plait.train import checkpoint

pytestmark = pytest.mark.skipif(find_spec("keras") is None, reason="needs keras")  # importing it would choose a backend

SPLIT = {"adapters": {"image_given": 4}, "split": {"audio_given": 16}}
SCRIPT = """
import sys
import numpy as np
import keras
from plait.api import load
from plait.contract import Message, Part
from plait.data.pack import collate
from plait.data.row import lay_out_clean
from plait.data.sequence import Encoder
from plait.contract import Sample
from plait.portable.keras_layer import Medium

run, folder = sys.argv[1:]
network = load(run, dtype="float32").network
modalities, encoder = network.vocabulary.modalities, Encoder(network.vocabulary)
for name, modality in modalities.items():
    part = modality.example(1)
    value = part.value if name != "audio" else (part.value[0][:2000], part.value[1])
    part = Part(name, value)
    layer = Medium.of(run, name, like=value, pooled=False)
    tokens = layer.tokens(value)
    hidden = layer(np.stack([tokens, tokens])).detach().numpy()
    row = lay_out_clean(encoder.prompt(Sample((Message("user", (Part(name, value),)),)))[:-1])
    expected = network.hidden(collate([[row]], len(row), network.vocabulary)).detach().numpy()[-len(tokens):]
    assert hidden.shape == (2, *expected.shape), hidden.shape
    assert np.abs(hidden[1] - expected).max() < 1e-4, name

picture = modalities["image"].example(1).value
picture.save(f"{folder}/picture.png")
layer = Medium.of(run, "image", like=f"{folder}/picture.png")
assert np.array_equal(layer.tokens(f"{folder}/picture.png"), layer.tokens(picture))
tokens = layer.tokens(picture)
model = keras.Sequential([keras.Input(tokens.shape), layer, keras.layers.Dense(3)])
assert model.output_shape == (None, 3)
batch = np.random.default_rng(0).normal(size=(16, *tokens.shape)).astype(np.float32)
labels = np.arange(16) % 3
model.compile(optimizer=keras.optimizers.Adam(1e-2), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
before = model.evaluate(batch, labels, verbose=0)
weight = layer.given.module.trunk.layers[0].attention.out.weight.detach().clone()
model.fit(batch, labels, epochs=20, verbose=0)
assert model.evaluate(batch, labels, verbose=0) < before / 2
assert (layer.given.module.trunk.layers[0].attention.out.weight != weight).any(), "the trunk learns, too"
model.save(f"{folder}/model.keras")
again = keras.saving.load_model(f"{folder}/model.keras")
assert np.allclose(again.predict(batch, verbose=0), model.predict(batch, verbose=0), atol=1e-6)
assert again.layers[0].get_config() == layer.get_config()
np.save(f"{folder}/batch.npy", batch)
np.save(f"{folder}/answers.npy", model.predict(batch, verbose=0))
try:
    layer.tokens(modalities["image"].example(3).value)
except Exception as error:
    print(error)
try:
    layer = Medium.of(run, "audio", like=(np.zeros(2000, np.float32) + 0.1, 16000))
    layer.tokens((np.zeros(16000, np.float32) + 0.1, 16000))
except Exception as error:
    print(error)
try:
    Medium.of(run, "smell", like=picture)
except Exception as error:
    print(error)
"""


LATER = """
import sys
import numpy as np
import keras
import plait.portable.keras_layer

folder = sys.argv[1]
model = keras.saving.load_model(f"{folder}/model.keras")
answers = model.predict(np.load(f"{folder}/batch.npy"), verbose=0)
assert np.allclose(answers, np.load(f"{folder}/answers.npy"), atol=1e-6)
"""


def python(script, *arguments, backend="torch"):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", dedent(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("experts", [{}, SPLIT], ids=["plain", "experts"])
def test_it_gives_what_the_trunk_gives_learns_and_is_saved(tmp_path, experts):
    world = World()
    model = world.model(TINY.model_copy(update=experts))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    run = checkpoint.save(tmp_path / "run", model, model.state_dict(), {"pack": {"length": 64}})
    done = python(SCRIPT, run, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    later = python(LATER, tmp_path)
    assert later.returncode == 0, later.stderr[-3000:]
    assert "expected <open:image>" in done.stdout
    assert "blocks; expected one block: cut it" in done.stdout
    assert "got modality 'smell'; expected one of" in done.stdout


def test_another_backend_is_refused():
    done = python("import plait.portable.keras_layer", backend="tensorflow")
    assert "KERAS_BACKEND=torch before keras is imported; got" in done.stderr


def test_a_model_with_a_chat_template_is_refused(tmp_path):
    model = templated(World()).model()
    run = checkpoint.save(tmp_path / "run", model, model.state_dict(), {"pack": {"length": 64}})
    done = python(f"from plait.portable.keras_layer import Medium; Medium.of({str(run)!r}, 'text', like='yes')")
    assert "lays conversations out by a chat template" in done.stderr
