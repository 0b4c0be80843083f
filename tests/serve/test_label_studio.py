"""A backend of Label Studio: in its shapes, and with the real one.

The real one needs an environment of its own: python -m venv studio && studio/bin/pip install label-studio
PLAIT_LABEL_STUDIO=studio/bin/label-studio pytest tests/serve/test_label_studio.py
"""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2 as httpx
import numpy as np
import pytest
from conftest import listening, serving, small_model
from PIL import Image

from plait.annotate import formats
from plait.annotate.kinds import Question
from plait.annotate.store import ANSWER, Prediction
from plait.api import annotating
from plait.serve import create_app
from plait.serve.guard import Access
from plait.serve.keys import hashed
from plait.serve.label_studio import TOKEN, URL

STUDIO = os.environ.get("PLAIT_LABEL_STUDIO", "")
CHOICES = '<View><Image name="img" value="$image"/><Choices name="kind" toName="img"><Choice value="cat"/><Choice value="dog"/></Choices></View>'
WORDS = '<View><Text name="txt" value="$text"/><TextArea name="answer" toName="txt"/></View>'
LEGACY = "1234567890abcdef1234567890abcdef12345678"
REFRESH, ACCESS = "aa.bb.cc", "the-access-token"


def picture():
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Files(BaseHTTPRequestHandler):
    """Serves one picture as Label Studio does: to who has a legacy token, or the access token that a refresh token gives."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_right = self.path == "/api/token/refresh" and asked == {"refresh": REFRESH}
        self.answer(200 if is_right else 401, json.dumps({"access": ACCESS}).encode())

    def do_GET(self):
        if self.path == "/data/away.png":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/secret")
            self.end_headers()
            return
        allowed = self.headers.get("Authorization") in (f"Token {LEGACY}", f"Bearer {ACCESS}")
        self.answer(200 if allowed else 401, picture())

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def files():
    """Address of a server of one picture."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def backend(files, monkeypatch):
    """Starts servers whose media are those of `files`."""
    opened = contextlib.ExitStack()

    def begin(token=LEGACY, **options):
        monkeypatch.setenv(URL, files)
        monkeypatch.setenv(TOKEN, token)
        return opened.enter_context(serving(**options))[0]

    with opened:
        yield begin


