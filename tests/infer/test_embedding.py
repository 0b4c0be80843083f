"""Words, pictures and sounds in one space."""

import numpy as np
import pytest
import torch
from PIL import Image
from worlds import PixelReader

from plait import registry
from plait.api import Model
from plait.contract import Message, Part, Sample
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError
from plait.eval.metrics import Bench, score
from plait.eval.suites import Outcome
from plait.infer.embedding import Embedder
from plait.modalities.image import readers
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig
from plait.model.weights import Base
from plait.tasks.smol import TASKS


class Eye(PixelReader):
    """The picture's mean colour."""

    name, width = "mean-colour", 3
    tokens, words = 1, 2

    def features(self, pixels):
        return pixels.mean(axis=(0, 1))[None]


def words(value):
    return Part("text", value)


def picture(*colour):
    return Part("image", Image.new("RGB", (2, 2), colour))


@pytest.fixture
def model(monkeypatch):
    """Bytes are words; it was asked for names, and stands on something."""
    monkeypatch.setitem(readers.READERS, Eye.name, Eye())
    modalities = registry.build_all({"text": {}, "image": {"patch": 2, "max_patches": 8, "reader": Eye.name}})
    model = MultimodalTransformer(TrunkConfig(dim=64, num_layers=1, num_heads=2), Vocabulary(modalities))
    model.base = Base("bytes", "0" * 64, frozenset())
    model.ask({Eye.name: ["name", "colour"]}, seed=0)
    model.remember({Eye.name: {"name": ["red", "blue", "green"], "colour": ["red"]}})
    model.unlearned.clear()
    return Model(model, {"recipe": {"pack": {"length": 128}}})


@pytest.fixture
def embedder(model):
    return Embedder(model.network, model.engine.encoder)


def test_vectors_are_of_length_one_and_alike_for_the_same_words(embedder):
    vectors = embedder([words("red apple"), words("apple red"), words("0123456789"), picture(200, 0, 0)])
    assert vectors.shape == (4, embedder.width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.99  # the order of words is not looked at
    assert likeness[0, 2] < 0.5
    assert embedder.kinds == ["image", "text"]


def test_a_picture_lies_where_it_points(model, embedder):
    (vector,) = embedder([picture(200, 0, 0)])
    features = torch.tensor(model.engine.encoder.features(picture(200, 0, 0), None))
    with torch.no_grad():
        expected = model.network.pointing(Eye.name, "name", features)[0]
    np.testing.assert_allclose(vector, torch.nn.functional.normalize(expected, dim=-1).numpy(), atol=1e-3)


def test_a_model_without_a_language_model_has_none(model):
    model.network.base = None
    with pytest.raises(ConfigError, match="stands on no language model"):
        Embedder(model.network, model.engine.encoder)


def test_what_was_not_aligned_has_none(model):
    model.network.unlearned.update(f"askers.{Eye.name}/{question}" for question in ("name", "colour"))
    embedder = Embedder(model.network, model.engine.encoder)
    assert embedder.kinds == ["text"]
    with pytest.raises(ConfigError, match="no embeddings of image; expected one of text"):
        embedder([picture(1, 2, 3)])
    with pytest.raises(ConfigError, match="no embeddings of audio"):
        embedder([Part("audio", (np.zeros(100, np.float32), 16_000))])


def test_no_words_have_a_vector_too(embedder):
    assert np.isfinite(embedder([words("")])).all()


def outcome(task, pairs):
    samples = [Sample((Message("user", asked), Message("assistant", (answer,))), task.name) for asked, answer in pairs]
    return Outcome(task, "test", samples, [None] * len(samples), 0.0)


def task_named(name):
    (task,) = [task for task in TASKS if task.name == name]
    return task.measured() if hasattr(task, "measured") else task


def test_retrieval_is_measured(model):
    bench = Bench(model.engine)
    name = task_named("name")
    pairs = [((picture(*colour), words("What is it?")), words(said)) for colour, said in
             (((250, 0, 0), "red"), ((0, 250, 0), "green"), ((0, 0, 250), "blue"), ((0, 0, 240), "blue"))]  # fmt: skip
    (cell,) = score("embedded")(outcome(name, pairs), bench)
    assert cell["metric"] == "own answer of 3 nearest, by embeddings: rate"
    assert (cell["n"], cell["baseline"], cell["cell"]) == (3, 1 / 3, "image->text")
    assert 0 <= cell["value"] <= 1
    meanings = [
        ((picture(1, 1, 1),), words(said)) for said in ("aaaa: aaaa", "bbbb: b b b", "cccc: c cc", "no meaning")
    ]
    (cell,) = score("defined")(outcome(name, meanings), bench)
    assert (cell["value"], cell["n"], cell["cell"]) == (1.0, 2, "text->text")


def test_a_model_without_embeddings_has_no_figure_of_them(model):
    model.network.base = None
    pairs = [((picture(9, 9, 9),), words("red")), ((picture(1, 9, 9),), words("blue"))]
    assert score("embedded")(outcome(task_named("name"), pairs), Bench(model.engine)) == []
    assert score("defined")(outcome(task_named("name"), pairs), Bench(model.engine)) == []
