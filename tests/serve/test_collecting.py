"""A collection over HTTP and in a real browser."""

import base64
import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
import time

import httpx2 as httpx
import numpy as np
import pytest
import soundfile
from conftest import listening
from PIL import Image, ImageDraw

from plait.api import collecting
from plait.runtime.database import StorageError
from plait.serve.collecting import create_app
from plait.serve.guard import Access
from plait.serve.keys import hashed

BROWSER = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs chromium and chromium-driver"
)
PROMPTS = """{"type": "image", "prompt": "Draw seven.", "how": "draw", "label": "seven"}
{"type": "text", "prompt": "Write a sentence about rain."}
{"type": "audio", "prompt": "Say: seven", "how": "record", "label": "seven"}
"""


def speech(seconds=1.0, level=0.3, noise=1e-4, seed=0):
    """A tone with silence around it, as WAV."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16000)) / 16000
    tone = np.where((time > 0.2 * seconds) & (time < 0.8 * seconds), np.sin(2 * np.pi * 300 * time), 0)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(level * tone + noise * rng.standard_normal(len(time)), -1, 1), 16000, format="WAV")
    return buffer.getvalue()


def photograph(seed=0):
    """A JPEG that says where it was taken, and by which camera."""
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 48, 3), np.uint8))
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def url_of(data, kind):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "p.jsonl").write_text(PROMPTS)
    return tmp_path / "p.jsonl"


@contextlib.contextmanager
def giving(prompts, plan=None, access=None):
    """Address and collection of a server."""
    collection = collecting.open_collection(prompts, plan or ["per_prompt=3"])
    with listening(create_app(collection, access)) as url:
        yield url, collection


def post(url, path, **body):
    return httpx.post(f"{url}/collect/{path}", json=body, timeout=90)


def agree(url, person, purposes=("train",)):
    version = httpx.get(f"{url}/collect/project").json()["consent"]["version"]
    assert post(url, "consents", person=person, version=version, purposes=list(purposes)).status_code == 200


def prompt_of(collection, kind):
    return next(prompt.id for prompt in collection.prompts.values() if prompt.type == kind)


def test_nothing_is_taken_before_a_consent(prompts):
    with giving(prompts) as (url, collection):
        body = {"id": "a1", "prompt": prompt_of(collection, "text"), "words": "It rains.", "person": "ann"}
        refused = post(url, "items", **body)
        assert refused.status_code == 400
        assert "consent" in refused.json()["error"]["message"]
        version = httpx.get(f"{url}/collect/project").json()["consent"]["version"]
        for purposes, words in (
            ([], "not agreed to"),
            (["share"], "not agreed to"),
            (["train", "sell"], "expected some of"),
        ):
            assert (
                words
                in post(url, "consents", person="ann", version=version, purposes=purposes).json()["error"]["message"]
            )
        assert (
            "read the text again"
            in post(url, "consents", person="ann", version="old", purposes=["train"]).json()["error"]["message"]
        )
        agree(url, "ann")
        assert post(url, "items", **body).status_code == 200
        assert post(url, "items", **body).status_code == 200, "a double submit"
        assert collection.status()["items"] == 1


def test_media_are_kept_without_what_their_files_say_beside(prompts):
    with giving(prompts) as (url, collection):
        agree(url, "ann")
        given = post(
            url,
            "items",
            id="a1",
            prompt=prompt_of(collection, "image"),
            data=url_of(photograph(), "image/jpeg"),
            person="ann",
        )
        assert given.status_code == 200, given.text
        (path,) = (collection.folder / "media").iterdir()
        assert not dict(Image.open(path).getexif())
        assert b"SecretCamera" not in path.read_bytes()
        shown = httpx.get(url + given.json()["item"]["url"], params={"person": "ann"})
        assert shown.headers["content-type"] == "image/png"
        again = post(
            url,
            "items",
            id="a2",
            prompt=prompt_of(collection, "image"),
            data=url_of(photograph(), "image/jpeg"),
            person="ann",
        )
        assert again.status_code == 422
        assert "given before" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("audio", speech(level=0.001), "too quiet"),
        ("audio", speech(level=1.5), "clipped"),
        ("audio", speech(noise=0.2), "noisy"),
        ("audio", speech(seconds=0.1), "lasts 0.1 s"),
        ("audio", b"RIFF", "audio"),
        ("image", b"", "no bytes"),
    ],
)
def test_what_will_not_do_is_said(prompts, kind, data, words):
    with giving(prompts) as (url, collection):
        agree(url, "ann")
        refused = post(
            url, "items", id="a1", prompt=prompt_of(collection, kind), data=url_of(data, f"{kind}/x"), person="ann"
        )
        assert refused.status_code in (400, 422)
        assert words in refused.json()["error"]["message"]
        assert not list((collection.folder / "media").iterdir())


def test_a_good_recording_is_taken_and_two_others_accept_it(prompts):
    with giving(prompts) as (url, collection):
        agree(url, "ann")
        given = post(
            url,
            "items",
            id="a1",
            prompt=prompt_of(collection, "audio"),
            data=url_of(speech(), "audio/wav"),
            person="ann",
        )
        assert given.status_code == 200, given.text
        for person in ("ben", "cid", "dan"):
            agree(url, person)
        assert post(url, "reviews/next", person="ann").json()["item"] is None, "nobody reviews their own"
        assert post(url, "votes", person="ben", item="none", is_good=True).status_code == 404
        assert "before a review" in post(url, "votes", person="eve", item="a1", is_good=True).json()["error"]["message"]
        assert "your own" in post(url, "votes", person="ann", item="a1", is_good=True).json()["error"]["message"]
        item = post(url, "reviews/next", person="ben").json()["item"]
        assert set(item) == {"id", "type", "prompt", "url"}, "without whose it is"
        assert post(url, "votes", person="ben", item="a1", is_good=True).json()["standing"] == "open"
        assert post(url, "votes", person="ben", item="a1", is_good=True).json()["standing"] == "open", (
            "one vote a person"
        )
        assert post(url, "votes", person="cid", item="a1", is_good=True).json()["standing"] == "accepted"
        assert post(url, "reviews/next", person="dan").json()["item"] is None
        assert "settled" in post(url, "votes", person="dan", item="a1", is_good=False).json()["error"]["message"]


def test_taking_back_over_http(prompts):
    with giving(prompts) as (url, collection):
        for person in ("ann", "ben"):
            agree(url, person)
            post(
                url,
                "items",
                id=f"{person}1",
                prompt=prompt_of(collection, "text"),
                words=f"It rains on {person}.",
                person=person,
            )
        assert post(url, "withdrawals", person="ben", items=["ann1"]).json()["items"] == [], (
            "another's cannot be taken back"
        )
        assert post(url, "withdrawals", person="ann").json()["items"] == ["ann1"]
        assert [item.id for item in collection.all_items()] == ["ben1"]
        assert httpx.get(f"{url}/collect/project?person=ann").json()["agreed"] == []
        assert httpx.get(f"{url}/collect/items/ann1/medium").status_code == 404
        for path in collection.folder.rglob("*"):
            assert not path.is_file() or b"It rains on ann" not in path.read_bytes()


def test_keys_say_who_gives(prompts):
    access = Access({hashed("k"): "ann"})
    with giving(prompts, access=access) as (url, collection):
        assert post(url, "next", person="ann").status_code == 401
        headers = {"Authorization": "Bearer k"}
        version = httpx.get(f"{url}/collect/project", headers=headers).json()["consent"]["version"]
        httpx.post(
            f"{url}/collect/consents",
            json={"person": "ben", "version": version, "purposes": ["train"]},
            headers=headers,
        )
        assert collection.purposes("ann") == ("train",)
        assert collection.purposes("ben") == ()


def wait_for(true, page):
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until, page.all_text("body")
        time.sleep(0.02)


@BROWSER
def test_giving_reviewing_and_taking_back_in_a_browser(prompts, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from test_pages import Page

    (tmp_path / "said.wav").write_bytes(speech(seconds=2.0))
    with giving(prompts, ["per_prompt=1", "votes=1"]) as (url, collection), contextlib.ExitStack() as pages:

        def browse(name):
            page = Page(url, f"--use-file-for-fake-audio-capture={tmp_path / 'said.wav'}")
            pages.callback(page.driver.quit)
            page.open()
            page.enter("#name-value", name)
            page.click("#name button")
            page.click("button", "I agree")
            page.one("[role=alert]", "nothing can be kept")
            page.click("input[value=train]")
            page.click("button", "I agree")
            page.one(".ask")  # it is kept by now
            return page

        page = browse("Ann")
        for _ in range(3):
            asked = page.all_text(".ask")
            (kind,) = [prompt.type for prompt in collection.prompts.values() if [prompt.words] == asked]
            if kind == "text":
                page.one("textarea").send_keys("Es regnet. 下雨了。")
            elif kind == "image":
                canvas = page.one("canvas")
                ActionChains(page.driver).move_to_element_with_offset(canvas, -80, -80).click_and_hold().move_by_offset(
                    160, 0
                ).move_by_offset(-80, 160).release().perform()
            else:
                page.click("button", "Record sound")
                page.one("[role=status]", "2.")
                page.click("button", "Stop recording")
                page.one("audio")
            page.click("button.give")
            wait_for(lambda asked=asked: page.all_text(".ask") != asked, page)
        page.one(".ask", "Nothing is wanted")
        assert {item.type for item in collection.all_items()} == {"text", "image", "audio"}
        (text,) = [item.words for item in collection.all_items() if item.type == "text"]
        assert text == "Es regnet. 下雨了。"
        other = browse("Ben")
        other.open("/#review")
        other.one("button", "It will do")
        until = time.monotonic() + 30
        while collection.status()["accepted"] < 3:  # one key an item, as they come
            ActionChains(other.driver).send_keys("1").perform()
            time.sleep(0.2)
            assert time.monotonic() < until, (other.all_text("body"), collection.status())
        page.open("/#mine")
        page.one("h2", "Yours: 3")
        page.click("button.all")
        page.driver.switch_to.alert.accept()
        page.one("h2", "Yours: 0")
        assert collection.status()["items"] == 0
        assert not list((collection.folder / "media").iterdir())
        assert not [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]


@BROWSER
def test_the_microphone_is_off_once_the_page_goes_on(tmp_path):
    """Whether by another prompt, another page, or a recording that is asked for while the page goes on."""
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("".join(json.dumps({"type": "audio", "prompt": f"Say: {word}"}) + "\n" for word in "abcd"))
    (tmp_path / "said.wav").write_bytes(speech(seconds=2.0))
    with giving(prompts) as (url, _), contextlib.ExitStack() as pages:
        page = agreed(pages, url, "Ann", f"--use-file-for-fake-audio-capture={tmp_path / 'said.wav'}")
        page.one(".ask", "Say")
        for number, away in enumerate(("button", "nav a", "slow")):
            page.watch_microphones(delay=500 if away == "slow" else 0)
            page.click("button", "Record sound")
            if away != "slow":
                page.one("button", "Stop recording")
                assert page.microphones()[number] == "live"
            page.click("nav a" if away == "nav a" else "button", "Yours" if away == "nav a" else "Another one")
            if away == "nav a":
                wait_for(lambda: page.alert(), page)
                page.driver.switch_to.alert.accept()
            wait_for(lambda count=number + 1: page.microphones() == ["ended"] * count, page)
            if away == "nav a":
                page.one("h2", "Yours")
                page.click("nav a", "Give")
                page.one("button", "Record sound")


@BROWSER
def test_another_name_and_another_language(tmp_path):
    """What was begun stays when the language is another; a name that was mistyped, or is another's, is changed on the page."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"type": "text", "prompt": "Describe rain."}\n')
    with giving(prompts) as (url, collection), contextlib.ExitStack() as pages:
        page = agreed(pages, url, "An")
        page.one("textarea").send_keys("It falls.")
        Select(page.one("#language")).select_by_value("zh")
        page.one("nav a", "贡献")
        assert page.one("textarea").get_attribute("value") == "It falls."
        page.click("#person")
        page.enter("#name-value", Keys.ESCAPE)
        assert page.one("textarea").get_attribute("value") == "It falls.", "nothing has changed"
        page.click("#person")
        page.until(lambda: page.one("#name-value").is_displayed())
        page.one("#name-value").clear()
        page.enter("#name-value", "Ann" + Keys.ENTER)
        page.until(lambda: page.alert())
        page.driver.switch_to.alert.accept()
        page.one(".consent", "译文")
        assert page.all_text("#person") == ["Ann"]
        page.click("input[value=train]")
        Select(page.one("#language")).select_by_value("en")
        page.one("button", "I agree")
        assert page.driver.execute_script("return document.querySelector('input[value=train]').checked")
        page.click("button", "I agree")
        page.enter("textarea", "It falls down.")
        page.click("button.give")
        page.one(".ask", "Nothing is wanted")
        assert [item.person for item in collection.all_items()] == ["Ann"]
        assert collection.purposes("Ann") == ("train",)


