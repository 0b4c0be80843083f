"""Answers that are written, and said as they are written."""

import base64
import io
import time
from dataclasses import replace

import httpx2 as httpx
import numpy as np
import openai
import pytest
import soundfile
from conftest import RECIPE, serving
from worlds import SETTINGS, TINY, WORDS, text

from plait import registry
from plait.api import Model
from plait.contract import Message, Part
from plait.data.vocabulary import Vocabulary
from plait.infer.spoken import pieces_of
from plait.model.multimodal import MultimodalTransformer
from plait.serve.openai import spoken
from plait.serve.state import Limits

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

    def noted(network, request, kind, piece):
        pieces.append(piece)
        return saying(network, request, kind, piece)

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


def data_of(delta):
    """Of a piece of sound: a dictionary in older clients, an object in newer ones."""
    audio = getattr(delta, "audio", None) or {}
    return (audio if isinstance(audio, dict) else audio.model_dump()).get("data") or ""


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
        model="tiny", input="Draw seven for me now. Say it!", voice="alloy", response_format=format
    )
    assert said == ["Draw seven for me now.", "Say it!"]
    assert len(answer.content) > 1000


def test_speech_without_words_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="no words"):
        client.audio.speech.create(model="tiny", input="?!", voice="alloy")
    with pytest.raises(openai.BadRequestError, match="pieces to say"):
        client.audio.speech.create(model="tiny", input="1" * 4000, voice="alloy")


@pytest.fixture
def crowded(monkeypatch):
    """A server that takes two answers at once."""
    with (
        serving({"tiny": model()}, limits=Limits(requests=2)) as (url, app),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made, app.state.plait.served["tiny"].worker


def test_an_answer_that_was_let_in_is_said_to_its_end(crowded, said):
    client, worker = crowded
    words = " ".join(f"This is sentence number {name} of many." for name in ("one", "two", "three", "four", "five"))
    assert (
        len(client.audio.speech.create(model="tiny", input=words, voice="alloy", response_format="wav").content) > 1000
    )
    assert len(said) == 3, "more than may be asked for at once"
    assert worker.outstanding == worker.reserved == 0
    with pytest.raises(openai.RateLimitError):
        chat(client, n=3)
    assert worker.outstanding == worker.reserved == 0
    assert chat(client, n=2).choices[1].message.audio.data


def test_an_answer_nobody_waits_for_is_not_said(said):
    with serving({"tiny": model()}) as (url, app):
        worker = app.state.plait.served["tiny"].worker
        body = {
            "model": "tiny",
            "input": "This is a sentence for nobody. " * 60,
            "voice": "alloy",
            "response_format": "pcm",
        }
        with httpx.Client(base_url=url, timeout=60) as http, http.stream("POST", "/v1/audio/speech", json=body) as got:
            next(got.iter_bytes())
        until = time.monotonic() + 20
        while worker.outstanding and time.monotonic() < until:
            time.sleep(0.05)
        assert worker.outstanding == worker.reserved == 0
        count = len(said)
        assert count < 20, "not all of it"
        time.sleep(0.5)
        assert len(said) == count


def test_what_fails_while_it_is_said_fails_the_answer(client, monkeypatch):
    def broken(network, request, kind, piece):
        raise ValueError("broken")

    monkeypatch.setattr(spoken, "saying", broken)
    with pytest.raises(openai.InternalServerError):
        chat(client)


def test_a_piece_that_fails_fails_the_answer(client, monkeypatch):
    saying = spoken.saying

    def asked_too_much(network, request, kind, piece):
        return replace(saying(network, request, kind, piece), messages=(Message("user", (Part("video", b""),)),))

    monkeypatch.setattr(spoken, "saying", asked_too_much)
    with pytest.raises(openai.APIStatusError):
        chat(client)


def test_a_conversation_goes_on_with_the_words_of_what_was_said():
    with serving({"tiny": model()}) as (url, _):
        client = openai.OpenAI(
            base_url=f"{url}/v1", api_key="none", websocket_base_url=f"{url.replace('http', 'ws')}/v1"
        )
        with client.realtime.connect(model="tiny") as connection:
            connection.recv()
            connection.session.update(
                session={"type": "realtime", "output_modalities": ["audio"], "max_output_tokens": 60}
            )
            for number in range(3):
                text = {"type": "input_text", "text": "what is this?"}
                connection.conversation.item.create(item={"type": "message", "role": "user", "content": [text]})
                connection.response.create()
                events = []
                while not events or events[-1].type != "response.done":
                    events.append(connection.recv())
                    assert events[-1].type != "error", events[-1]
                response = events[-1].response
                assert response.status in ("completed", "incomplete"), number
                (item,) = response.output
                told = "".join(e.delta for e in events if e.type == "response.output_audio_transcript.delta")
                assert item.content[0].transcript == told
                connection.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=100)
                while connection.recv().type != "conversation.item.truncated":
                    pass


@pytest.mark.parametrize("modalities", [["text", "audio"], ["auto"]])
def test_what_the_question_quotes_is_said_as_it_is(client, said, modalities):
    ask = [{"role": "user", "content": "Say this for me: good morning, Dr. Who!"}]
    options = {"model": "tiny", "messages": ask, "modalities": modalities, "audio": {"voice": "alloy", "format": "wav"}}
    message = client.chat.completions.create(**options).choices[0].message
    assert said == ["good morning, Doctor Who!"]
    assert message.audio.transcript.endswith("good morning, Dr. Who!")
    stream = client.chat.completions.create(**options | {"audio": {"voice": "alloy", "format": "pcm16"}}, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == message.audio.transcript


def begins_to_say(monkeypatch):
    """Every answer that the model chooses the modality of is one that it begins to say."""
    legal = Vocabulary.legal

    def opening(vocabulary, to):
        opener = next(index for index, name in vocabulary.openers.items() if name == "audio")
        return np.array([opener]) if to is None else legal(vocabulary, to)

    monkeypatch.setattr(Vocabulary, "legal", opening)


def test_what_the_model_begins_to_say_it_writes_first(client, said, monkeypatch):
    begins_to_say(monkeypatch)
    written = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=40).choices[0].message.content
    message = client.chat.completions.create(
        model="tiny", messages=ASK, modalities=["auto"], audio={"voice": "alloy", "format": "wav"}, max_tokens=40
    ).choices[0].message  # fmt: skip
    assert message.audio.transcript == written
    assert said == pieces_of(written)


def test_a_stream_of_what_the_model_begins_to_say_ends_and_leaves_nothing_under_way(monkeypatch, said):
    begins_to_say(monkeypatch)
    with serving({"tiny": model()}) as (url, app):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        options = {"model": "tiny", "messages": ASK, "modalities": ["auto"], "max_tokens": 40, "n": 2}
        stream = client.chat.completions.create(
            **options, stream=True, audio={"voice": "alloy", "format": "pcm16"}, stream_options={"include_usage": True}
        )
        words, sounds, usage = {0: "", 1: ""}, {0: 0, 1: 0}, None
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                words[choice.index] += choice.delta.content or ""
                sounds[choice.index] += len(data_of(choice.delta))
        assert words[0]
        assert all(sounds.values())
        assert usage.completion_tokens_details.audio_tokens > 0
        worker = app.state.plait.served["tiny"].worker
        until = time.monotonic() + 20
        while worker.outstanding and time.monotonic() < until:
            time.sleep(0.05)
        assert worker.outstanding == worker.reserved == 0
