"""The pages in a real browser: Debian's Chromium, driven by Selenium. Skipped where there is none."""

import base64
import json
import shutil
import time

import httpx2 as httpx
import pytest
from conftest import serving, small_model

from plait.serve.guard import Access
from plait.serve.keys import hashed

selenium = pytest.importorskip("selenium")
from selenium.common.exceptions import NoAlertPresentException, StaleElementReferenceException  # noqa: E402
from selenium.webdriver import Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")
PATIENCE = 30  # seconds
WATCH = """window.delay = arguments[0];
if (!window.streams) {
    window.streams = [];
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (...all) => {
        await new Promise((done) => setTimeout(done, window.delay));
        const stream = await ask(...all);
        window.streams.push(stream);
        return stream;
    };
}"""


class Page:
    """A browser with a page of the server."""

    def __init__(self, url, *more):
        options = ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--lang=en", "--disable-dev-shm-usage",
            "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required", *more,
        ):  # fmt: skip
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.url, self.driver = url, Chrome(options=options, service=Service(DRIVER))

    def open(self, where="/"):
        self.driver.get("about:blank")
        self.driver.get(self.url + where)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, words=""):
        """The first element that comes to hold some words."""
        found = (
            "return [...document.querySelectorAll(arguments[0])].find((each) => each.innerText.includes(arguments[1]))"
        )
        until = time.monotonic() + PATIENCE
        while (element := self.driver.execute_script(found, selector, words)) is None:
            assert time.monotonic() < until, f"no {selector} with {words!r}: {self.all_text('body')}"
            time.sleep(0.05)
        return element

    def enter(self, selector, words):
        """Words, where they can be entered once the field is shown."""
        self.until(lambda: self.one(selector).is_displayed())
        self.one(selector).send_keys(words)

    def all_text(self, selector):
        """What all elements say, at one moment."""
        script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText)"
        return self.driver.execute_script(script, selector)

    def click(self, selector, words=""):
        self.one(selector, words).click()

    def named(self, label):
        return self.one(f'[aria-label="{label}"]')

    def choose(self, selector, value):
        """An option of a list that may be drawn anew while it is looked for."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                Select(self.one(selector)).select_by_value(value)
            except StaleElementReferenceException:
                assert time.monotonic() < until, f"{selector} does not rest"
            else:
                return

    def ask(self, words):
        count = len(self.texts("assistant"))
        self.one("textarea").send_keys(words + Keys.ENTER)
        self.until(lambda: len(self.texts("assistant")) == count + 1 and not self.all("[aria-busy], .waiting"))

    def until(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.all_text("body")
            time.sleep(0.05)

    def texts(self, role):
        return self.all_text(f".message.{role} .bubble")

    def attach(self, path):
        self.all("input[type=file]")[0].send_keys(str(path))
        self.one(".attached figure")

    def alert(self):
        """What a dialog of the browser says; "" where there is none."""
        try:
            return self.driver.switch_to.alert.text
        except NoAlertPresentException:
            return ""

    def watch_microphones(self, delay=0):
        """Keep an eye on what the page opens from now on; `delay`: milliseconds that a person takes to allow it."""
        self.driver.execute_script(WATCH, delay)

    def microphones(self):
        """The state of each microphone that was opened: live or ended."""
        return self.driver.execute_script("return window.streams.map((stream) => stream.getTracks()[0].readyState)")

    def complaints(self):
        """What the browser complains of, the refused requests aside that a test makes on purpose."""
        told = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in told if "401" not in message and "404" not in message]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    place = tmp_path_factory.mktemp("pages") / "c.sqlite"
    with serving(conversations=place) as (url, _):
        page = Page(url)
        yield page
        page.driver.quit()


@pytest.fixture
def page(browser):
    browser.open()
    browser.one("textarea")
    assert Select(browser.named("Answer in")).first_selected_option.text == "as the model likes"
    browser.choose('[aria-label="Answer in"]', "text")  # random weights like anything
    yield browser
    assert browser.complaints() == []


def test_a_picture_is_dropped_answered_aloud_and_kept(page, tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    page.ask("what is this?")
    dropped = """
        const [form, data] = arguments, transfer = new DataTransfer();
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], "b.png", {type: "image/png"}));
        form.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    """
    page.driver.execute_script(dropped, page.one(".composer"), base64.b64encode(png).decode())
    page.one(".attached figure")
    Select(page.named("Answer in")).select_by_value("audio")
    page.ask("say it")
    assert len(page.all(".message.user img")) == 1
    assert len(page.all(".message.assistant audio")) == 1
    seconds = page.driver.execute_async_script(
        "const done = arguments[0], sound = document.querySelector('.assistant audio');"
        "const look = () => sound.duration > 0 ? done(sound.duration) : setTimeout(look, 50); look()"
    )
    assert seconds > 0.03
    page.one(".side li", "what is this?")
    page.open()
    page.click(".side li .open", "what is this?")
    page.until(lambda: len(page.all(".message")) == 4)
    assert len(page.all(".message.assistant audio")) == 1
    Select(page.named("Answer in")).select_by_value("text")
    page.ask("and now?")
    assert len(page.all(".message")) == 6


def test_a_picture_is_drawn(page):
    Select(page.named("Answer in")).select_by_value("image")
    page.ask("draw seven")
    (picture,) = page.all(".message.assistant img")
    assert page.driver.execute_script("return arguments[0].naturalWidth", picture) > 0


def test_the_microphone_is_heard(page):
    page.named("Record sound").click()
    page.named("Stop recording")
    time.sleep(0.6)
    page.named("Stop recording").click()
    page.one(".attached audio")
    page.ask("what was that?")
    assert len(page.all(".message.user audio")) == 1


def test_an_answer_is_stopped_tried_again_and_a_question_changed(page):
    page.ask("yes")
    first = page.texts("assistant")
    page.click("button", "Try again")
    page.until(lambda: not page.all("[aria-busy]") and page.texts("assistant"))
    assert page.named("Answer in")
    page.click("button", "Edit")
    box = page.one("textarea")
    assert box.get_attribute("value") == "yes"
    assert page.texts("user") == []
    box.clear()
    page.ask("zwei")
    assert page.texts("user") == ["zwei"]
    assert len(page.texts("assistant")) == len(first) == 1


def test_what_people_write_is_text(page):
    page.ask("<img src=x onerror=alert(1)><b>bold</b>")
    assert page.texts("user")[-1] == "<img src=x onerror=alert(1)><b>bold</b>"
    assert not page.all(".message b, .message img")
    page.one(".side li", "<img src=x")


def test_conversations_are_found_renamed_and_deleted(page):
    page.ask("four")
    page.one(".side li", "four")
    page.choose(".side li select", "rename")
    prompt = page.driver.switch_to.alert
    prompt.send_keys("numbers")
    prompt.accept()
    page.one(".side li", "numbers")
    page.named("Search").send_keys("numb")
    page.until(lambda: page.all_text(".side li .open") == ["numbers"])
    page.choose(".side li select", "remove")
    page.driver.switch_to.alert.accept()
    page.until(lambda: not page.all(".side li"))
    assert not page.all(".message"), "the one that was open begins anew"


def test_a_file_that_nothing_reads_is_refused_and_the_page_goes_on(page, tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"?")
    page.all("input[type=file]")[0].send_keys(str(tmp_path / "a.xyz"))
    page.one(".failed", ".xyz")
    (tmp_path / "b.png").write_bytes(b"no picture")
    page.all("input[type=file]")[0].send_keys(str(tmp_path / "b.png"))
    page.one(".failed", "b.png: this picture cannot be read")
    assert not page.all(".attached figure"), "it does not enter the conversation"
    page.click("button", "New conversation")
    page.ask("yes")
    assert (page.texts("user"), page.all_text(".failed")) == (["yes"], [])


def test_what_was_begun_stays_when_the_language_is_another(page, tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    page.attach(tmp_path / "a.png")
    page.one("textarea").send_keys("what is")
    page.named("Settings").click()
    page.named("Settings")
    seed = page.one("input[type=number]")
    seed.clear()
    seed.send_keys("7")
    Select(page.driver.find_element(By.ID, "language")).select_by_value("zh")
    page.one("button", "新对话")
    assert len(page.all(".attached figure")) == 1
    assert page.one("textarea").get_attribute("value") == "what is"
    assert page.one("input[type=number]").get_attribute("value") == "7"
    assert Select(page.named("回答形式")).first_selected_option.get_attribute("value") == "text"
    Select(page.driver.find_element(By.ID, "language")).select_by_value("en")
    page.one("button", "New conversation")
    page.ask(" this?")
    assert page.texts("user") == ["what is this?"]
    assert len(page.all(".message.user img")) == 1
    page.open("/#why")
    page.enter("textarea", "say zwei")
    Select(page.driver.find_element(By.ID, "language")).select_by_value("zh")
    page.one("nav a", "为何")
    assert page.one("textarea").get_attribute("value") == "say zwei"
    Select(page.driver.find_element(By.ID, "language")).select_by_value("en")
    page.one("nav a", "Why")


def test_a_question_whose_answer_was_lost_is_asked_again(page):
    lost = {"title": "lost", "messages": [{"role": "user", "content": "zwei"}]}
    httpx.post(f"{page.url}/conversations", json=lost).raise_for_status()
    page.open()
    page.click(".side li button", "lost")
    page.one(".message.user", "zwei")
    page.choose('[aria-label="Answer in"]', "text")
    page.click("button", "Try again")
    page.until(lambda: len(page.texts("assistant")) == 1 and not page.all("[aria-busy]"))
    assert page.texts("user") == ["zwei"], "it is not asked twice"
    page.one(".message.assistant button", "Try again")


def test_the_microphone_is_off_on_other_pages_and_what_was_said_is_kept(page):
    page.watch_microphones()
    page.named("Record sound").click()
    page.named("Stop recording")
    time.sleep(0.5)
    page.click("nav a", "Model")
    page.until(lambda: page.microphones() == ["ended"])
    page.click("nav a", "Talk")
    page.one(".attached audio")
    assert page.microphones() == ["ended"]


def test_a_microphone_that_comes_late_is_let_go_and_a_double_click_takes_one(page):
    page.watch_microphones(delay=400)
    page.named("Record sound").click()
    page.click("nav a", "Model")
    page.until(lambda: page.microphones() == ["ended"])
    page.click("nav a", "Talk")
    page.named("Record sound").click()
    page.named("Record sound").click()
    page.named("Stop recording")
    assert page.microphones() == ["ended", "live"]
    time.sleep(0.5)
    page.named("Stop recording").click()
    page.until(lambda: page.microphones() == ["ended", "ended"])


def test_files_are_dropped_and_enter_asks_on_the_other_pages(page, png):
    page.open("/#grid")
    page.one('[data-cell="image->text"]').click()
    page.driver.execute_script(
        """const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0)), data = new DataTransfer();
        data.items.add(new File([bytes], "a.png", { type: "image/png" }));
        document.querySelector(".composer").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));""",
        base64.b64encode(png).decode(),
    )
    page.one(".attached img")
    words = "const data = new DataTransfer(); data.setData('text/plain', 'x'); return document.querySelector('textarea').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))"
    assert page.driver.execute_script(words), "words go where they are dropped"
    page.one("textarea").send_keys("what is it?" + Keys.ENTER)
    page.one("p.small.soft", "tokens")


def test_nothing_is_wider_than_a_small_screen(page):
    """400 pixels; and the page itself does not scroll, where its parts do."""
    narrow = {"width": 400, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        for where, selector in (
            ("talk", "textarea"),
            ("grid", "[data-cell]"),
            ("compare", "textarea"),
            ("why", "textarea"),
            ("model", ".card"),
        ):
            page.open(f"/#{where}")
            page.one(selector)
            sizes = "const { scrollWidth, clientWidth, scrollHeight, clientHeight } = document.documentElement; return [scrollWidth, clientWidth, scrollHeight, clientHeight, document.querySelector('main').scrollWidth, document.querySelector('main').clientWidth]"
            wide, seen, high, low, inside, room = page.driver.execute_script(sizes)
            assert (wide, high, inside) == (seen, low, room), where
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_model_without_a_language_model_is_asked_nothing_it_cannot_know(page):
    page.one(".empty h2")
    assert not page.all(".empty button")


def test_it_speaks_chinese(page):
    Select(page.driver.find_element(By.ID, "language")).select_by_value("zh")
    page.one("button", "新对话")
    page.open()
    page.one("button", "新对话")
    assert page.all_text("nav a")[0] == "对话", "it remembers"
    assert page.driver.execute_script("return document.documentElement.lang") == "zh"
    Select(page.driver.find_element(By.ID, "language")).select_by_value("en")
    page.one("button", "New conversation")
    assert page.all_text("nav a") == ["Talk", "Grid", "Compare", "Why", "Model"]


def test_a_cell_of_the_grid_is_tried(page, tmp_path, png):
    page.open("/#grid")
    page.until(lambda: len(page.all("[data-cell]")) == 9)
    assert "not measured here" in page.one('[data-cell="image->text"]').text
    page.click('[data-cell="image->audio"]')
    page.one("h2", "picture → sound")
    (tmp_path / "a.png").write_bytes(png)
    page.attach(tmp_path / "a.png")
    page.click("button", "Try it")
    page.one(".bubble audio")
    page.one("p", "first after")


def test_the_grid_shows_what_was_measured(tmp_path):
    cell = {
        "cell": "image->text",
        "task": "read",
        "split": "test",
        "metric": "exact match",
        "value": 0.875,
        "ci95": [0.8, 0.9],
    }
    report = {"cells": [cell | {"n": 40, "baseline": 0.1, "higher_is_better": True, "target": None}], "commit": "abc"}
    (tmp_path / "report.json").write_text(json.dumps(report))
    model = small_model()
    model.folder = tmp_path / "checkpoints" / "step-1"
    with serving({"tiny": model}) as (url, _):
        page = Page(url)
        try:
            page.open("/#grid")
            page.one('[data-cell="image->text"]', "87.5 %")
            page.one("td", "80.0 % – 90.0 %")
            page.open("/#talk")
            page.ask("yes")
            assert not page.all(".side li"), "a server without a file keeps no conversations"
        finally:
            page.driver.quit()


def test_two_answers_are_compared_blindly_and_the_choice_is_kept(page):
    page.open("/#compare")
    page.one("textarea").send_keys("yes")
    page.click("button", "Ask both")
    page.one("button", "A is better")
    assert page.all_text("h3") == ["A", "B"], "who wrote which is not told before"
    page.click("button", "A is better")
    page.until(lambda: page.all_text("h3") == ["A · tiny", "B · tiny"])
    page.one(".page", "tiny > tiny: 1")


def test_the_model_page_shows_what_is_served_and_how_it_does(page):
    page.open("/#model")
    page.one("table", "tiny")
    page.one(".card", "Requests under way")
    assert f'OpenAI(base_url="{page.url}/v1"' in page.one("pre").text
    figures = dict(text.split("\n") for text in page.all_text(".card"))
    assert (figures["Requests under way"], figures["Waiting"]) == ("0", "0")
    assert int(figures["Requests"]) > 0


def test_a_key_is_asked_for(tmp_path):
    with serving(access=Access({hashed("secret"): "anna"}), conversations=tmp_path / "c.sqlite") as (url, _):
        page = Page(url)
        try:
            page.open()
            page.one("#key-value").send_keys("mistyped" + Keys.ENTER)
            page.one("#key-problem", "does not know this key")
            page.one("#key-value").send_keys("secret" + Keys.ENTER)
            page.one("textarea")
            page.ask("yes")
            page.one(".side li", "yes")
            assert page.complaints() == []
        finally:
            page.driver.quit()