@BROWSER
def test_a_name_that_is_refused_changes_nothing_and_what_was_begun_is_asked_about(tmp_path):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"type": "text", "prompt": "Describe rain."}\n')

    def rename(name):
        page.click("#person")
        page.until(lambda: page.one("#name-value").is_displayed())
        page.driver.execute_script("document.getElementById('name-value').value = arguments[0]", name)
        page.click("#name button")

    with giving(prompts) as (url, _), contextlib.ExitStack() as pages:
        page = agreed(pages, url, "Ann")
        page.one("textarea")
        rename("Bob\u200b")
        page.until(lambda: "Bob" in page.alert())
        page.driver.switch_to.alert.accept()
        assert page.all_text("#person") == ["Ann"]
        page.one("textarea").send_keys("It falls.")
        rename("Ben")
        page.until(lambda: "will be lost" in page.alert())
        page.driver.switch_to.alert.dismiss()
        assert page.one("textarea").get_attribute("value") == "It falls."
        assert page.all_text("#person") == ["Ann"]
        page.click("button.give")
        page.one(".ask", "Nothing is wanted")
        page.click("nav a", "Yours")
        page.click("button.all")
        page.until(lambda: page.alert())
        page.driver.switch_to.alert.accept()
        page.one("h2", "Yours: 0")
        page.click("nav a", "Give")
        page.one("h2", "Before you give anything")
        assert not page.driver.execute_script("return document.querySelectorAll('input:checked').length"), (
            "a consent that was taken back is not ticked"
        )


