"""Pictures and sound that leave the server say that a model made them."""

import base64
import io
import json

import httpx2 as httpx
import numpy as np
import pytest
import soundfile
from conftest import serving, small_model
from PIL import Image

from plait import registry
from plait.contract import Part

DRAW = {"model": "tiny", "messages": [{"role": "user", "content": "seven"}], "modalities": ["image"], "size": "12x8"}
SAY = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "seven"}],
    "modalities": ["audio"],
    "seed": 1,
    "max_tokens": 40,
}


def provenance(kind, data):
    return registry.provenance(registry.transfers(kind).decode(data))


def picture_of(answer):
    (part,) = answer["choices"][0]["message"]["content"]
    return base64.b64decode(part["image_url"]["url"].partition(",")[2])


def test_pictures_say_who_made_them(http):
    drawn = picture_of(http.post("/v1/chat/completions", json=DRAW).json())
    by_images = http.post("/v1/images/generations", json={"model": "tiny", "prompt": "seven", "size": "12x8"}).json()
    for data in (drawn, base64.b64decode(by_images["data"][0]["b64_json"])):
        assert provenance("image", data).declared == "Plait"


def test_sound_is_marked_in_a_stream_as_at_once(http):
    whole = http.post("/v1/chat/completions", json=SAY | {"audio": {"voice": "alloy", "format": "pcm16"}}).json()
    samples = base64.b64decode(whole["choices"][0]["message"]["audio"]["data"])
    with http.stream(
        "POST", "/v1/chat/completions", json=SAY | {"stream": True, "audio": {"voice": "alloy", "format": "pcm16"}}
    ) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    streamed = b"".join(base64.b64decode(delta["audio"]["data"]) for delta in deltas if "audio" in delta)
    a, b = (np.frombuffer(data, "<i2").astype(np.int32) for data in (samples, streamed))
    assert len(a) == len(b)
    assert np.abs(a - b).max() <= 2


def test_speech_says_it_too(http):
    data = http.post(
        "/v1/audio/speech", json={"model": "tiny", "input": "seven", "voice": "alloy", "response_format": "flac"}
    ).content
    assert provenance("audio", data).declared == "Plait"


def test_without_marks_nothing_is_said():
    with (
        serving({"tiny": small_model()}, marks=False) as (url, _),
        serving({"tiny": small_model()}) as (marking, _),
        httpx.Client(timeout=60) as http,
    ):
        plain = picture_of(http.post(f"{url}/v1/chat/completions", json=DRAW).json())
        marked = picture_of(http.post(f"{marking}/v1/chat/completions", json=DRAW).json())
    assert provenance("image", plain).declared == ""
    expected = registry.marks("image").mark(Part("image", Image.open(io.BytesIO(plain)))).value
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(marked))), np.asarray(expected))
    assert marked != plain


def test_the_check_finds_what_was_drawn_here(client, png):
    picture = Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 50)
    marked = registry.marks("image").mark(Part("image", picture.convert("RGB")))
    drawn = registry.transfers("image").encode(marked, "png")
    check = client.content_provenance_checks.create(file=("drawn.png", drawn))
    assert check.object == "content_provenance_check"
    assert {result.type: result.outcome for result in check.results} == {
        "metadata": "detected",
        "watermark": "detected",
    }
    buffer = io.BytesIO()
    Image.open(io.BytesIO(drawn)).resize((96, 96)).save(buffer, "BMP")  # what the file said is lost
    stripped = client.content_provenance_checks.create(file=("again.bmp", buffer.getvalue()))
    assert [result.outcome for result in stripped.results] == ["not_detected", "detected"]
    other = client.content_provenance_checks.create(file=("other.png", png))
    assert [result.outcome for result in other.results] == ["not_detected", "not_detected"]


def test_the_check_of_a_clip_by_its_type(http):
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000, format="WAV")
    answer = http.post("/v1/content_provenance_checks", files={"file": ("clip", buffer.getvalue(), "audio/wav")}).json()
    assert [result["outcome"] for result in answer["results"]] == ["not_detected", "not_detected"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"file": ("note.txt", b"hello", "text/plain")}, "expected a picture or a sound"),
        ({"file": ("a.png", b"no picture", "image/png")}, "image part"),
        ({"file": ("a.png", b"", "image/png")}, "no bytes"),
    ],
)
def test_what_is_no_medium_is_refused(http, files, said):
    answer = http.post("/v1/content_provenance_checks", files=files)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_what_cannot_be_marked_is_an_error_and_not_silence(http, monkeypatch):
    def broken(part):
        raise ValueError("no ink")

    monkeypatch.setattr("plait.modalities.image.mark.mark", broken)
    with http.stream("POST", "/v1/chat/completions", json=DRAW | {"stream": True}) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    assert json.loads(lines[-1])["error"]["code"] == "internal_error"
    assert http.post("/v1/chat/completions", json=DRAW).json()["error"]["code"] == "internal_error"
