"""Where things are: asked label by label, answered in pixels, with what was measured."""

import base64
import json

import httpx2 as httpx
import pytest
from conftest import RECIPE, serving, small_model
from worlds import World

from plait.api import Model
from plait.contract import Message, Part
from plait.infer.engine import Engine


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    cell = {"cell": "image->text", "task": "detect", "split": "test", "metric": "F1 of boxes", "value": 0.25, "n": 40}
    (folder / "report.json").write_text(json.dumps({"cells": [cell, {**cell, "metric": "AP"}]}))
    model = Model(World().model(), RECIPE)
    model.folder = folder
    with serving({"boxes": model, "tiny": small_model()}) as (url, _):
        yield url


@pytest.fixture
def http(place):
    with httpx.Client(base_url=place, timeout=60) as made:
        yield made


def url_of(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def test_boxes_are_in_pixels_of_the_picture(http, png, monkeypatch):
    asked = []

    def answering(self, answer):
        question = str(answer.asked[-1].parts[-1].value)
        asked.append(question)
        words = "[0, 0, 500, 1000]; [500, 250, 1000, 500]" if "dog" in question else "nothing like that"
        return answer.__class__(Message("assistant", (Part("text", words),)), [], usage=answer.usage)

    monkeypatch.setattr(Engine, "with_parts", answering)
    answer = http.post("/v1/detections", json={"model": "boxes", "image": url_of(png), "labels": ["dog", "cat"]}).json()
    assert answer["size"] == [12, 8]
    assert answer["data"] == [{"label": "dog", "box": [0, 0, 6, 8]}, {"label": "dog", "box": [6, 2, 12, 4]}]
    assert [figure["value"] for figure in answer["measured"]] == [0.25]
    assert answer["usage"]["prompt_tokens"] > 0
    assert sorted(asked) == ["Find every cat.", "Find every dog."]


def test_what_random_weights_say_is_no_box(http, png):
    body = {"model": "boxes", "image": url_of(png), "labels": ["dog"], "max_tokens": 4}
    answer = http.post("/v1/detections", json=body)
    assert answer.status_code == 200
    assert answer.json()["data"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "tiny"}, "measures no boxes"),
        ({"labels": []}, "labels"),
        ({"labels": [""]}, "labels"),
        ({"labels": ["x"] * 17}, "labels"),
        ({"image": "https://example.com/a.png"}, "fetches nothing"),
        ({"image": "data:image/png;base64,AAAA"}, "image part"),
        ({"colour": "red"}, "unsupported parameter: colour"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(http, png, change, said):
    answer = http.post("/v1/detections", json={"model": "boxes", "image": url_of(png), "labels": ["dog"], **change})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
