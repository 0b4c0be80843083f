"""Conversations over a WebSocket, as OpenAI's client has them: real speech in, words and sound out."""

import base64
import contextlib
import json

import numpy as np
import openai
import pytest
import soxr
from conftest import serving, small_model
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_socket

from plait.data.sources.espeak import RATE as SPOKEN_RATE
from plait.data.sources.espeak import Espeak
from plait.serve.guard import Access
from plait.serve.keys import hashed
from plait.serve.turns import TurnDetector

RATE = 24_000


@pytest.fixture(scope="module")
def speech():
    """Two seconds and a half of speech, at 24 kHz, of 16 bits."""
    with Espeak() as speaker:
        samples = speaker.say("Which digit is in this picture, and what is its colour?", "en", 160, 50)
    samples = soxr.resample(np.asarray(samples, np.float32), SPOKEN_RATE, RATE)
    return (samples / np.abs(samples).max() * 20_000).astype("<i2")


def silence(seconds):
    return np.random.default_rng(0).integers(-20, 20, int(seconds * RATE)).astype("<i2")


@pytest.fixture(scope="module")
def url(place):
    return place.replace("http", "ws")


@contextlib.contextmanager
def connected(place, **options):
    with (
        openai.OpenAI(base_url=f"{place}/v1", api_key="none") as client,
        client.realtime.connect(model="tiny", max_retries=0, **options) as connection,
    ):
        assert connection.recv().type == "session.created"
        yield connection


def until(connection, last):
    """Events up to one of a kind."""
    events = []
    while not events or events[-1].type != last:
        events.append(connection.recv())
        if events[-1].type == "error":
            raise AssertionError(events[-1].error)
    return events


def say(connection, samples, piece=2400):
    for first in range(0, len(samples), piece):
        data = base64.b64encode(samples[first : first + piece].tobytes()).decode()
        connection.input_audio_buffer.append(audio=data)


def ask(connection, text):
    connection.conversation.item.create(
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    )
    until(connection, "conversation.item.done")


def test_turns_are_found_where_speech_is(speech):
    detector = TurnDetector(RATE)
    sound = np.concatenate([silence(1), speech, silence(1.5)])
    turns = [turn for first in range(0, len(sound), 777) for turn in detector.add(sound[first : first + 777])]
    assert [turn.event for turn in turns] == ["started", "stopped"]
    assert abs(turns[0].at - 1000) < 250
    assert abs(turns[1].at - (1000 + len(speech) / RATE * 1000)) < 350
    quiet = TurnDetector(RATE)
    assert quiet.add(silence(3)) == []


def test_a_written_question_is_answered_in_words(place):
    with connected(place) as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"], "max_output_tokens": 12})
        assert until(connection, "session.updated")[-1].session.output_modalities == ["text"]
        ask(connection, "which digit is it?")
        connection.response.create()
        events = until(connection, "response.done")
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert "response.output_text.delta" in kinds
    assert kinds[-4:-1] == ["response.content_part.done", "response.output_item.done", "conversation.item.done"]
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    response = events[-1].response
    assert response.status in ("completed", "incomplete")
    assert response.output[0].content[0].text == told
    assert response.usage.output_tokens > 0


def test_speech_is_found_and_answered_in_sound(place, speech):
    with connected(place) as connection:
        connection.session.update(
            session={
                "type": "realtime",
                "output_modalities": ["audio"],
                "audio": {"input": {"transcription": {}}},
                "max_output_tokens": 40,
            }
        )
        until(connection, "session.updated")
        say(connection, np.concatenate([silence(0.6), speech, silence(1)]))
        events = until(connection, "response.done")
        if not any(event.type.endswith("transcription.completed") for event in events):
            events += until(connection, "conversation.item.input_audio_transcription.completed")
        item = next(event for event in events if event.type == "input_audio_buffer.committed").item_id
        connection.conversation.item.retrieve(item_id=item)
        heard = until(connection, "conversation.item.retrieved")[-1].item
    kinds = [event.type for event in events]
    order = ("speech_started", "speech_stopped", "committed")
    places = [kinds.index(f"input_audio_buffer.{kind}") for kind in order]
    assert places == sorted(places)
    started, stopped = (events[place] for place in places[:2])
    assert started.item_id == stopped.item_id == item
    assert started.audio_start_ms < 600 < stopped.audio_end_ms
    sound = b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta")
    assert len(sound) > 1000
    assert "response.output_audio_transcript.done" in kinds
    transcript = next(event for event in events if event.type.endswith("transcription.completed")).transcript
    assert heard.content[0].transcript == transcript


def test_who_speaks_interrupts(place, speech):
    with connected(place) as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["audio"]})
        until(connection, "session.updated")
        ask(connection, "say it")
        connection.response.create()
        until(connection, "response.created")
        say(connection, np.concatenate([silence(0.2), speech, silence(0.9)]))
        first = until(connection, "response.done")[-1].response
        second = until(connection, "response.done")[-1].response
    assert first.status == "cancelled"
    assert first.status_details.reason == "turn_detected"
    assert second.id != first.id


