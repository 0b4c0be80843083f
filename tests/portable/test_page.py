"""The page in a real browser, with no server but one of files: Debian's Chromium, driven by Selenium. Skipped where there is none."""

import base64
import io
import json
import shutil
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from worlds import World

from plait.contract import Message, Part
from plait.infer.request import Request
from plait.modalities.audio.mel import RATE, griffin_lim, log_mel
from plait.portable import page
from plait.portable.player import Player

selenium = pytest.importorskip("selenium")
pytest.importorskip("onnxruntime")
from selenium.webdriver import ActionChains, Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and shutil.which("npm")), reason="needs chromium, chromium-driver and npm"
)
PATIENCE = 60  # seconds
NEAR = 1e-3
SAMPLING = {"steps": 4, "guidance": 3.0, "max_tokens": 14}
ANSWER = """
const [parts, to, noise, done] = arguments;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const values = { text: (value) => value, audio: (value) => Float32Array.from(value), image: (value) => createImageBitmap(new Blob([bytes(value)])) };
let at = 0;
const given = (count) => Float32Array.from(noise.slice(at, (at += count)));
(async () => {
  const filled = await Promise.all(parts.map(async ([type, value]) => ({ type, value: await values[type](value) })));
  const answers = await plait.model.answer(filled, { to, noise: given });
  return answers.map(({ type, ids, blocks }) => ({ type, ids, blocks: blocks?.map(({ header, tokens }) => [header, [...tokens]]) }));
})().then(done, (error) => done(String(error)));
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A tiny model, and its page."""
    world, folder = World(), tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_SOURCES", str(folder / "sources"))
        parts = [{"type": "image", "image": "p.png"}, {"type": "text", "text": "what is this?"}]
        row = {
            "task": "read",
            "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "yes"}],
        }
        (folder / page.TRAIN).write_text(json.dumps(row) + "\n")
        return world, page.write(world.model(), folder / "page", SAMPLING, folder)


@pytest.fixture(scope="module")
def browser(exported):
    """A browser that has loaded the page."""
    _, folder = exported
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--disable-dev-shm-usage"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(PATIENCE)
    driver.get(f"http://127.0.0.1:{server.server_port}/")
    comes(driver, "#state", "Ready")
    yield driver
    driver.quit()
    server.shutdown()
    server.server_close()


def comes(driver, selector, words):
    until = time.monotonic() + PATIENCE
    while words not in (told := driver.find_element(By.CSS_SELECTOR, selector).text):
        assert time.monotonic() < until, f"{selector} says {told!r}, not {words!r}: {driver.get_log('browser')}"
        time.sleep(0.05)


def as_json(part):
    if part.type == "text":
        return ["text", part.value]
    if part.type == "audio":
        return ["audio", part.value[0].tolist()]
    file = io.BytesIO()
    part.value.convert("L").save(file, "png")  # what the page is given has no alpha and one channel
    return ["image", base64.b64encode(file.getvalue()).decode()]


@pytest.mark.parametrize("to", ["text", "image", "audio", None])
def test_the_page_answers_as_the_player(exported, browser, to):
    world, folder = exported
    player = Player(folder / page.MODEL)
    picture = world.part("image", 2)
    parts = (Part("image", picture.value.convert("L")), world.part("audio", 3), Part("text", "what is this? 12 四"))
    answer = player.generate(Request((Message("user", parts),), to=to, seed=5, **SAMPLING))
    noise = [block.noise.ravel() for s in answer.segments for block in s.blocks if block.noise is not None]
    told = np.concatenate([*noise, np.zeros(1, np.float32)]).tolist()
    got = browser.execute_async_script(ANSWER, [as_json(part) for part in parts], to, told)
    assert isinstance(got, list), got
    assert [each["type"] for each in got] == [segment.modality for segment in answer.segments]
    for each, segment in zip(got, answer.segments, strict=True):
        if each["ids"] is not None:
            assert each["ids"] == [int(number) for block in segment.blocks for number in block.tokens]
            continue
        assert [tuple(header) for header, _ in each["blocks"]] == [block.header for block in segment.blocks]
        for (_, tokens), block in zip(each["blocks"], segment.blocks, strict=True):
            step = 2 / 255 if each["type"] == "image" else NEAR  # pixels are rounded to levels
            assert np.abs(np.reshape(tokens, block.tokens.shape) - block.tokens).max() <= step


def test_sound_becomes_tokens_and_sound_again(exported, browser):
    world, _ = exported
    modality = world.modalities["audio"]
    samples = modality.example(7).value[0]
    expected = np.concatenate([block.tokens for block in modality.read(Part("audio", (samples, RATE))).blocks])
    script = (
        "return plait.model.codecs.audio.read(Float32Array.from(arguments[0])).flatMap(({ tokens }) => [...tokens])"
    )
    got = np.reshape(browser.execute_script(script, samples.tolist()), expected.shape)
    assert np.abs(got - expected).max() < 0.02  # of deviations, where the spectrum is at its floor
    script = "return [...plait.model.codecs.audio.write([{ tokens: Float32Array.from(arguments[0]) }])]"
    frames = modality.denormalise(expected.reshape(-1, 80))
    ours = np.array(browser.execute_script(script, expected.ravel().tolist()), np.float32)

    def distance(made):
        return np.abs(np.exp(log_mel(made)) - np.exp(frames)).mean() / np.exp(frames).mean()

    assert len(ours) == (len(frames) - 1) * 160
    assert distance(ours) < 1.2 * distance(griffin_lim(frames)) + 0.01


def test_a_drawing_is_asked_about_with_one_click(browser):
    board = browser.find_element(By.ID, "board")
    pen = ActionChains(browser, duration=10).move_to_element_with_offset(board, -40, -60).click_and_hold()
    pen.move_by_offset(60, 0).move_by_offset(-20, 100).release().perform()
    (button,) = browser.find_elements(By.CSS_SELECTOR, "#prompts button")
    assert button.text == "[picture] what is this? → in words"
    button.click()
    comes(browser, "#answers li", " s")
    assert browser.find_elements(By.CSS_SELECTOR, "#answers li canvas")
    browser.find_element(By.ID, "to").send_keys("as sound")
    browser.find_element(By.ID, "words").send_keys("say it")
    browser.find_element(By.ID, "go").click()
    comes(browser, "#answers li:first-child", "say it")
    comes(browser, "#state", "Ready")
    sound = browser.find_element(By.CSS_SELECTOR, "#answers li:first-child audio")
    assert browser.execute_async_script(
        "const [sound, done] = arguments; if (sound.duration) done(sound.duration); else sound.onloadedmetadata = () => done(sound.duration);",
        sound,
    )


def test_what_is_missing_is_said(exported, browser):
    most = exported[0].modalities["audio"].max_seconds
    browser.find_element(By.ID, "clear").click()
    browser.find_element(By.CSS_SELECTOR, "#prompts button").click()
    comes(browser, "#state", "draw something first")
    browser.find_element(By.ID, "words").clear()
    browser.find_element(By.ID, "go").click()
    comes(browser, "#state", "write something first")
    long = browser.execute_async_script(ANSWER, [["audio", [0.0] * int((most + 1) * RATE)]], "text", [])
    assert f"expected at most {most:g} s" in long
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert all("something first" in error for error in errors), errors
