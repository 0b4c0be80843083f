"""Whom the server answers, how much it takes in, and that nothing is lost."""

import asyncio
import base64
import io
import json
import logging
import socket
import struct
import threading
import time
import zlib

import httpx2 as httpx
import pytest
from conftest import serving, small_model
from PIL import Image

from plait.contract import Message, Part
from plait.errors import ConfigError
from plait.infer.request import Request
from plait.serve import create_app, guard
from plait.serve.errors import ApiError
from plait.serve.guard import Access
from plait.serve.keys import hashed, read_keys
from plait.serve.media import MediaDecoder
from plait.serve.state import Limits
from plait.serve.worker import Worker

ASK = {"messages": [{"role": "user", "content": "yes"}], "max_tokens": 4}


def test_a_key_is_asked_for_where_there_are_keys(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"# of the studio\nanna {hashed('plait-a')}\nben {hashed('plait-b')}\n")
    with serving(access=Access(read_keys(path))) as (url, _), httpx.Client(base_url=url) as http:
        assert http.post("/v1/chat/completions", json=ASK).status_code == 401
        wrong = http.get("/v1/models", headers={"Authorization": "Bearer plait-c"})
        assert wrong.status_code == 401
        assert wrong.headers["WWW-Authenticate"] == "Bearer"
        assert wrong.json()["error"]["code"] == "invalid_api_key"
        assert http.get("/metrics").status_code == 401
        assert http.get("/v1/models", headers={"Authorization": "Bearer plait-b"}).status_code == 200
        assert http.get("/healthz").status_code == 200, "whoever watches the process needs no key"


@pytest.mark.parametrize(("text", "word"), [("", "no keys"), ("anna\n", "NAME SHA256"), ("anna 12\n", "NAME SHA256")])
def test_a_bad_file_of_keys_is_refused(tmp_path, text, word):
    path = tmp_path / "keys.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word):
        read_keys(path)
    with pytest.raises(ConfigError, match="plait key"):
        read_keys(tmp_path / "none.txt")


def test_pages_elsewhere_are_not_answered():
    access = Access(hosts=("127.0.0.1", "localhost"), origins=("http://friend:3000",))
    with serving(access=access) as (url, _), httpx.Client(base_url=url) as http:
        assert http.post("/v1/chat/completions", json=ASK).status_code == 200
        rebound = http.post("/v1/chat/completions", json=ASK, headers={"Host": "evil.example"})
        assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "wrong_host")
        foreign = http.post("/v1/chat/completions", json=ASK, headers={"Origin": "http://evil.example"})
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "wrong_origin")
        assert "access-control-allow-origin" not in foreign.headers
        assert http.post("/v1/chat/completions", json=ASK, headers={"Origin": url}).status_code == 200
        friend = {"Origin": "http://friend:3000"}
        allowed = http.options("/v1/chat/completions", headers=friend | {"Access-Control-Request-Method": "POST"})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (204, "http://friend:3000")
        assert "Authorization" in allowed.headers["access-control-allow-headers"]
        assert http.post("/v1/chat/completions", json=ASK, headers=friend).headers["access-control-allow-origin"]
        other = http.options("/v1/chat/completions", headers={"Origin": "http://evil.example"})
        assert other.status_code == 204
        assert "access-control-allow-methods" not in other.headers
        plain = http.post("/v1/chat/completions", content=json.dumps(ASK), headers={"Content-Type": "text/plain"})
        assert plain.status_code == 400, "a page elsewhere may send text/plain without asking first"


def test_large_bodies_are_refused_before_they_are_whole():
    with serving(limits=Limits(body=10_000)) as (url, _), httpx.Client(base_url=url) as http:
        assert http.post("/v1/chat/completions", json=ASK | {"user": "x" * 20_000}).status_code == 413

        def pieces():
            for _ in range(40):
                yield b" " * 1000

        answer = http.post("/v1/chat/completions", content=pieces(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_client_that_sends_its_body_slowly_is_let_go(monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    with serving() as (url, _), socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), 10) as slow:
        slow.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
        )
        assert b"408" in slow.recv(4096).split(b"\r\n")[0]


def test_a_key_asks_so_often_a_minute_and_no_more():
    with serving(limits=Limits(a_minute=2)) as (url, _), httpx.Client(base_url=url) as http:
        statuses = [http.post("/v1/completions", json={"prompt": "yes", "max_tokens": 2}) for _ in range(3)]
        assert [answer.status_code for answer in statuses] == [200, 200, 429]
        assert int(statuses[2].headers["Retry-After"]) >= 1
        assert http.get("/v1/models").status_code == 200, "looking is free"


def test_whoever_leaves_is_not_answered_on():
    model = small_model()
    step, answers = model.engine.step, []

    def slow():
        time.sleep(0.02)  # so that no answer ends by itself while the test looks
        return step()

    model.engine.step = slow
    finish = model.engine._finish
    model.engine._finish = lambda ticket, *more: (finish(ticket, *more), answers.append(ticket.answer))[0]
    with serving({"tiny": model}) as (url, app), httpx.Client(base_url=url) as http:
        served = app.state.plait.served["tiny"]
        body = {
            "messages": ASK["messages"],
            "max_tokens": 4000,
            "temperature": 1.0,
            "stream": True,
            "modalities": ["auto"],
        }
        with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            next(answer.iter_bytes())
            assert served.worker.outstanding == 1
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/chat/completions", json=body | {"stream": False, "n": 4}, timeout=0.2)
        until = time.monotonic() + 5
        while served.worker.outstanding or served.model.engine.active:
            assert time.monotonic() < until, "it is still being answered"
            time.sleep(0.05)
    assert {answer.reason for answer in answers} == {"cancelled"}, "those that had begun; the others never did"


