"""A real server on a port of its own, with small models of random weights."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time

import httpx2 as httpx
import numpy as np
import openai
import pytest
import soundfile
import uvicorn
from PIL import Image
from worlds import World

from plait.api import Model
from plait.serve import create_app
from plait.serve.run import settings

RECIPE = {"recipe": {"pack": {"length": 512}, "sampling": {"steps": 3}}}


def small_model(active=16):
    """Random weights: what it says means nothing."""
    return Model(World().model(), RECIPE, active)


@contextlib.contextmanager
def serving(models=None, **options):
    """Address and application of a server that listens while the block runs."""
    app = create_app(models or {"tiny": small_model()}, **options)
    with listening(app) as url:
        yield url, app


@contextlib.contextmanager
def listening(app):
    """Address of an application that is served while the block runs."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    server = uvicorn.Server(settings(app, host="127.0.0.1", port=port))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive(), "the server ended"
        assert time.monotonic() < until, "the server does not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server does not end"


@pytest.fixture(scope="module")
def place():
    """Address of a server with one small model."""
    with serving() as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(place):
    """The official client, which tries nothing twice."""
    with openai.OpenAI(base_url=f"{place}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def http(place):
    """A plain client."""
    with httpx.Client(base_url=place, timeout=60) as made:
        yield made


@pytest.fixture
def png():
    """Bytes of a small picture."""
    buffer = io.BytesIO()
    Image.fromarray((np.arange(8 * 12 * 3) % 256).astype(np.uint8).reshape(8, 12, 3)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def wav():
    """Bytes of half a second of a tone."""
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.2 * np.sin(np.arange(8000) / 10), 16_000, format="WAV")
    return buffer.getvalue()
