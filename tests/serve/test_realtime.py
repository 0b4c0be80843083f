"""Conversations over a WebSocket, as OpenAI's client has them: real speech in, words and sound out."""

import base64
import contextlib
import json
import time

import numpy as np
import openai
import pytest
import soxr
from conftest import serving, small_model
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_socket

from plait.data.sources.espeak import RATE as SPOKEN_RATE
from plait.data.sources.espeak import Espeak
from plait.infer.engine import Engine
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
def connected(place, **settings):
    """The official client, in a session with these settings."""
    with (
        openai.OpenAI(base_url=f"{place}/v1", api_key="none") as client,
        client.realtime.connect(model="tiny", max_retries=0) as connection,
    ):
        assert connection.recv().type == "session.created"
        if settings:
            configure(connection, **settings)
        yield connection


def configure(connection, **settings):
    connection.session.update(session={"type": "realtime", **settings})
    return until(connection, "session.updated")[-1].session


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


def test_settings_change_one_by_one(place):
    with connected(place, output_modalities=["text"], max_output_tokens=12) as connection:
        session = configure(connection, audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 0.7}}})
    assert (session.output_modalities, session.max_output_tokens) == (["text"], 12)
    assert session.audio.input.turn_detection.threshold == 0.7
    assert session.audio.input.turn_detection.prefix_padding_ms == 300


def test_turns_are_found_where_speech_is(speech):
    detector = TurnDetector(RATE)
    sound = np.concatenate([silence(1), speech, silence(1.5)])
    turns = [turn for first in range(0, len(sound), 777) for turn in detector.add(sound[first : first + 777])]
    assert [turn.event for turn in turns] == ["started", "stopped"]
    assert abs(turns[0].at_ms - 1000) < 250
    assert abs(turns[1].at_ms - (1000 + len(speech) / RATE * 1000)) < 350
    assert turns[1].known_ms - turns[1].at_ms == 500
    quiet = TurnDetector(RATE)
    assert quiet.add(silence(3)) == []


def test_a_written_question_is_answered_in_words(place):
    with connected(place, output_modalities=["text"], max_output_tokens=12) as connection:
        ask(connection, "which digit is it?")
        connection.response.create()
        events = until(connection, "response.done")
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert "response.output_text.delta" in kinds
    assert kinds[-4:-1] == ["response.content_part.done", "conversation.item.done", "response.output_item.done"]
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    response = events[-1].response
    assert response.status == ("incomplete" if response.usage.output_tokens >= 12 else "completed")
    assert response.output[0].content[0].text == told
    assert response.usage.output_tokens > 0


def test_speech_is_found_and_answered_in_sound(place, speech):
    with connected(
        place, output_modalities=["audio"], audio={"input": {"transcription": {}}}, max_output_tokens=40
    ) as connection:
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


@pytest.fixture
def slow_answers(monkeypatch):
    """Answers that do not end by themselves while the test interrupts them."""
    step = Engine.step

    def slow(engine):
        time.sleep(0.1)
        return step(engine)

    monkeypatch.setattr(Engine, "step", slow)


def test_who_speaks_interrupts(place, speech, slow_answers):
    with connected(place, output_modalities=["audio"]) as connection:
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
    with connected(
        place, output_modalities=["text"], audio={"input": {"turn_detection": None}}, max_output_tokens=5
    ) as connection:
        say(connection, speech)
        connection.input_audio_buffer.commit()
        until(connection, "conversation.item.done")
        connection.response.create()
        (item,) = until(connection, "response.done")[-1].response.output
        assert item.role == "assistant"
        say(connection, speech[:RATE])
        connection.input_audio_buffer.clear()
        until(connection, "input_audio_buffer.cleared")


def test_an_answer_can_be_cancelled_and_taken_out(place, slow_answers):
    with connected(place, output_modalities=["audio"]) as connection:
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
        ("[]", "the body: got []"),
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
        ('{"type": "response.cancel"}', "no such answer is under way"),
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
            with (
                pytest.raises(InvalidStatus, match="403"),
                open_socket(f"{url}/v1/realtime", additional_headers=headers),
            ):
                pass
        key = {"Authorization": "Bearer plait-secret"}
        with pytest.raises(InvalidStatus, match="403"):
            open_socket(f"{url}/v1/realtime", additional_headers=key, origin="http://elsewhere").close()
        with open_socket(f"{url}/v1/realtime", additional_headers=key) as socket:
            assert json.loads(socket.recv())["type"] == "session.created"