def predicted(url, data, config=CHOICES, count=1, **headers):
    body = {
        "tasks": [{"id": number, "data": data, "project": 1} for number in range(count)], "project": "1.17", "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }  # fmt: skip
    return httpx.post(f"{url}/label-studio/predict", json=body, headers=headers, timeout=60)


def test_health_and_setup_answer_at_once(backend):
    url = backend()
    for place in ("label-studio", "label-studio/tiny"):
        begin = time.monotonic()
        health = httpx.get(f"{url}/{place}/health")
        assert time.monotonic() - begin < 1, "Label Studio waits for a second"
        assert health.json()["status"] == "UP"
        setup = httpx.post(
            f"{url}/{place}/setup",
            json={"project": "1.1", "schema": CHOICES, "hostname": "x", "access_token": "y", "extra_params": None},
        )
        assert setup.json() == {"model_version": health.json()["model_version"]}
        assert httpx.post(f"{url}/{place}/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200
    assert httpx.get(f"{url}/label-studio/other/health").status_code == 404
    refused = httpx.post(f"{url}/label-studio/setup", json={"schema": "<View/>"})
    assert refused.status_code == 400
    assert "expected one of Choices" in refused.json()["error"]["message"]


@pytest.mark.parametrize("token", [LEGACY, REFRESH])
def test_both_kinds_of_token_fetch_media(backend, token):
    told = predicted(backend(token), {"image": "/data/upload/1/a.png"}, count=2).json()
    assert len(told["results"]) == 2
    for prediction in told["results"]:
        (result,) = prediction["result"]
        assert (result["from_name"], result["to_name"], result["type"]) == ("kind", "img", "choices")
        assert result["value"]["choices"][0] in ("cat", "dog")
        assert 0.5 <= prediction["score"] <= 1
        assert prediction["model_version"] == told["model_version"]


@pytest.mark.parametrize(
    "image",
    ["http://127.0.0.1:1/a.png", "file:///etc/passwd", "/data/away.png", "s3://bucket/a.png", "//evil/a.png", 7, "data:image/png;base64,AAAA"],
)  # fmt: skip
def test_what_cannot_be_fetched_has_no_prediction(backend, image):
    told = predicted(backend(), {"image": image})
    assert told.status_code == 200
    assert told.json()["results"] == [[]], "it is asked for again"


def test_a_wrong_token_gives_no_prediction(backend):
    assert predicted(backend("wrong"), {"image": "/data/upload/1/a.png"}).json()["results"] == [[]]


def test_words_are_written_and_data_urls_read(backend):
    url = backend()
    (prediction,) = predicted(url, {"text": "hello"}, WORDS).json()["results"]
    if prediction:  # random weights may have nothing to say
        assert prediction["result"][0]["type"] == "textarea"
    data = "data:image/png;base64," + base64.b64encode(picture()).decode()
    (prediction,) = predicted(url, {"image": data}).json()["results"]
    assert prediction["result"]


def test_a_key_may_come_as_the_password(backend):
    url = backend(access=Access({hashed("secret"): "studio"}))
    assert predicted(url, {"text": "x"}, WORDS).status_code == 401
    for password, status in (("secret", 200), ("wrong", 401), ("", 401)):
        code = base64.b64encode(f"user:{password}".encode()).decode()
        assert predicted(url, {"text": "x"}, WORDS, Authorization=f"Basic {code}").status_code == status
    assert predicted(url, {"text": "x"}, WORDS, Authorization="Basic ?").status_code == 401


@contextlib.contextmanager
def label_studio(folder):
    """Address of a real Label Studio with a user whose legacy token is LEGACY."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    environment = os.environ | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder), "ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false", "COLLECT_ANALYTICS": "0",
        "LATEST_VERSION_CHECK": "0", "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    }  # fmt: skip
    environment.pop("PYTHONPATH", None)
    command = [
        STUDIO,
        "start",
        "--no-browser",
        "--port",
        str(port),
        "--username",
        "ann@example.org",
        "--password",
        "secret-1234",
        "--user-token",
        LEGACY,
    ]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True) as process,
    ):
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 300
        try:
            while True:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/health").status_code == 200:
                        break
                time.sleep(1)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.skipif(not STUDIO, reason="needs PLAIT_LABEL_STUDIO, the program of a Label Studio")
def test_with_the_real_label_studio(tmp_path, monkeypatch):
    """Predictions by both kinds of token; what people say there is taken in here, and what they say here is imported there."""
    data, base = tmp_path / "data", tmp_path / "base"
    data.mkdir()
    base.mkdir()
    for name, shade in (("a.png", 40), ("b.png", 200)):
        Image.fromarray(np.full((20, 30, 3), shade, np.uint8)).save(data / name)
    with label_studio(base) as studio:

        def call(method, path, **options):
            answer = httpx.request(
                method, f"{studio}/api/{path}", headers={"Authorization": f"Token {LEGACY}"}, timeout=120, **options
            )
            assert answer.status_code < 300, answer.text
            return answer.json() if answer.content else None

        project = call("POST", "projects", json={"title": "pets", "label_config": CHOICES})["id"]
        for name in ("a.png", "b.png"):
            call("POST", f"projects/{project}/import", files={"file": (name, (data / name).read_bytes(), "image/png")})
        refresh = call("POST", "token")["token"]
        monkeypatch.setenv(URL, studio)
        versions = set()
        for number, token in enumerate((LEGACY, refresh)):
            monkeypatch.setenv(TOKEN, token)
            with listening(create_app({f"tiny{number}": small_model()})) as url:
                added = call(
                    "POST", "ml", json={"url": f"{url}/label-studio", "project": project, "title": f"plait{number}"}
                )
                call(
                    "POST",
                    f"dm/actions?id=retrieve_tasks_predictions&project={project}",
                    json={"selectedItems": {"all": True, "excluded": []}},
                )
                versions |= {each["model_version"] for each in call("GET", f"predictions?project={project}")}
                call("DELETE", f"ml/{added['id']}")
        assert len(versions) == 2, "each token fetched the pictures"
        predictions = call("GET", f"predictions?project={project}")
        assert all(each["result"][0]["value"]["choices"][0] in ("cat", "dog") for each in predictions)
        tasks = call("GET", f"tasks?project={project}")["tasks"]
        result = {"from_name": "kind", "to_name": "img", "type": "choices", "value": {"choices": ["dog"]}}
        call("POST", f"tasks/{tasks[0]['id']}/annotations", json={"result": [result], "lead_time": 4.0})
        exported = tmp_path / "export.json"
        exported.write_text(
            json.dumps(call("GET", f"projects/{project}/export?exportType=JSON&download_all_tasks=true"))
        )
        mine = annotating.open_project(data, Question("label", "", ("cat", "dog")), say=lambda line: None)
        added, answers, passed = formats.take(mine, data, exported)
        assert (added, answers, dict(passed)) == (0, 1, {})
        (said,) = [mine.answers_of(id) for id in mine.items if mine.answers_of(id)]
        assert list(said.values()) == ["dog"]
        for id in mine.items:
            mine.say(ANSWER, id, "ben", "cat", f"ben{id}")
        mine.add_predictions([Prediction(next(iter(mine.items)), "smol", "dog", 0.3)])
        given = formats.give(mine, data)
        mine.store.close()
        second = call("POST", "projects", json={"title": "back", "label_config": given["config"]})["id"]
        counted = call("POST", f"projects/{second}/import", json=given["tasks"])
        assert (counted["task_count"], counted["annotation_count"], counted["prediction_count"]) == (2, 3, 1)