def test_what_is_under_way_when_the_server_ends_is_finished():
    answers = []
    with serving() as (url, app):
        body = {"prompt": ["yes"] * 6, "max_tokens": 300, "temperature": 1.0}
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/completions", json=body, timeout=60))
        )
        asking.start()
        while not app.state.plait.served["tiny"].worker.outstanding:
            time.sleep(0.01)
    asking.join(60)
    assert answers[0].status_code == 200
    assert len(answers[0].json()["choices"]) == 6


def test_a_client_that_left_before_the_first_word_is_not_answered():
    """Starlette ends such a stream before its generator begins."""
    model = small_model()

    async def look():
        app = create_app({"tiny": model})
        body = json.dumps(ASK | {"stream": True, "max_tokens": 400, "repeats": 0}).encode()
        sent = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive():
            return next(sent, {"type": "http.disconnect"})

        async def send(message):
            pass

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "query_string": b"", "scheme": "http",
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")], "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2), "root_path": "",
        }  # fmt: skip
        worker = app.state.plait.served["tiny"].worker
        await app(scope, receive, send)
        worker.start()  # only now, so that nothing was answered before the client had left
        until = time.monotonic() + 10
        while worker.outstanding and time.monotonic() < until:
            await asyncio.sleep(0.02)
        worker.close()
        return worker.outstanding

    started = Worker.is_alive
    try:
        Worker.is_alive = property(lambda self: not self.is_closing)
        assert asyncio.run(look()) == 0
    finally:
        Worker.is_alive = started
    assert model.engine.steps_taken == 0


def test_calls_between_steps_do_not_stop_the_others():
    async def look():
        model = small_model()
        worker = Worker(model.engine)
        worker.start()
        job = worker.submit([Request((Message("user", (Part("text", "yes"),)),), "text", max_tokens=20)], stream=True)[
            0
        ]
        done = asyncio.Event()

        async def calls():
            while not done.is_set():
                await worker.call(lambda: time.sleep(0.02))

        callers = [asyncio.ensure_future(calls()) for _ in range(3)]
        begin = time.monotonic()
        await job.answer()
        done.set()
        await asyncio.gather(*callers)
        worker.close()
        return time.monotonic() - begin, model.engine.steps_taken

    seconds, steps = asyncio.run(look())
    assert seconds < steps * 0.02 * 3 + 2, "at most one call a step"


def test_a_step_that_fails_ends_its_requests_and_not_the_server(monkeypatch, caplog):
    model = small_model()
    with serving({"tiny": model}) as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        step, left = model.engine._forward, [1]

        def failing(*arguments):
            if left.pop() if left else 0:
                raise RuntimeError("no memory on the device")
            return step(*arguments)

        monkeypatch.setattr(model.engine, "_forward", failing)
        with caplog.at_level(logging.CRITICAL):
            broken = http.post("/v1/chat/completions", json=ASK)
        assert broken.status_code == 500
        assert "no memory" not in broken.text, "what went wrong inside is for the log"
        assert http.post("/v1/chat/completions", json=ASK).status_code == 200


def test_the_figures_count_what_was_asked():
    with serving() as (url, _), httpx.Client(base_url=url) as http:
        http.post("/v1/chat/completions", json=ASK)
        http.post("/v1/chat/completions", json=ASK | {"stream": True})
        http.get("/v1/nothing")
        lines = dict(line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert lines['plait_requests_total{path="/v1/chat/completions",status="200"}'] == "2.0"
    assert lines['plait_requests_total{path="other",status="404"}'] == "1.0"
    assert lines['plait_answer_seconds_count{model="tiny"}'] == "2.0"
    assert float(lines['plait_tokens_total{modality="text",model="tiny",side="answered"}']) > 0
    assert float(lines['plait_engine_steps_total{model="tiny"}']) > 0
    assert lines['plait_requests_outstanding{model="tiny"}'] == "0.0"


def test_the_log_has_a_line_of_json_for_each_request(caplog):
    with caplog.at_level(logging.INFO, "plait.serve.access"):
        with serving() as (url, _):
            answer = httpx.get(f"{url}/v1/models")
        entries = [json.loads(record.message) for record in caplog.records if record.name == "plait.serve.access"]
    (entry,) = entries
    assert (entry["path"], entry["status"], entry["id"]) == ("/v1/models", 200, answer.headers["x-request-id"])


def huge_png(width, height):
    """A PNG whose header promises far more pixels than the file has."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def test_hostile_media_end_their_request_alone(png):
    with serving() as (url, _), httpx.Client(base_url=url, timeout=60) as http:

        def ask(data):
            image = {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64," + base64.b64encode(data).decode()},
            }
            return http.post("/v1/chat/completions", json=ASK | {"messages": [{"role": "user", "content": [image]}]})

        for data in (
            b"x",
            huge_png(60_000, 60_000),
            png[:40],
            png[:-20] + bytes(20),
            b"GIF89a" + bytes(50),
            b"\0" * 100_000,
        ):
            answer = ask(data)
            assert answer.status_code == 400, data[:20]
            assert answer.json()["error"]["param"] == "messages[0].content[0].image_url"
        assert ask(png).status_code == 200


def test_a_decoder_that_takes_too_long_or_too_much_is_ended(png):
    async def look():
        hasty = MediaDecoder(seconds=0.001)
        await hasty.decode("image", png, "first")  # while the process starts there is more time
        buffer = io.BytesIO()
        Image.effect_noise((3000, 3000), 50).save(buffer, "PNG")
        with pytest.raises(ApiError, match="too long"):
            await hasty.decode("image", buffer.getvalue(), "large")
        hasty.seconds = 20
        part = await hasty.decode("image", png, "again")
        await hasty.close()
        return part

    assert asyncio.run(look()).value.shape == (8, 12, 3)
