"""OpenAI's shapes, asked by OpenAI's own client of a real server."""

import base64
import io
import json

import numpy as np
import openai
import pytest
import soundfile
from conftest import serving, small_model
from PIL import Image

from plait.contract import Message, Part
from plait.infer.request import Request
from plait.serve.state import Limits

ASK = [{"role": "user", "content": "what is this?"}]
DRAWN = {"temperature": 0.8, "seed": 5, "max_tokens": 24}


def expected(messages=ASK, to="text", **options):
    """What the model says in Python."""
    asked = tuple(Message(m["role"], (Part("text", m["content"]),)) for m in messages)
    return small_model().reply(asked, to, **options)


def url_of(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()


def chat(client, content="what is this?", **options):
    return client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": content}], **{"max_tokens": 12} | options
    )


def refused(call, *words, status=400):
    """The error object of a call that must fail with a status, and whose message holds some words."""
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    assert caught.value.status_code == status, caught.value
    error = caught.value.body
    assert set(error) == {"message", "type", "param", "code"}
    for word in words:
        assert word in error["message"], error
    return error


def test_models_tell_what_they_read_and_write(client, http):
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "plait")
    assert model.max_model_len == 512
    assert client.models.retrieve("tiny").architecture == {
        "input_modalities": ["audio", "image", "text"],
        "output_modalities": ["audio", "image", "text"],
    }
    refused(lambda: client.models.retrieve("other"), "tiny", status=404)
    told = {entry["name"]: entry for entry in http.get("/modalities").json()["modalities"]}
    assert told["image"]["formats"]["png"] == "image/png"
    assert told["audio"]["written_by"] == ["tiny"]


def test_a_chat_is_what_the_model_says_in_python(client):
    answer = chat(client, **DRAWN)
    (choice,) = answer.choices
    (part,) = expected(**DRAWN).parts
    assert choice.message.content == part.value
    assert choice.message.role == "assistant"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens == DRAWN["max_tokens"]
    assert choice.finish_reason == "length"


def test_a_stream_says_the_same_and_ends_with_the_usage(client):
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}, **DRAWN))
    *others, last = chunks
    assert "".join(c.choices[0].delta.content or "" for c in others) == chat(client, **DRAWN).choices[0].message.content
    assert all(c.choices for c in others), "clients stumble over a chunk without choices that is not the last"
    assert (last.choices, last.usage.completion_tokens) == ([], DRAWN["max_tokens"])
    assert others[0].choices[0].delta.role == "assistant"
    assert others[-1].choices[0].finish_reason == "length"
    assert not any(c.usage for c in chat(client, stream=True, **DRAWN)), "only when it was asked for"


def test_several_answers_have_seeds_that_follow_each_other(client):
    answer = chat(client, n=3, **DRAWN)
    said = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert said[1] == expected(**DRAWN | {"seed": 6}).parts[0].value
    streamed = ["", "", ""]
    for chunk in chat(client, n=3, stream=True, **DRAWN):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == said
    assert DRAWN["max_tokens"] < answer.usage.completion_tokens <= 3 * DRAWN["max_tokens"]


def test_a_stop_string_ends_an_answer(client):
    whole = chat(client, **DRAWN).choices[0].message.content
    stop = whole[3:5]
    cut = chat(client, stop=stop, **DRAWN).choices[0]
    assert cut.message.content == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


def test_pictures_and_sound_are_read(client, png, wav):
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": url_of(png), "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav).decode(), "format": "wav"}},
    ]
    usage = chat(client, parts).usage
    assert usage.prompt_tokens_details.image_tokens == 6
    assert usage.prompt_tokens_details.audio_tokens > 0
    (answer,) = small_model().generate_all(
        [
            Request(
                (Message("user", (Part("text", "what is this?"), Part("image", png), Part("audio", wav))),),
                "text",
                max_tokens=12,
            )
        ]
    )
    assert usage.prompt_tokens == sum(answer.usage.asked.values())
    assert chat(client, parts).choices[0].message.content == "".join(p.value for p in answer.message.parts)


def test_a_picture_is_an_answer(client):
    message = (
        chat(client, modalities=["text", "image"], seed=3, extra_body={"size": "12x8", "guidance": 1.5})
        .choices[0]
        .message
    )
    (part,) = message.content
    data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).size == (12, 8)
    deltas = [
        c.choices[0].delta for c in chat(client, modalities=["image"], seed=3, stream=True, extra_body={"previews": 1})
    ]
    (pictures,) = [delta.images for delta in deltas if hasattr(delta, "images")]
    assert pictures[0]["type"] == "image_url"
    assert any(hasattr(delta, "preview") for delta in deltas)