def test_the_text_has_a_translation_and_a_text_of_ones_own_has_none(prompts, tmp_path):
    with giving(prompts) as (url, _):
        consent = httpx.get(f"{url}/collect/project").json()["consent"]
    assert "CC0-1.0" in consent["translations"]["zh"]["terms"]
    assert set(consent["translations"]["zh"]["purposes"]) == set(consent["purposes"])
    (tmp_path / "own.txt").write_text("What you give is kept by the school, for its model. " * 3)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "p.jsonl").write_text(PROMPTS)
    collection = collecting.open_collection(tmp_path / "two" / "p.jsonl", (), tmp_path / "own.txt")
    with listening(create_app(collection)) as url:
        consent = httpx.get(f"{url}/collect/project").json()["consent"]
    assert set(consent["translations"]["zh"]) == {"purposes"}


def test_a_drawing_without_a_line_is_none(prompts):
    with giving(prompts) as (url, collection):
        agree(url, "ann")
        buffer = io.BytesIO()
        picture = Image.new("RGB", (64, 64), "white")
        picture.save(buffer, "PNG")
        refused = post(
            url,
            "items",
            id="a1",
            prompt=prompt_of(collection, "image"),
            data=url_of(buffer.getvalue(), "image/png"),
            person="ann",
        )
        assert "nothing on it" in refused.json()["error"]["message"]
        ImageDraw.Draw(picture).line([10, 10, 50, 50], "black", 4)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        assert (
            post(
                url,
                "items",
                id="a2",
                prompt=prompt_of(collection, "image"),
                data=url_of(buffer.getvalue(), "image/png"),
                person="ann",
            ).status_code
            == 200
        )


