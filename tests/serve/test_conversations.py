"""Conversations that the pages keep."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import zipfile

import httpx2 as httpx
import pytest
from conftest import serving
from typer.testing import CliRunner

from plait import registry
from plait.cli import app as cli
from plait.data.rows import read_rows
from plait.errors import ConfigError
from plait.serve.guard import Access
from plait.serve.keys import hashed, read_keys
from plait.serve.openai.conversations import Conversation, Conversations


@pytest.fixture
def talk(png, wav):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(png).decode()}}
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav).decode(), "format": "wav"}}
    return {
        "title": "Carrots & <b>100 %</b>",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "what is this? <script>"}, picture, sound]},
            {"role": "assistant", "content": "a carrot", "extra": {"seed": 3}},
            {"role": "user", "content": "and now?"},
        ],
    }


@pytest.fixture
def http(tmp_path):
    with serving(conversations=tmp_path / "kept" / "c.sqlite") as (url, _), httpx.Client(base_url=url) as made:
        yield made


def test_a_conversation_is_kept_found_changed_and_deleted(http, talk):
    id = http.post("/conversations", json=talk).json()["id"]
    other = http.post("/conversations", json={"title": "other", "messages": []}).json()["id"]
    assert http.get(f"/conversations/{id}").json()["messages"][:2] == [
        talk["messages"][0] | {"extra": {}},
        talk["messages"][1],
    ]
    assert [entry["id"] for entry in http.get("/conversations").json()["data"]] == [other, id]
    found = lambda words: [entry["id"] for entry in http.get("/conversations", params={"query": words}).json()["data"]]  # noqa: E731
    assert (found("carrot"), found("100 %"), found("100_%"), found("nothing")) == ([id], [id], [], [])
    assert (found("role"), found("base64"), found("<script>")) == ([], [], [id]), "what was said, not how it is stored"
    http.put(f"/conversations/{id}", json=talk | {"title": "renamed"})
    assert http.get("/conversations").json()["data"][0]["title"] == "renamed"
    assert http.delete(f"/conversations/{id}").json() == {"id": id, "deleted": True}
    for answer in (
        http.get(f"/conversations/{id}"),
        http.delete(f"/conversations/{id}"),
        http.put(f"/conversations/{id}", json=talk),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert http.post("/conversations", json={"messages": [{"role": "boss", "content": "x"}]}).status_code == 400


def test_what_is_deleted_leaves_the_file(tmp_path):
    place = tmp_path / "c.sqlite"
    store = Conversations(place)
    secret = Conversation(title="t", messages=[{"role": "user", "content": "a-secret-word " * 500}])
    store.put("", "1", secret)
    assert any(b"a-secret-word" in path.read_bytes() for path in tmp_path.iterdir())
    store.delete("", "1")
    assert not any(b"a-secret-word" in path.read_bytes() for path in tmp_path.iterdir())


def test_it_leaves_as_rows_that_training_reads(http, talk, tmp_path):
    id = http.post("/conversations", json=talk).json()["id"]
    with zipfile.ZipFile(io.BytesIO(http.get(f"/conversations/{id}/rows.zip").content)) as file:
        file.extractall(tmp_path / "out")
    modalities = registry.build_all(["text", "image", "audio"])
    (sample,) = read_rows(tmp_path / "out/train.jsonl", modalities)
    question, answer = sample.messages
    assert [part.type for part in question.parts] == ["text", "image", "audio"]
    assert answer.parts[0].value == "a carrot"
    for part in question.parts[1:]:
        assert modalities[part.type].read(part).blocks


def test_pictures_of_the_responses_api_leave_with_it(http, talk, tmp_path):
    (address,) = [part["image_url"]["url"] for part in talk["messages"][0]["content"] if part["type"] == "image_url"]
    asked = {
        "role": "user",
        "content": [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": address}],
    }
    id = http.post("/conversations", json=talk | {"messages": [asked, talk["messages"][1]]}).json()["id"]
    with zipfile.ZipFile(io.BytesIO(http.get(f"/conversations/{id}/rows.zip").content)) as file:
        file.extractall(tmp_path / "out")
    (sample,) = read_rows(tmp_path / "out/train.jsonl", registry.build_all(["text", "image"]))
    assert [part.type for part in sample.messages[0].parts] == ["text", "image"]
    assert http.get(f"/conversations/{id}/page.html").text.count("<img") == 1
    refused = http.post(
        "/conversations",
        json=talk
        | {"messages": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/a.png"}]}]},
    )
    assert refused.status_code == 400


def test_it_leaves_as_one_page_in_which_nothing_runs(http, talk):
    id = http.post("/conversations", json=talk).json()["id"]
    answer = http.get(f"/conversations/{id}/page.html")
    assert "<script" not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert answer.text.count("<img") == answer.text.count("<audio") == 1
    assert "attachment" in answer.headers["content-disposition"]


def test_what_people_liked_better_leaves_as_rows(http, talk, tmp_path):
    question, answer = talk["messages"][:2]
    body = {
        "messages": [question],
        "chosen": answer,
        "rejected": {"role": "assistant", "content": "a stone"},
        "models": ["a", "b"],
    }
    for told in (body, body, body | {"models": ["b", "a"]}, body | {"equal": True}):
        assert http.post("/preferences", json=told).status_code == 200
    assert http.get("/preferences").json()["data"] == [
        {"chosen": "a", "rejected": "b", "equal": False, "count": 2},
        {"chosen": "a", "rejected": "b", "equal": True, "count": 1},
        {"chosen": "b", "rejected": "a", "equal": False, "count": 1},
    ]
    with zipfile.ZipFile(io.BytesIO(http.get("/preferences/rows.zip").content)) as file:
        rows = [json.loads(line) for line in file.read("train.jsonl").splitlines()]
        media = [part["image"] for row in rows for part in row["prompt"][0]["content"] if part["type"] == "image"]
        assert all(file.read(name) for name in media)
        file.extractall(tmp_path)
    assert len(rows) == len(media) == 3, "of two that are equal neither is better"
    for row in read_rows(tmp_path / "train.jsonl", registry.build_all(registry.available())):
        assert [message.role for message in row.messages] == ["user", "assistant"]
        assert [own[-1].parts[0].value for own in (row.messages, row.rejected)] == ["a carrot", "a stone"]
    assert http.post("/preferences", json=body | {"messages": []}).status_code == 400


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url"},
        {"type": "image_url", "image_url": {"url": "http://x/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}},
    ],
)
def test_what_could_not_leave_again_is_not_stored(http, part):
    answer = http.post("/conversations", json={"messages": [{"role": "user", "content": [part]}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("messages[0]")


def test_names_of_media_stay_in_their_folder_and_nothing_runs(http):
    bad = 'x"><script>alert(1)</script>'
    parts = [
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "/../../../evil"}},
        {"type": bad, bad: {"data": "QUJD", "format": bad}},
    ]
    id = http.post(
        "/conversations", json={"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "x"}]}
    ).json()["id"]
    with zipfile.ZipFile(io.BytesIO(http.get(f"/conversations/{id}/rows.zip").content)) as file:
        assert sorted(file.namelist()) == ["media/0-0.bin", "media/0-1.bin", "train.jsonl"]
    assert "<script" not in http.get(f"/conversations/{id}/page.html").text


def test_the_file_is_its_owners_alone(tmp_path):
    Conversations(tmp_path / "mine" / "c.sqlite")
    assert (tmp_path / "mine").stat().st_mode & 0o077 == 0
    assert (tmp_path / "mine" / "c.sqlite").stat().st_mode & 0o077 == 0


def test_every_key_has_its_own(tmp_path, talk):
    (tmp_path / "keys.txt").write_text(f"anna {hashed('a')}\nben {hashed('b')}\n")
    access = Access(read_keys(tmp_path / "keys.txt"))
    with serving(access=access, conversations=tmp_path / "c.sqlite") as (url, _), httpx.Client(base_url=url) as http:
        anna, ben = ({"Authorization": f"Bearer {key}"} for key in "ab")
        id = http.post("/conversations", json=talk, headers=anna).json()["id"]
        assert http.get("/conversations", headers=ben).json() == {"data": []}
        assert http.get(f"/conversations/{id}", headers=ben).status_code == 404
        assert http.put(f"/conversations/{id}", json=talk, headers=ben).status_code == 404
        assert http.delete(f"/conversations/{id}", headers=ben).status_code == 404
        assert http.get(f"/conversations/{id}", headers=anna).status_code == 200
        assert http.get("/conversations").status_code == 401


def test_a_kill_loses_nothing(tmp_path):
    """Stores until it is killed; what it had said to be stored is there."""
    code = (
        "import sys; from pathlib import Path; from plait.serve.openai.conversations import *\n"
        "store = Conversations(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    store.put('', str(n), Conversation(title=str(n), messages=[{'role': 'user', 'content': 'x' * 5000}]))\n"
        "    print(n, flush=True)\n"
    )
    place = tmp_path / "c.sqlite"
    writer = subprocess.Popen((sys.executable, "-c", code, str(place)), stdout=subprocess.PIPE, text=True)
    said = [writer.stdout.readline().strip() for _ in range(40)]
    os.kill(writer.pid, signal.SIGKILL)
    said += writer.stdout.read().split()
    writer.stdout.close()
    writer.wait()
    store = Conversations(place)
    assert all(len(store.get("", id)["messages"][0]["content"]) == 5000 for id in said if id)


def test_a_place_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(ConfigError, match="--conversations"):
        Conversations(tmp_path / "text")
    with pytest.raises(ConfigError, match="--conversations"):
        Conversations(tmp_path / "text" / "c.sqlite")


def test_a_key_is_shown_once_and_kept_as_its_hash(tmp_path):
    place = tmp_path / "keys.txt"

    def add(name):
        return CliRunner().invoke(cli, ["key", name, "--keys", str(place)])

    key = add("anna").output.strip()
    add("ben")
    assert read_keys(place)[hashed(key)] == "anna"
    assert sorted(read_keys(place).values()) == ["anna", "ben"]
    assert key not in place.read_text()
    place.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="a file of keys"):
        read_keys(place)
    assert place.stat().st_mode & 0o077 == 0
    assert isinstance(add("anna").exception, ConfigError)
    assert isinstance(add("a b").exception, ConfigError)


def test_a_server_that_others_reach_needs_keys():
    result = CliRunner().invoke(cli, ["serve", "--host", "0.0.0.0"])
    assert isinstance(result.exception, ConfigError)
    assert "plait key" in str(result.exception)