def test_sound_is_an_answer(client):
    options = {"modalities": ["text", "audio"], "seed": 1, "max_tokens": 40}
    message = chat(client, audio={"voice": "alloy", "format": "wav"}, **options).choices[0].message
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(message.audio.data)))
    assert rate == 16_000
    assert message.audio.transcript == ""
    assert message.content is None
    deltas = [
        c.choices[0].delta for c in chat(client, audio={"voice": "alloy", "format": "pcm16"}, stream=True, **options)
    ]
    pieces = [told["audio"] for delta in deltas if (told := delta.model_dump()).get("audio")]
    streamed = b"".join(base64.b64decode(piece["data"]) for piece in pieces if piece.get("data"))
    assert len(streamed) / 2 / 24_000 == pytest.approx(len(samples) / rate, abs=0.1)
    assert {piece["id"] for piece in pieces} == {pieces[0]["id"]}
    assert pieces[-1]["expires_at"]


def test_log_probabilities_are_told(client):
    answer = chat(client, logprobs=True, top_logprobs=3, temperature=0.0).choices[0]
    tokens = answer.logprobs.content
    assert len(tokens) == 12
    assert all(token.logprob == pytest.approx(max(other.logprob for other in token.top_logprobs)) for token in tokens)
    assert all(len(token.top_logprobs) == 3 for token in tokens)
    assert all(sum(np.exp(other.logprob) for other in token.top_logprobs) <= 1 + 1e-6 for token in tokens)
    whole = [token.token for token in tokens if token.bytes is not None]
    assert all(word in answer.message.content for word in whole)
    chunks = chat(client, logprobs=True, top_logprobs=3, temperature=0.0, stream=True)
    streamed = [token for chunk in chunks if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [(t.token, t.logprob) for t in streamed] == [(t.token, t.logprob) for t in tokens]
    stop = answer.message.content[4:6]
    cut = chat(client, logprobs=True, temperature=0.0, stop=stop).choices[0]
    assert len("".join(token.token for token in cut.logprobs.content)) <= len(cut.message.content) + len(stop)
    offsets = [
        chunk.choices[0].logprobs.text_offset[0]
        for chunk in client.completions.create(model="tiny", prompt="yes", logprobs=0, max_tokens=6, stream=True)
        if chunk.choices[0].logprobs
    ]
    assert offsets == sorted(set(offsets))
    old = client.completions.create(model="tiny", prompt="draw seven", logprobs=2, max_tokens=5).choices[0].logprobs
    assert len(old.tokens) == len(old.token_logprobs) == len(old.top_logprobs) == len(old.text_offset) == 5
    assert chat(client).choices[0].logprobs is None


def test_completions(client):
    answer = client.completions.create(model="tiny", prompt=["draw seven", "yes"], **DRAWN)
    first = expected([{"role": "user", "content": "draw seven"}], **DRAWN).parts[0].value
    assert answer.choices[0].text == first
    assert len(answer.choices) == 2
    each = [
        client.completions.create(model="tiny", prompt=p, max_tokens=2).usage.prompt_tokens
        for p in ("draw seven", "yes")
    ]
    assert answer.usage.prompt_tokens == sum(each)
    streamed = client.completions.create(model="tiny", prompt="draw seven", stream=True, **DRAWN)
    assert "".join(chunk.choices[0].text for chunk in streamed) == first


def test_responses(client, png):
    drawn = {"temperature": 0.8, "max_output_tokens": 24, "extra_body": {"seed": 5}}
    response = client.responses.create(model="tiny", input="what is this?", **drawn)
    assert response.output_text == expected(**DRAWN).parts[0].value
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage.output_tokens == 24
    events = list(client.responses.create(model="tiny", input="what is this?", stream=True, **drawn))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == response.output_text
    assert events[-1].response.output_text == response.output_text
    seen = client.responses.create(
        model="tiny", instructions="be brief", max_output_tokens=4,
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": url_of(png)}, {"type": "input_text", "text": "?"}]}],
    )  # fmt: skip
    assert seen.usage.input_tokens_details.image_tokens == 6
    refused(
        lambda: client.responses.create(model="tiny", input="x", previous_response_id="resp_1"), "previous_response_id"
    )


def test_images(client, png):
    drawn = client.images.generate(model="tiny", prompt="draw seven", n=2, size="12x8", extra_body={"seed": 4})
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(entry.b64_json)))) for entry in drawn.data]
    assert [picture.shape[:2] for picture in pictures] == [(8, 12)] * 2
    assert not np.array_equal(*pictures), "seeds follow each other"
    edited = client.images.edit(model="tiny", image=("a.png", png), prompt="draw seven", size="12x8")
    assert Image.open(io.BytesIO(base64.b64decode(edited.data[0].b64_json))).size == (12, 8)
    client.images.edit(model="tiny", image=[("a.png", png), ("b.png", png)], prompt="draw seven")
    refused(lambda: client.images.generate(model="tiny", prompt="x", style="vivid"), "style")
    refused(lambda: client.images.edit(model="tiny", image=("a.png", png), prompt="x", mask=("m.png", png)), "mask")