def test_two_turns_in_one_event_are_two_items(place, speech):
    with connected(
        place,
        output_modalities=["text"],
        audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}},
    ) as connection:
        say(connection, np.concatenate([silence(1), speech, silence(1.2), speech, silence(1.2)]), piece=400_000)
        first = until(connection, "conversation.item.done")
        second = until(connection, "conversation.item.done")
    starts = [event.audio_start_ms for event in first + second if event.type == "input_audio_buffer.speech_started"]
    ends = [event.audio_end_ms for event in first + second if event.type == "input_audio_buffer.speech_stopped"]
    assert len(starts) == len(ends) == 2
    assert starts[0] < ends[0] < starts[1] < ends[1]


def test_clearing_while_somebody_speaks_is_no_turn(place, speech):
    with connected(place) as connection:
        say(connection, np.concatenate([silence(0.5), speech[:RATE]]))
        until(connection, "input_audio_buffer.speech_started")
        connection.input_audio_buffer.clear()
        until(connection, "input_audio_buffer.cleared")
        say(connection, silence(2))
        connection.input_audio_buffer.clear()
        kinds = [event.type for event in until(connection, "input_audio_buffer.cleared")]
        assert kinds == ["input_audio_buffer.cleared"]
        configure(connection, audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 400}}})
        say(connection, np.concatenate([silence(0.5), speech, silence(1)]))
        turns = [event for event in until(connection, "input_audio_buffer.committed") if "speech" in event.type]
        assert turns[0].audio_start_ms < turns[1].audio_end_ms
        assert abs(turns[0].audio_start_ms - (500 + 1000 + 2000 + 500 - 300)) < 300  # the clock goes on


def test_what_was_not_played_is_forgotten(place):
    with connected(place, output_modalities=["audio"], max_output_tokens=40) as connection:
        ask(connection, "say it")
        connection.response.create()
        (item,) = until(connection, "response.done")[-1].response.output
        connection.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=10**6)
        assert "audio_end_ms" in connection.recv().error.message
        for played in (20, 0):
            connection.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=played)
            assert until(connection, "conversation.item.truncated")[-1].audio_end_ms == played
        ask(connection, "and now?")
        connection.response.create()
        assert until(connection, "response.done")[-1].response.status in ("completed", "incomplete")


def test_an_answer_is_stopped_before_it_has_begun(url):
    with open_socket(f"{url}/v1/realtime?model=tiny") as socket:
        socket.recv()
        said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "say it"}]}
        socket.send(json.dumps({"type": "conversation.item.create", "item": said}))
        socket.send(json.dumps({"type": "response.create"}))
        socket.send(json.dumps({"type": "response.cancel", "event_id": "mine"}))
        socket.send(json.dumps({"type": "response.cancel", "response_id": "another"}))
        # The answer can end before the second request is read, so the two come in either order.
        events = {}
        while not {"response.done", "error"} <= events.keys():
            event = json.loads(socket.recv(timeout=30))
            assert event["type"] not in ("response.done", "error") or event["type"] not in events
            events[event["type"]] = event
    assert events["response.done"]["response"]["status"] == "cancelled"
    (item,) = events["response.done"]["response"]["output"]
    assert item["status"] == "incomplete"
    assert events["error"]["error"]["code"] == "response_cancel_not_active"


def test_sound_that_the_model_cannot_take_leaves_the_conversation_as_it_was(place, url):
    silent = base64.b64encode(bytes(2 * RATE * 40)).decode()
    with open_socket(f"{url}/v1/realtime?model=tiny", max_size=None) as socket:
        socket.recv()
        for audio in ("", silent, "AAAA"):
            part = {"type": "input_audio", "audio": audio}
            socket.send(json.dumps({"type": "conversation.item.create", "item": {"role": "user", "content": [part]}}))
            error = json.loads(socket.recv(timeout=30))
            assert error["type"] == "error"
            assert error["error"]["type"] == "invalid_request_error"
        socket.send(b"binary")
        assert "binary" in json.loads(socket.recv(timeout=30))["error"]["message"]
        socket.send('{"type": "session.update", "event_id": "mine", "session": {"type": 3}}')
        assert json.loads(socket.recv(timeout=30))["error"]["event_id"] == "mine"
        part = {"type": "input_text", "text": "seven"}
        socket.send(json.dumps({"type": "conversation.item.create", "item": {"role": "user", "content": [part]}}))
        assert json.loads(socket.recv(timeout=30))["previous_item_id"] is None
