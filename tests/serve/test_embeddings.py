"""Vectors over HTTP: as OpenAI's client asks for them, and of what the model's report measures alone."""

import base64
import io
import json

import httpx2 as httpx
import numpy as np
import openai
import pytest
from conftest import RECIPE, serving, small_model
from PIL import Image
from worlds import World

from plait.api import Model
from plait.contract import Part
from plait.infer.embedding import Embedder
from plait.model.weights import Base
from plait.train.bases import BASES


def measured_model(folder, *cells):
    """A model that stands on something, with a report of these cells beside it."""
    network = World().model()
    network.base = Base(next(iter(BASES)), "0" * 64, frozenset())
    model = Model(network, RECIPE)
    model.folder = folder
    metric = "own answer of 100 nearest, by embeddings: rate"
    report = {"cells": [{"cell": cell, "task": "t", "split": "test", "metric": metric, "value": 0.5} for cell in cells]}
    (folder / "report.json").write_text(json.dumps(report))
    return model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    models = {
        "words": measured_model(one, "text->text", "image->text"),
        "none": measured_model(two),
        "tiny": small_model(),
    }
    with serving(models) as (url, app):
        yield url, app


@pytest.fixture(scope="module")
def http(place):
    with httpx.Client(base_url=place[0], timeout=60) as made:
        yield made


def ask(http, **body):
    return http.post("/v1/embeddings", json={"model": "words", **body})


def test_the_official_client_gets_vectors(place):
    with openai.OpenAI(base_url=f"{place[0]}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(
            model="words", input=["red apple", "blue whale"]
        )  # in base64, which it decodes
        floats = client.embeddings.create(model="words", input=["red apple", "blue whale"], encoding_format="float")
    vectors = np.array([entry.embedding for entry in answer.data], np.float32)
    np.testing.assert_array_equal(vectors, np.array([entry.embedding for entry in floats.data], np.float32))
    model = place[1].state.plait.served["words"].model
    expected = Embedder(model.network, model.engine.encoder)([Part("text", "red apple"), Part("text", "blue whale")])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert answer.usage.prompt_tokens == len("red apple") + len("blue whale")  # bytes
    assert [entry.index for entry in answer.data] == [0, 1]


def test_ids_are_words(place, http):
    words = ask(http, input="abc").json()
    vocabulary = place[1].state.plait.served["words"].model.network.vocabulary
    ids = vocabulary.modalities["text"].read(Part("text", "abc")).blocks[0].tokens.tolist()
    for given in (ids, [ids]):
        answer = ask(http, input=given)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"] == words["data"]
    assert len(ask(http, input=["abc"] * 130).json()["data"]) == 130


def test_base64_is_little_endian_float32(http):
    text = ask(http, input="abc", encoding_format="base64").json()["data"][0]["embedding"]
    floats = ask(http, input="abc").json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4"), np.array(floats, np.float32))


def test_dimensions_are_all_or_none(http):
    width = len(ask(http, input="abc").json()["data"][0]["embedding"])
    assert ask(http, input="abc", dimensions=width).status_code == 200
    assert ask(http, input="abc", dimensions=2).json()["error"]["param"] == "dimensions"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": [99_999]}, "ids of the model's own tokenizer"),
        ({"input": "abc", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "abc", "model": "none"}, "report measures no retrieval by text; expected one of: none"),
        ({"input": "abc", "model": "tiny"}, "report measures no retrieval"),
        ({"input": "a" * 300_000}, "characters"),
        ({"input": [{"type": "text", "text": "a" * 150_000}] * 2}, "characters"),
        ({"input": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}, "audio"),
    ],
)
def test_what_cannot_be_embedded_is_refused(http, body, said):
    answer = ask(http, **body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_a_medium_that_is_measured_and_that_nothing_was_aligned_for(http):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    answer = ask(http, input=[{"type": "image_url", "image_url": {"url": url}}])
    assert answer.status_code == 400
    assert "no embeddings of image" in answer.json()["error"]["message"]