@pytest.mark.parametrize("format", ["wav", "mp3", "flac", "opus", "pcm"])
def test_speech(client, format):
    data = client.audio.speech.create(
        model="tiny", voice="alloy", input="say it in German", response_format=format, extra_body={"seed": 1}
    ).read()
    if format == "pcm":
        samples, rate = np.frombuffer(data, "<i2") / 32768, 24_000
    elif format == "wav":  # of a stream: no length in the header
        samples, rate = np.frombuffer(data[44:], "<i2") / 32768, 24_000
        assert data[:4] == b"RIFF"
    else:
        samples, rate = soundfile.read(io.BytesIO(data))
    (sound,) = (
        small_model()
        .reply((Message("user", (Part("text", "say it in German"),)),), "audio", seed=1, max_tokens=4096)
        .parts
    )
    assert len(samples) / rate == pytest.approx(len(sound.value[0]) / sound.value[1], abs=0.1)


def test_transcriptions(client, wav):
    def ask(**options):
        return client.audio.transcriptions.create(model="tiny", file=("a.wav", wav), **options)

    said = ask().text
    (part, *_) = [
        *small_model()
        .reply((Message("user", (Part("audio", wav), Part("text", "Transcribe this."))),), "text", max_tokens=512)
        .parts
    ]
    assert said == part.value
    assert ask(response_format="text") == said + "\n"
    assert "00:00:00,000 --> 00:00:00,500" in ask(response_format="srt")
    assert ask(response_format="vtt").startswith("WEBVTT")
    assert ask(response_format="verbose_json").duration == 0.5
    events = list(ask(stream=True))
    assert "".join(event.delta for event in events[:-1]) == said == events[-1].text
    refused(lambda: ask(language="de"), "language")
    refused(lambda: ask(prompt="names"), "prompt")
    refused(lambda: ask(response_format="json", timestamp_granularities=["word"]), "verbose_json")
    refused(lambda: ask(response_format="verbose_json", timestamp_granularities=["word"]), "when words are said")
    refused(lambda: ask(extra_body={"surprise": "1"}), "surprise")


