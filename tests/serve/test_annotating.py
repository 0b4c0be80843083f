"""Annotation over HTTP and in a real browser."""

import contextlib
import json
import shutil
import time

import httpx2 as httpx
import numpy as np
import pytest
import soundfile
from conftest import listening
from PIL import Image

from plait.annotate.kinds import Question
from plait.api import annotating
from plait.runtime.database import StorageError
from plait.serve.annotating import create_app
from plait.serve.guard import Access
from plait.serve.keys import hashed

LABELS = Question("label", "Which is it?", ("cat", "dog"))
BROWSER = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs chromium and chromium-driver"
)


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        Image.fromarray(np.full((80, 120, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


@contextlib.contextmanager
def asking(folder, question=LABELS, plan=None, access=None):
    """Address and project of a server that asks about a folder."""
    project = annotating.open_project(folder, question, plan or ["overlap=2", "gold_every=0"], lambda line: None)
    try:
        with listening(create_app(project, folder, access)) as url:
            yield url, project
    finally:
        project.store.close()


def post(url, path, **body):
    return httpx.post(f"{url}/annotate/{path}", json=body)


def test_an_item_is_asked_shown_and_answered(folder):
    with asking(folder) as (url, project):
        told = post(url, "next", person="ann").json()
        item = told["item"]
        (part,) = item["messages"][0]["parts"]
        picture = httpx.get(url + part["url"])
        assert picture.headers["content-type"] == "image/png"
        assert picture.content == (folder / "0.png").read_bytes()
        answer = {"id": "1", "item": item["id"], "value": "cat", "seconds": 1.5, "person": "ann"}
        after = post(url, "answers", **answer).json()
        assert after["is_new"]
        assert after["item"]["id"] != item["id"]
        again = post(url, "answers", **answer).json()
        assert not again["is_new"], "a double submit"
        assert again["item"]["id"] == after["item"]["id"]
        assert post(url, "undo", person="ann", id="2").json()["item"]["id"] == item["id"]
        assert project.answers_of(item["id"]) == {}


def test_nobody_sees_what_others_say_or_which_items_are_known(folder):
    with asking(folder) as (url, project):
        id = next(iter(project.items))
        post(url, "answers", id="1", item=id, value="dog", person="ann")
        item = post(url, "next", person="ben").json()["item"]
        assert item["id"] == id
        assert "dog" not in json.dumps(item)
        assert set(item) == {"id", "messages", "answers", "guesses", "answered"}


def test_keys_name_persons_and_reviewers_decide(folder):
    access = Access({hashed("k-ann"): "ann", hashed("k-eve"): "eve"})
    plan = ["overlap=1", "gold_every=0", "reviewers=eve"]
    with asking(folder, plan=plan, access=access) as (url, project):
        assert post(url, "next", person="eve").status_code == 401

        def as_(name, method, path, **body):
            return httpx.request(
                method, f"{url}/annotate/{path}", json=body or None, headers={"Authorization": f"Bearer k-{name}"}
            )

        item = as_("ann", "POST", "next", person="eve").json()["item"]["id"]
        as_("ann", "POST", "answers", id="1", item=item, value="cat", person="eve")
        assert project.answers_of(item) == {"ann": "cat"}, "the key says who it is"
        assert as_("ann", "GET", "statistics").status_code == 403
        assert as_("ann", "GET", "disputes?person=eve").status_code == 403
        refused = as_("ann", "POST", "decisions", id="2", item=item, value="dog")
        assert refused.status_code == 403
        assert not project.decided
        assert as_("eve", "POST", "decisions", id="3", item=item, value="dog").status_code == 200
        assert as_("eve", "GET", "statistics").json()["decided"] == 1


def test_what_does_not_fit_is_said(folder):
    with asking(folder) as (url, project):
        id = next(iter(project.items))
        for body, words in (
            ({"id": "1", "item": id, "value": "fish", "person": "ann"}, "expected one of cat, dog"),
            ({"id": "1", "item": "x", "value": "cat", "person": "ann"}, "ask for the next"),
            ({"id": "1", "item": id, "value": "cat"}, "printable"),
            ({"id": "1", "item": id, "value": "cat", "person": "ann", "seconds": -1}, "seconds"),
            ({"id": "1", "item": id, "value": [[[]] * 5], "person": "ann"}, "expected a text"),
        ):
            answer = post(url, "answers", **body)
            assert answer.status_code == (404 if body["item"] == "x" else 400), body
            assert words in answer.json()["error"]["message"]
        assert httpx.get(f"{url}/annotate/items/{id}/media/7").status_code == 404
        (folder / "0.png").unlink()
        assert httpx.get(f"{url}/annotate/items/{id}/media/0").status_code == 404
        assert not project.store.events()


def test_a_full_disk_is_said_so_that_the_page_sends_it_again(folder, monkeypatch):
    with asking(folder) as (url, project):

        def full(events):
            raise StorageError("database or disk is full")

        id = next(iter(project.items))
        append = project.store.append
        monkeypatch.setattr(project.store, "append", full)
        answer = post(url, "answers", id="1", item=id, value="cat", person="ann")
        assert answer.status_code == 507
        monkeypatch.setattr(project.store, "append", append)
        assert post(url, "answers", id="1", item=id, value="cat", person="ann").json()["is_new"]


def test_sound_and_odd_pictures_are_shown(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "b.tiff")
    with asking(tmp_path, Question("transcribe", "")) as (url, project):
        kinds = []
        for id in project.items:
            answer = httpx.get(f"{url}/annotate/items/{id}/media/0")
            assert answer.status_code == 200
            kinds.append(answer.headers["content-type"])
        assert kinds == ["audio/wav", "image/png"]


@pytest.fixture
def browse():
    """Opens pages in browsers of their own, and closes them."""
    from test_pages import Page

    opened = []

    def browse(url):
        opened.append(Page(url))
        opened[-1].open()
        return opened[-1]

    yield browse
    for page in opened:
        page.driver.quit()


def enter_name(page, name):
    page.enter("#name-value", name)
    page.click("#name button")


def press(page, keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page.driver).send_keys(keys).perform()


def wait_for(true):
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@BROWSER
def test_two_people_label_by_keyboard_and_a_third_decides(folder, browse):
    with asking(folder) as (url, project):
        for name, keys in (("Ann", "1212"), ("Ben", "1112")):
            page = browse(url)
            enter_name(page, name)
            for number, key in enumerate(keys, 1):
                page.one(".ask", "Which is it?")
                wait_for(
                    lambda page=page: (
                        page.driver.execute_script("return document.querySelector('.work img')?.naturalWidth") == 120
                    )
                )
                press(page, key)
                page.one(".soft", f"yours {number}")
            page.one(".ask", "Nothing is left")
        assert [list(project.answers_of(id).values()) for id in project.items] == [
            ["cat", "cat"],
            ["dog", "cat"],
            ["cat", "cat"],
            ["dog", "dog"],
        ]
        page.open("/#review")
        page.one(".dispute", "Ann: dog")
        press(page, "")
        page.click(".dispute button", "cat")
        page.one(".dispute", "Decided.")
        page.open("/#overview")
        page.one("#alpha", "0.")
        (decided,) = project.decided.values()
        assert (decided.person, decided.value) == ("Ben", "cat")
        assert not [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]


@BROWSER
def test_a_key_that_is_held_answers_once(folder, browse):
    held = (
        "dispatchEvent(new KeyboardEvent('keydown', {key: '2', repeat: arguments[0], bubbles: true, cancelable: true}))"
    )
    with asking(folder) as (url, project):
        page = browse(url)
        enter_name(page, "Ann")
        page.one(".work img")
        page.driver.execute_script(held, False)
        page.one(".soft", "yours 1")
        for _ in range(3):
            page.driver.execute_script(held, True)
            time.sleep(0.2)
        assert sum(map(len, map(project.answers_of, project.items))) == 1
        page.driver.execute_script(held, False)
        page.one(".soft", "yours 2")


@BROWSER
def test_digits_have_their_own_keys_and_a_reviewer_decides_by_keys(folder, browse):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    inside = "return document.activeElement.querySelectorAll('.options button').length"
    with asking(folder, Question("label", "Which digit?", ("7", "1", "0"))) as (url, project):
        for name, keys in (("Ann", "7717"), ("Ben", "1107")):
            page = browse(url)
            enter_name(page, name)
            for number, key in enumerate(keys, 1):
                page.one(".work img")
                assert page.all_text("kbd")[:3] == ["7", "1", "0"]
                press(page, key)
                page.one(".soft", f"yours {number}")
        assert [list(project.answers_of(id).values()) for id in project.items] == [
            ["7", "1"],
            ["7", "1"],
            ["1", "0"],
            ["7", "7"],
        ]
        page.open("/#review")
        page.one(".ask", "People disagree: 3")
        wait_for(lambda: len(page.all(".dispute .options")) == 3)
        for left, key in ((2, "7"), (1, "0"), (0, "1")):
            press(page, key)
            page.one(".ask", f"People disagree: {left}")
            if left:
                wait_for(lambda page=page: page.driver.execute_script(inside) == 3)
        assert sorted(vote.value for vote in project.decided.values()) == ["0", "1", "7"]
        ActionChains(page.driver).key_down(Keys.ALT).send_keys("uu").key_up(Keys.ALT).perform()
        page.one(".ask", "People disagree: 1")
        wait_for(lambda: len(page.all(".dispute .options")) == 1)
        assert len(project.decided) == 2, "the second came while the first was under way"


@BROWSER
def test_what_will_not_do_is_said_and_mended_by_keys(tmp_path, browse):
    """An empty text is refused; what was begun is not lost on the way to another page without a question."""
    from selenium.webdriver.common.keys import Keys

    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    with asking(tmp_path, Question("transcribe", ""), ["overlap=1", "gold_every=0"]) as (url, project):
        page = browse(url)
        enter_name(page, "Ann")
        page.one("textarea").send_keys(Keys.ENTER)
        page.one(".failed", "got ''")
        page.one("textarea").send_keys("yes")
        page.click("nav a", "Overview")
        wait_for(lambda: "will be lost" in page.alert())
        page.driver.switch_to.alert.dismiss()
        assert page.one("textarea").get_attribute("value") == "yes"
        assert page.driver.current_url.endswith("#work")
        page.click("nav a", "Label")
        assert page.one("textarea").get_attribute("value") == "yes", "it is shown already"
        page.one("textarea").send_keys(Keys.ENTER)
        page.one(".ask", "Nothing is left")
        assert [list(project.answers_of(id).values()) for id in project.items] == [["yes"]]


@BROWSER
def test_enter_on_a_link_decides_nothing(folder, browse):
    box = [{"label": "cat", "box": [100, 100, 300, 300]}]
    with asking(folder, Question("box", "", ("cat", "dog"))) as (url, project):
        for person, value in (("Ann", box), ("Ben", [])):
            project.say("answer", next(iter(project.items)), person, value, person)
        page = browse(url)
        enter_name(page, "Eve")
        page.open("/#review")
        page.one(".dispute .places")
        page.driver.execute_script("arguments[0].focus()", page.one("nav a", "Overview"))
        press(page, "\ue007")
        page.one("#alpha")
        assert not project.decided
        page.open("/#review")
        page.one(".dispute .places")
        press(page, "\ue007")  # the one that is framed
        page.one(".dispute", "Decided.")
        assert len(project.decided) == 1


@BROWSER
def test_a_label_that_has_the_focus_is_chosen_by_enter(folder, browse):
    with asking(folder, Question("box", "", ("cat", "dog")), ["overlap=1", "gold_every=0"]) as (url, project):
        page = browse(url)
        enter_name(page, "Ann")
        page.one(".places")
        press(page, "n")
        page.driver.execute_script("arguments[0].focus()", page.one(".options button", "dog"))
        press(page, "\ue007")
        page.one(".boxes button", "dog [")
        page.driver.execute_script("document.activeElement.blur()")
        press(page, "\ue007")
        page.one(".soft", "yours 1")
        assert [
            each["label"]
            for answers in map(project.answers_of, project.items)
            for value in answers.values()
            for each in value
        ] == ["dog"]


@BROWSER
def test_a_choice_is_told_as_the_reviewer_sees_it(tmp_path, browse):
    """Sides may be swapped: `first` would name the wrong one."""
    rows = [{"prompt": f"Say {word}.", "chosen": f"{word}!", "rejected": f"{word}?"} for word in ("one", "two", "ten")]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with asking(tmp_path, Question("choose", "")) as (url, project):
        for person, value in (("Ann", "first"), ("Ben", "second")):
            for id in project.items:
                project.say("answer", id, person, value, f"{person}{id}")
        page = browse(url)
        enter_name(page, "Eve")
        page.open("/#review")
        wait_for(lambda: len(page.all(".dispute .options")) == 3)
        for dispute in page.all(".dispute"):
            left, right = (each.text for each in dispute.find_elements("css selector", ".answers article"))
            sides = {"left" if "!" in left else "right": "Ann", "left" if "?" in left else "right": "Ben"}
            assert {left[-1], right[-1]} == {"!", "?"}
            for side, name in sides.items():
                assert f"{name}: The {side} one is better" in dispute.text


@BROWSER
def test_what_was_written_stays_when_the_language_is_another(tmp_path, browse):
    from selenium.webdriver.support.ui import Select

    rows = [{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5"}]}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with asking(tmp_path, Question("correct", ""), ["overlap=1", "gold_every=0"]) as (url, project):
        page = browse(url)
        enter_name(page, "Ann")
        page.one("textarea").clear()
        page.one("textarea").send_keys("4, of course")
        Select(page.one("#language")).select_by_value("zh")
        page.one("nav a", "标注")
        page.one("textarea").send_keys("!")
        page.click("button.primary")
        page.one(".ask", "谢谢")
        assert [list(project.answers_of(id).values()) for id in project.items] == [["4, of course!"]]


@BROWSER
def test_undo_skip_and_a_server_that_fails(folder, browse, monkeypatch):
    with asking(folder) as (url, project):
        page = browse(url)
        enter_name(page, "Ann")
        page.one(".work img")
        press(page, "2")
        page.one(".soft", "yours 1")
        page.click("button", "Undo")
        page.one(".soft", "yours 0")
        page.one('button[aria-pressed="false"]', "dog")

        def full(events):
            raise StorageError("the disk is full")

        append = project.store.append
        monkeypatch.setattr(project.store, "append", full)
        press(page, "1")
        page.one(".failed", "the disk is full")
        monkeypatch.setattr(project.store, "append", append)
        page.click(".failed button", "Try again")
        page.one(".soft", "yours 1")
        page.click("button", "Pass over")
        wait_for(lambda: len(project.store.events()) == 4)
        first, second, *_ = project.items
        assert project.answers_of(first) == {"Ann": "cat"}
        assert not project.votes[second]["Ann"].is_answer


@BROWSER
def test_boxes_are_drawn_with_the_pointer_and_with_keys(folder, browse):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    with asking(folder, Question("box", "", ("cat", "dog")), ["gold_every=0"]) as (url, project):
        page = browse(url)
        enter_name(page, "Ann")
        page.one(".places")
        (layer,) = page.all(".places svg")
        wait_for(lambda: layer.size["height"] > 50)
        width, height = layer.size["width"], layer.size["height"]
        ActionChains(page.driver).move_to_element_with_offset(
            layer, -width // 4, -height // 4
        ).click_and_hold().move_by_offset(width // 2, height // 2).release().perform()
        page.one(".boxes li", "cat [")
        press(page, "n")
        press(page, "2")
        press(page, Keys.ARROW_LEFT)
        press(page, Keys.ENTER)
        page.one(".soft", "yours 1")
        (value,) = project.answers_of(next(iter(project.items))).values()
        assert [box["label"] for box in value] == ["cat", "dog"]
        assert value[0]["box"] == pytest.approx([250, 250, 750, 750], abs=25)
        assert value[1]["box"] == [390, 400, 590, 600]


@BROWSER
def test_speech_is_transcribed_in_any_script(tmp_path, browse):
    from selenium.webdriver.common.keys import Keys

    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    with asking(tmp_path, Question("transcribe", "What is said?"), ["gold_every=0"]) as (url, project):
        page = browse(url)
        enter_name(page, "علي")
        text = page.one("textarea")
        text.send_keys("你好 ")
        text.send_keys(Keys.SHIFT, Keys.ENTER)
        text.send_keys("مرحبا")
        text.send_keys(Keys.ENTER)
        page.one(".ask", "Nothing is left")
        assert project.answers_of(next(iter(project.items))) == {"علي": "你好 \nمرحبا"}


def test_the_known_answer_is_never_shown(tmp_path):
    rows = [
        {
            "messages": [{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": "cat"}],
            "meta": {"gold": True},
        }
        for n in range(2)
    ]
    (tmp_path / "train.jsonl").write_text(
        "\n".join(map(json.dumps, [*rows, {"messages": [{"role": "user", "content": "Q"}]}]))
    )
    with asking(tmp_path, plan=["gold_every=1"]) as (url, project):
        shown = post(url, "next", person="ann").json()["item"]
        assert project.items[shown["id"]].gold == "cat"
        assert "cat" not in json.dumps(shown)


def test_guesses_and_answers_are_kept_at_once(folder):
    """Threads that guess, and threads that answer, share one connection."""
    import threading

    from plait.annotate.project import Project
    from plait.annotate.store import ANSWER, Prediction

    project = annotating.open_project(folder, LABELS, ["gold_every=0"], lambda line: None)
    ids, errors, stop = list(project.items), [], threading.Event()

    def guess():
        while not stop.is_set():
            try:
                project.add_predictions([Prediction(id, "m", "cat", 0.5) for id in ids])
            except Exception as error:
                errors.append(error)

    def answer(person):
        for number in range(40):
            try:
                project.say(ANSWER, ids[number % 4], person, "cat", f"{person}{number}")
            except Exception as error:
                errors.append(error)

    guessing = threading.Thread(target=guess)
    threads = [threading.Thread(target=answer, args=(f"p{n}",)) for n in range(4)]
    for thread in (guessing, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    guessing.join()
    assert not errors
    assert len(project.store.events()) == 160
    again = Project(project.store)
    assert [again.answers_of(id) for id in ids] == [project.answers_of(id) for id in ids]
    project.store.close()


def test_a_link_out_of_the_folder_is_decoded_first(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.png").write_text("root:x:0:0")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(outside / "fine.png")
    (folder / "secret.png").symlink_to(outside / "secret.png")
    (folder / "fine.png").symlink_to(outside / "fine.png")
    with asking(folder) as (url, project):
        by_name = {item.row["messages"][0]["content"][0]["image"]: id for id, item in project.items.items()}
        refused = httpx.get(f"{url}/annotate/items/{by_name['secret.png']}/media/0")
        assert refused.status_code == 400
        assert b"root:x" not in refused.content
        assert httpx.get(f"{url}/annotate/items/{by_name['fine.png']}/media/0").status_code == 200


@BROWSER
def test_a_picture_that_cannot_be_shown_gets_no_label(folder, browse):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    with asking(folder, plan=["gold_every=0"]) as (url, project):
        page = browse(url)
        enter_name(page, "Ann")
        page.one(".work img")
        (folder / "1.png").unlink()
        (folder / "2.png").write_text("broken")
        press(page, "1")
        page.one(".failed", "cannot be shown")
        press(page, "2")  # means nothing now
        for count in (2, 3):
            while len(project.store.events()) < count:
                ActionChains(page.driver).key_down(Keys.ALT).send_keys("s").key_up(Keys.ALT).perform()
                time.sleep(0.2)
        page.one(".work img")
        first, second, third, _ = project.items
        assert project.answers_of(first) == {"Ann": "cat"}
        assert project.answers_of(second) == project.answers_of(third) == {}
        press(page, "2")
        page.one(".ask", "Nothing is left")


@BROWSER
def test_undo_of_nothing_asks_on(folder, browse):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    with asking(folder) as (url, project):
        page = browse(url)
        enter_name(page, "Ann")
        page.one(".work img")
        ActionChains(page.driver).key_down(Keys.ALT).send_keys("u").key_up(Keys.ALT).perform()
        press(page, "1")
        page.one(".soft", "yours 1")
        assert post(url, "undo", person="ben", id="u1").json()["item"] is not None
        assert len(project.store.events()) == 1
