"""Answers that are written, and said as they are written."""

import base64
import io
import time

import httpx2 as httpx
import numpy as np
import openai
import pytest
import soundfile
from conftest import RECIPE, serving
from worlds import SETTINGS, TINY, WORDS, text

from plait import registry
from plait.api import Model
from plait.data.vocabulary import Vocabulary
from plait.infer.spoken import pieces_of
from plait.model.multimodal import MultimodalTransformer
from plait.serve.openai import spoken

ASK = [{"role": "user", "content": "what is this?"}]


def model():
    modalities = registry.build_all({**SETTINGS, "audio": {**SETTINGS["audio"], "letters": True, "max_seconds": 1.0}})
    modalities["text"].fit([text(word) for word in WORDS])
    return Model(MultimodalTransformer(TINY, Vocabulary(modalities), seed=0), RECIPE, 16)


@pytest.fixture(scope="module")
def client():
    with (
        serving({"tiny": model()}) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


@pytest.fixture
def said(monkeypatch):
    """Every piece that is said, in the order in which it was asked for."""
    pieces = []
    saying = spoken.saying

    def noted(request, kind, piece):
        pieces.append(piece)
        return saying(request, kind, piece)

    monkeypatch.setattr(spoken, "saying", noted)
    return pieces


def samples_of(data):
    return soundfile.read(io.BytesIO(base64.b64decode(data)))[0]


def chat(client, **options):
    return client.chat.completions.create(
        model="tiny", messages=ASK, modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"},
        max_tokens=40, **options,
    )  # fmt: skip


def test_an_answer_is_written_and_then_said(client, said):
    written = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=40).choices[0].message.content
    answer = chat(client)
    message = answer.choices[0].message
    assert message.content == message.audio.transcript == written
    assert said == pieces_of(written)
    assert len(samples_of(message.audio.data)) > 0
    assert answer.usage.completion_tokens_details.audio_tokens > 0
    two = chat(client, n=2, temperature=1.0)
    first, second = (choice.message for choice in two.choices)
    assert first.content != second.content
    assert not np.array_equal(samples_of(first.audio.data), samples_of(second.audio.data))


def test_a_stream_tells_words_and_sound(client):
    whole = chat(client).choices[0].message
    stream = client.chat.completions.create(
        model="tiny", messages=ASK, modalities=["text", "audio"], audio={"voice": "alloy", "format": "pcm16"},
        max_tokens=40, stream=True,
    )  # fmt: skip
    words, data, transcript = "", b"", ""
    for chunk in stream:
        delta = chunk.choices[0].delta
        words += delta.content or ""
        if audio := getattr(delta, "audio", None):
            audio = audio if isinstance(audio, dict) else audio.model_dump()
            data += base64.b64decode(audio.get("data") or "")
            transcript = audio.get("transcript") or transcript
    assert words == whole.content == transcript
    seconds = len(data) / 2 / 24_000
    assert seconds == pytest.approx(
        len(samples_of(whole.audio.data)) / 16_000, abs=0.2
    )  # without a vocoder each block is written by itself


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_speech_says_what_it_is_given(client, said, format):
    answer = client.audio.speech.create(
        model="tiny", input="Draw seven. Say it!", voice="alloy", response_format=format
    )
    assert said == ["Draw seven.", "Say it!"]
    assert len(answer.content) > 1000


def test_speech_without_words_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="no words"):
        client.audio.speech.create(model="tiny", input="?!", voice="alloy")
    with pytest.raises(openai.BadRequestError, match="101 sentences"):
        client.audio.speech.create(model="tiny", input="No. " * 101, voice="alloy")


def test_an_answer_nobody_waits_for_is_not_said(monkeypatch):
    with serving({"tiny": model()}) as (url, app):
        worker = app.state.plait.served["tiny"].worker
        body = {
            "model": "tiny", "messages": ASK, "modalities": ["audio"], "stream": True, "max_tokens": 400,
            "audio": {"voice": "alloy", "format": "pcm16"},
        }  # fmt: skip
        with (
            httpx.Client(base_url=url, timeout=60) as http,
            http.stream("POST", "/v1/chat/completions", json=body) as got,
        ):
            next(line for line in got.iter_lines() if line.startswith("data"))
        for _ in range(200):
            if not worker.outstanding:
                break
            time.sleep(0.05)
        assert worker.outstanding == 0


def test_what_fails_while_it_is_said_fails_the_answer(client, monkeypatch):
    def broken(request, kind, piece):
        raise ValueError("broken")

    monkeypatch.setattr(spoken, "saying", broken)
    with pytest.raises(openai.InternalServerError):
        chat(client)