BAD = {
    "an unknown model": ({"model": "gpt-4"}, 404, "tiny"),
    "no message": ({"messages": []}, 400, "at least one"),
    "an unknown parameter": ({"extra_body": {"surprise": 1}}, 400, "surprise"),
    "a function without a name": ({"tools": [{"type": "function", "function": {}}]}, 400, "tools[0].function.name"),
    "a function of another kind": ({"tools": [{"type": "computer"}]}, 400, "tools[0].type"),
    "penalties": ({"frequency_penalty": 0.5}, 400, "frequency_penalty"),
    "log probabilities without logprobs": ({"top_logprobs": 2}, 400, "top_logprobs"),
    "too many log probabilities": ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
    "a schema that is none": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
        400,
        "json_schema.schema",
    ),
    "a schema that is missing": ({"response_format": {"type": "json_schema"}}, 400, "json_schema"),
    "a schema of a picture": ({"response_format": {"type": "json_object"}, "modalities": ["image"]}, 400, "modalities"),
    "a result of no call": (
        {"messages": [*ASK, {"role": "tool", "tool_call_id": "call_1", "content": "x"}]},
        400,
        "tool_call_id",
    ),
    "an unknown modality": ({"modalities": ["video"]}, 400, "video"),
    "a voice": ({"modalities": ["audio"], "audio": {"voice": "nova", "format": "wav"}}, 400, "nova"),
    "a temperature": ({"temperature": -1}, 400, "temperature"),
    "too many answers": ({"n": 9}, 400, "at most 8"),
    "too many tokens": ({"max_tokens": 10**9}, 400, "at most 4096"),
    "a role": ({"messages": [{"role": "boss", "content": "x"}]}, 400, "messages[0].role"),
    "an unknown part": ({"messages": [{"role": "user", "content": [{"type": "video", "video": "x"}]}]}, 400, "video"),
    "an address": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a"}}]}
            ]
        },
        400,
        "fetches nothing",
    ),
    "no base64": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}]}
            ]
        },
        400,
        "base64",
    ),
    "no picture": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
            ]
        },
        400,
        "no picture",
    ),
    "a conversation that is too long": (
        {"messages": [{"role": "user", "content": "yes " * 4000}]},
        400,
        "expected at most 512",
    ),
    "an answer last": ({"messages": [*ASK, {"role": "assistant", "content": "seven"}]}, 400, "expected a question"),
    "a stop string without end": ({"stop": "x" * 1000}, 400, "stop"),
    "too many stop strings": ({"stop": [str(n) for n in range(40)]}, 400, "stop"),
    "a book": ({"messages": [{"role": "user", "content": "hello " * 50_000}]}, 400, "characters"),
    "two bounds": ({"max_tokens": 5, "max_completion_tokens": 6}, 400, "max_tokens"),
    "usage of no stream": ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    "an unknown key of a part": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "foo": 1}]}]},
        400,
        "messages[0].content[0].foo",
    ),
    "too many media": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}] * 40,
                }
            ]
        },
        400,
        "at most 32",
    ),
    "an empty question": ({"messages": [{"role": "user", "content": ""}]}, 400, "question"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_by_name(client, what):
    options, status, word = BAD[what]
    error = refused(
        lambda: client.chat.completions.create(**{"model": "tiny", "messages": ASK} | options), word, status=status
    )
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


@pytest.mark.parametrize(
    "options",
    [
        {
            "frequency_penalty": 0,
            "presence_penalty": 0.0,
            "logit_bias": {},
            "logprobs": False,
            "tools": [],
            "user": "x",
        },
        {
            "metadata": {"a": "b"},
            "store": False,
            "service_tier": "auto",
            "tool_choice": "none",
            "parallel_tool_calls": True,
        },
        {
            "response_format": {"type": "text"},
            "safety_identifier": "x",
            "prompt_cache_key": "y",
            "reasoning_effort": "low",
        },
    ],
)
def test_neutral_values_are_accepted(client, options):
    assert chat(client, **options).choices


def test_errors_of_other_kinds_have_the_same_shape(http):
    for answer in (
        http.get("/v1/nothing"),
        http.put("/v1/chat/completions"),
        http.post("/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"}),
        http.post("/v1/chat/completions", content=b"[]", headers={"Content-Type": "application/json"}),
        http.post("/v1/chat/completions"),
    ):
        assert 400 <= answer.status_code < 500
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("value", [r'"\ud800"', "NaN", "1e999", "[" * 500 + "]" * 500])
def test_what_is_no_plain_json_is_refused(http, value):
    headers = {"Content-Type": "application/json"}
    for body in (
        '{"messages": [{"role": "user", "content": "x"}], "metadata": {"a": %s}}',
        '{"messages": [{"role": "user", "content": %s}]}',
    ):
        answer = http.post("/v1/chat/completions", content=(body % value).encode(), headers=headers)
        assert answer.status_code == 400, answer.text
    assert http.post(
        "/conversations", content=f'{{"messages": [], "title": {value}}}'.encode(), headers=headers
    ).status_code in (400, 404)


def test_a_body_without_its_type_is_told_the_header(http):
    told = http.post(
        "/v1/chat/completions",
        content=b'{"messages": []}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert told.status_code == 400
    assert "with the header Content-Type: application/json" in told.json()["error"]["message"]


def test_a_temperature_beyond_what_openai_takes_is_refused(http):
    told = http.post("/v1/chat/completions", json={"messages": ASK, "temperature": 9})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "temperature")


@pytest.mark.parametrize("headers", [{"Host": "["}, {"Host": "a]b"}, {"Origin": "http://["}])
def test_names_that_are_none_are_refused(http, headers):
    answer = http.post("/v1/chat/completions", json={"messages": ASK, "max_tokens": 2}, headers=headers)
    assert answer.status_code in (200, 400, 403), answer.text


def test_an_error_after_the_headers_is_an_event(http):
    body = {"messages": [{"role": "user", "content": "yes " * 4000}], "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert answer.status_code == 200
    assert "expected at most 512" in json.loads(lines[-1][6:])["error"]["message"]


def test_more_than_the_server_holds_is_asked_to_come_again():
    with (
        serving(limits=Limits(requests=1, answers=4)) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as few,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            chat(few, n=2)
        assert int(caught.value.response.headers["Retry-After"]) > 0
        assert chat(few).choices, "nothing of the refused request was taken"


def test_a_conversation_s_next_turn_reuses_the_last_one(client):
    first = [{"role": "user", "content": "which digit is it, and what colour has it?"}]
    answer = client.chat.completions.create(model="tiny", messages=first, max_tokens=6)
    said = {"role": "assistant", "content": answer.choices[0].message.content or "yes"}
    second = [*first, said, {"role": "user", "content": "are you sure?"}]
    details = client.chat.completions.create(model="tiny", messages=second, max_tokens=6).usage.prompt_tokens_details
    assert details.cached_tokens >= answer.usage.prompt_tokens - 1
