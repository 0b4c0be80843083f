"""Two replicas by Ray on this machine, one of which is killed under load."""

import contextlib
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest
from conftest import RECIPE, small_model

pytest.importorskip("ray.serve")

import ray
from ray import serve

from plait import api
from plait.errors import CheckpointError, ConfigError
from plait.serve import access
from plait.serve.cluster import NAME, Setup, deploy, run
from plait.train import checkpoint

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "what is this?"}], "max_tokens": 60}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    network = small_model().network
    return checkpoint.save(tmp_path_factory.mktemp("tiny") / "whole", network, network.state_dict(), RECIPE["recipe"])


@pytest.fixture(scope="module")
def url(folder):
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    deploy(Setup({"tiny": Path(folder)}, access(None, ("127.0.0.1",), ())), "127.0.0.1", port, 2)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def replicas():
    """Ids of the processes of the replicas that have engines."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            title = file.read_bytes().split(b"\0")[0].strip()
            if title.startswith(b"ray::ServeReplica") and b":Replica" in title:
                found.append(int(file.parent.name))
    return found


def test_what_the_application_answers_comes_through_the_ingress(folder, url):
    with httpx.Client(base_url=url, timeout=60) as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/v1/models").json()["data"][0]["id"] == "tiny"
        answer = http.post("/v1/chat/completions", json=ASK | {"seed": 1})
        assert answer.status_code == 200
        words = answer.json()["choices"][0]["message"]["content"]
        assert words == api.load(folder).reply(_asked(), "text", max_tokens=60, seed=1).parts[0].value
        refused = http.post("/v1/chat/completions", json={"model": "gpt-4", "messages": ASK["messages"]})
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "model_not_found"
        assert http.get("/v1/models", headers={"Host": "elsewhere.example"}).status_code == 403
        with http.stream("POST", "/v1/chat/completions", json=ASK | {"stream": True}) as got:
            lines = [line for line in got.iter_lines() if line.startswith("data")]
        assert lines[-1] == "data: [DONE]"
        assert http.post("/v1/chat/completions", content=b"x" * (65 << 20)).status_code == 413


def _asked():
    from plait.contract import Message, Part

    return (Message("user", (Part("text", "what is this?"),)),)


def wait_for(true):
    until = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_replica_that_is_killed_loses_no_request(url):
    before = replicas()
    assert len(before) == 2
    ended, statuses = threading.Event(), []

    def ask(number):
        with httpx.Client(base_url=url, timeout=120) as http:
            while not ended.is_set():
                answer = http.post("/v1/chat/completions", json=ASK | {"seed": number, "temperature": 1.0})
                statuses.append(answer.status_code)

    with ThreadPoolExecutor(16) as pool:
        asking = [pool.submit(ask, number) for number in range(16)]
        wait_for(lambda: len(statuses) >= 16)
        os.kill(before[0], signal.SIGKILL)
        answered = len(statuses)
        wait_for(lambda: len(statuses) > answered + 32)
        ended.set()
        for one in asking:
            one.result(180)
    assert set(statuses) == {200}
    wait_for(lambda: len(set(replicas()) - {before[0]}) == 2)  # another one takes its place
    assert NAME in serve.status().applications


def test_a_port_that_nobody_is_told_is_refused(folder):
    with pytest.raises(ConfigError, match="port 0"):
        run(Setup({"tiny": Path(folder)}, None), "127.0.0.1", 0, 1)
    with pytest.raises(CheckpointError):
        run(Setup({"tiny": Path("nowhere")}, None), "127.0.0.1", 1, 1)
