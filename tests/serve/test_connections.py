"""Connections that bring nothing, or a byte now and then, do not stay."""

import socket
import time

import pytest
from conftest import serving, small_model

from plait.serve import connections

BEGUN = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def port():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEADER_SECONDS", 0.6)
        with serving({"tiny": small_model()}) as (url, _):
            yield int(url.rpartition(":")[2])


@pytest.fixture
def client(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
        yield made


def closed_after(client):
    """Seconds until the server closes the connection."""
    begin = time.monotonic()
    client.settimeout(10)
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - begin


def drip(client):
    """A header every tenth of a second, for ten seconds."""
    for _ in range(100):
        client.sendall(b"X-More: 1\r\n")
        time.sleep(0.1)


def test_who_says_nothing_is_not_waited_for(client):
    assert 0.3 < closed_after(client) < 5


def test_who_sends_a_header_now_and_then_is_not_waited_for(client):
    client.sendall(BEGUN)
    begin = time.monotonic()
    with pytest.raises(ConnectionError):
        drip(client)
    assert time.monotonic() - begin < 5


def test_the_second_request_of_a_connection_is_bounded_too(client):
    client.sendall(BEGUN + b"\r\n")
    assert b"200" in client.recv(65536)
    client.sendall(BEGUN)
    assert 0.3 < closed_after(client) < 5


def test_a_connection_between_two_requests_may_wait(client):
    answers = []
    for _ in range(3):
        client.sendall(BEGUN + b"\r\n")
        answers.append(client.recv(65536))
        while b'"ok"' not in answers[-1]:
            piece = client.recv(65536)
            assert piece, "the server closed the connection"
            answers[-1] += piece
        time.sleep(1.0)  # longer than headers may take
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


def test_an_answer_may_take_longer(client):
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "seven"}], "modalities": ["audio"], "stream": true, "steps": 60}'
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
    )
    time.sleep(0.3)
    client.sendall(body)
    begin, answer = time.monotonic(), b""
    while b"[DONE]" not in answer:
        piece = client.recv(65536)
        assert piece, answer[-300:]
        answer += piece
    assert time.monotonic() - begin < 60