def test_a_session_that_transcribes_answers_nothing(url, speech):
    with open_socket(f"{url}/v1/realtime?model=tiny&intent=transcription") as socket:
        created = json.loads(socket.recv())
        assert created["session"]["type"] == "transcription"
        sound = np.concatenate([silence(0.5), speech, silence(1)])
        for first in range(0, len(sound), 4800):
            data = base64.b64encode(sound[first : first + 4800].tobytes()).decode()
            socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": data}))
        kinds = []
        while not kinds or not kinds[-1].endswith("transcription.completed"):
            kinds.append(json.loads(socket.recv(timeout=60))["type"])
        socket.send(json.dumps({"type": "response.create"}))
        assert "transcribes answers nothing" in json.loads(socket.recv(timeout=60))["error"]["message"]
    assert not any(kind.startswith("response.") for kind in kinds)


def test_without_detection_the_client_says_when(place, speech):
    with connected(place) as connection:
        connection.session.update(
            session={
                "type": "realtime",
                "output_modalities": ["text"],
                "audio": {"input": {"turn_detection": None}},
                "max_output_tokens": 5,
            }
        )
        until(connection, "session.updated")
        say(connection, speech)
        connection.input_audio_buffer.commit()
        until(connection, "conversation.item.done")
        connection.response.create()
        assert until(connection, "response.done")[-1].response.output
        say(connection, speech[:RATE])
        connection.input_audio_buffer.clear()
        until(connection, "input_audio_buffer.cleared")


def test_an_answer_can_be_cancelled_and_taken_out(place):
    with connected(place) as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["audio"]})
        until(connection, "session.updated")
        ask(connection, "say it")
        connection.response.create()
        until(connection, "response.output_item.added")
        connection.response.cancel()
        response = until(connection, "response.done")[-1].response
        assert (response.status, response.status_details.reason) == ("cancelled", "client_cancelled")
        connection.conversation.item.delete(item_id=response.output[0].id)
        assert until(connection, "conversation.item.deleted")[-1].item_id == response.output[0].id


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("nonsense", "JSON"),
        ("[]", ""),
        ('{"type": "who.knows"}', "type"),
        ('{"type": "session.update", "session": {"voice": "x"}}', "voice"),
        ('{"type": "session.update", "session": {"type": "transcription"}}', "as the session began"),
        ('{"type": "session.update", "session": {"output_modalities": ["text", "audio"]}}', "output_modalities"),
        ('{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}}', "format"),
        ('{"type": "session.update", "session": {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}}', "type"),
        ('{"type": "session.update", "session": {"tools": [{}]}}', "tools"),
        ('{"type": "input_audio_buffer.append", "audio": "AAA"}', "base64"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "half a sample"),
        ('{"type": "input_audio_buffer.commit"}', "at least 100"),
        ('{"type": "response.create"}', "no question"),
        ('{"type": "response.cancel"}', "no answer is under way"),
        ('{"type": "conversation.item.delete", "item_id": "x"}', "not in this conversation"),
        ('{"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": 5}', "not in this conversation"),
        ('{"type": "conversation.item.create", "item": {"role": "system", "content": [{"type": "input_audio", "audio": ""}]}}', "words"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_an_event_and_not_the_end(url, event, said):
    with open_socket(f"{url}/v1/realtime?model=tiny") as socket:
        socket.recv()
        socket.send(event)
        error = json.loads(socket.recv(timeout=30))
        if event == '{"type": "response.create"}':
            assert error["type"] == "response.created"
            error = json.loads(socket.recv(timeout=30))
        assert error["type"] == "error"
        assert said in error["error"]["message"]
        socket.send('{"type": "input_audio_buffer.clear", "event_id": "mine"}')
        kinds = [json.loads(socket.recv(timeout=30))["type"]]
        while kinds[-1] != "input_audio_buffer.cleared":
            kinds.append(json.loads(socket.recv(timeout=30))["type"])


def test_an_unknown_model_is_told(url):
    with open_socket(f"{url}/v1/realtime?model=gpt-realtime") as socket:
        assert "is not here" in json.loads(socket.recv())["error"]["message"]
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)


def test_strangers_are_not_let_in():
    access = Access({hashed("plait-secret"): "anna"}, ("127.0.0.1",))
    with serving({"tiny": small_model()}, access=access) as (place, _):
        url = place.replace("http", "ws")
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(Exception, match="403"), open_socket(f"{url}/v1/realtime", additional_headers=headers):
                pass
        key = {"Authorization": "Bearer plait-secret"}
        with pytest.raises(Exception, match="403"):
            open_socket(f"{url}/v1/realtime", additional_headers=key, origin="http://elsewhere").close()
        with open_socket(f"{url}/v1/realtime", additional_headers=key) as socket:
            assert json.loads(socket.recv())["type"] == "session.created"