def agreed(pages, url, name, *more):
    """The page of a person who has agreed to all that is needed."""
    from test_pages import Page

    page = Page(url, *more)
    pages.callback(page.driver.quit)
    page.open()
    page.enter("#name-value", name)
    page.click("#name button")
    page.click("input[value=train]")
    page.click("button", "I agree")
    page.one(".ask")  # it is kept by now
    return page


@contextlib.contextmanager
def killable(prompts, port):
    """A server in a process of its own, which is killed at the end."""
    command = [sys.executable, "-m", "plait", "collect", str(prompts), "--at", f"127.0.0.1:{port}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                    break
            assert time.monotonic() < until
            time.sleep(0.1)
        yield server
    finally:
        server.kill()
        server.wait()


@BROWSER
def test_a_server_that_is_killed_loses_nothing_that_was_made(tmp_path):
    """A page that outlives its server keeps what was written, in any script, and gives it to the next one, once."""
    prompts = tmp_path / "p.txt"
    prompts.write_text("Write about rain.\nWrite about snow.\n")
    collecting.open_collection(prompts, ["per_prompt=5"], kind="text", how="write")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with contextlib.ExitStack() as pages:
        with killable(prompts, port):
            page = agreed(pages, f"http://127.0.0.1:{port}", "דנה")
            page.one("textarea").send_keys("ฝนตก المطر 雨")
        page.click("button.give")
        page.one(".failed", "Not kept")
        assert page.one("textarea").get_property("value") == "ฝนตก المطر 雨"
        with killable(prompts, port):
            asked = page.all_text(".ask")
            page.click("button.give")
            wait_for(lambda: page.all_text(".ask") != asked, page)
    items = collecting.reopened(prompts).all_items()
    assert [(item.person, item.words) for item in items] == [("דנה", "ฝนตก المطر 雨")]


@BROWSER
def test_a_full_disk_is_said_on_the_page(tmp_path, monkeypatch):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"type": "text", "prompt": "Write about rain."}\n')
    with giving(prompts) as (url, collection), contextlib.ExitStack() as pages:
        page = agreed(pages, url, "Ann")
        page.one("textarea").send_keys("It rains.")

        def full(*arguments):
            raise StorageError("the disk is full: make room")

        insert = collection._insert
        monkeypatch.setattr(collection, "_insert", full)
        page.click("button.give")
        page.one(".failed", "make room")
        assert not collection.all_items()
        monkeypatch.setattr(collection, "_insert", insert)
        page.click("button.give")
        wait_for(lambda: len(collection.all_items()) == 1, page)
