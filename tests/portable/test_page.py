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
import torch
from PIL import Image
from worlds import World

from plait import api
from plait.contract import Message, Part
from plait.data.vocabulary import MARKS
from plait.errors import CheckpointError, ConfigError, RowError
from plait.infer.decoder import LOOP, goes_round
from plait.infer.request import Request
from plait.modalities.audio.mel import RATE, griffin_lim, log_mel
from plait.portable import page
from plait.portable.player import Player
from plait.train import checkpoint

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
MOST, OPENS = 14, 4.0
ANSWER = """
const [parts, settings, noise, done] = arguments;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const values = { text: (value) => value, audio: (value) => Float32Array.from(value), image: (value) => createImageBitmap(new Blob([bytes(value)])) };
let at = 0;
const given = (count) => Float32Array.from(noise.slice(at, (at += count)));
(async () => {
  const filled = await Promise.all(parts.map(async ([type, value]) => ({ type, value: await values[type](value) })));
  const answers = await plait.model.answer(filled, { ...settings, noise: given });
  return answers.map(({ type, ids, value, blocks }) => ({ type, ids, value: ids && value, blocks: blocks?.map(({ header, tokens }) => [header, [...tokens]]) }));
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
        model = world.model()
        with torch.no_grad():  # where it may choose, it begins a picture, and goes on behind it
            model.categorical[MARKS].logits.bias[world.vocabulary.ids["<open:image>"]] = OPENS
        return world, page.write(model, folder / "page", SAMPLING, folder)


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


def both(exported, browser, settings, sampling):
    """What the player answers, and what the page does with the same noise."""
    world, folder = exported
    player = Player(folder / page.MODEL)
    picture = world.part("image", 2)
    parts = (Part("image", picture.value.convert("L")), world.part("audio", 3), Part("text", "what is this? 12 四"))
    answer = player.generate(Request((Message("user", parts),), seed=5, **settings, **sampling))
    noise = [block.noise.ravel() for s in answer.segments for block in s.blocks if block.noise is not None]
    numbers = np.concatenate([*noise, np.zeros(1, np.float32)]).tolist()
    browser.execute_script("plait.model.manifest.sampling = arguments[0]", sampling)
    got = browser.execute_async_script(ANSWER, [as_json(part) for part in parts], settings, numbers)
    assert isinstance(got, list), got
    return answer, got


def are_the_same(world, answer, got):
    """Fails where an answer of the page is not the player's."""
    assert [each["type"] for each in got] == [segment.modality for segment in answer.segments]
    for each, segment in zip(got, answer.segments, strict=True):
        if each["ids"] is not None:
            assert each["ids"] == [int(number) for block in segment.blocks for number in block.tokens]
            assert each["value"] == world.modalities["text"].write(segment).value
            continue
        assert [tuple(header) for header, _ in each["blocks"]] == [block.header for block in segment.blocks]
        for (_, tokens), block in zip(each["blocks"], segment.blocks, strict=True):
            step = 2 / 255 if each["type"] == "image" else NEAR  # pixels are rounded to levels
            assert np.abs(np.reshape(tokens, block.tokens.shape) - block.tokens).max() <= step


@pytest.mark.parametrize("to", ["text", "image", "audio", None])
def test_the_page_answers_as_the_player(exported, browser, to):
    answer, got = both(exported, browser, {"to": to}, SAMPLING | {"max_tokens": 60 if to is None else MOST})
    if to is None:
        kinds = [segment.modality for segment in answer.segments]
        assert "image" in kinds[:-1], f"a picture, and something behind it; got {kinds}"
    are_the_same(exported[0], answer, got)


def test_settings_of_the_recipe_are_the_pages(exported, browser):
    by_modality = {"steps": {"image": 3}, "guidance": {"audio": 1.0, "image": 2.0}, "max_tokens": 60}
    for to in ("image", "audio"):
        answer, got = both(exported, browser, {"to": to}, by_modality)
        are_the_same(exported[0], answer, got)
        usual, _ = both(exported, browser, {"to": to}, SAMPLING)
        one, other = (each.segments[0].blocks[0].tokens for each in (answer, usual))
        assert one.shape != other.shape or not np.array_equal(one, other), "these settings change the answer"


def test_an_answer_that_goes_round_ends_where_the_engine_ends_it(browser):
    rng = np.random.default_rng(0)
    lists = [[*rng.integers(0, 9, rng.integers(0, 5)).tolist(), *(rng.integers(0, 3, unit).tolist() * times)] for unit in range(1, 9) for times in range(1, 20)]  # fmt: skip
    script = "const [lists, done] = arguments; import('./model.js').then(({ goesRound }) => done(lists.map((ids) => goesRound(ids, 4))));"
    expected = [goes_round(ids, 4) for ids in lists]
    assert browser.execute_async_script(script, lists) == expected
    assert {True, False} == set(expected)
    ends = (
        "return plait.model.answer([{ type: 'text', value: 'a' }], { to: 'text' }).then(([said]) => said.ids.length);"
    )
    always = "plait.model.choose = async () => plait.model.manifest.offsets.text; plait.model.manifest.sampling = { max_tokens: 60, repeats: arguments[0] };"
    assert browser.execute_script(f"{always} {ends}", 4) == LOOP
    assert browser.execute_script(f"{always} {ends}", 0) == 60
    browser.execute_script("delete plait.model.choose")


def test_with_a_temperature_ids_are_drawn_as_likely_as_they_are(browser):
    """The likeliest of three is drawn as often as its share says, and always at 0."""
    script = """
    const [temperature, done] = arguments;
    const model = Object.create(plait.model);
    model.feed = async () => [new Float32Array(4), 4];
    model.run = async () => [{ data: [0, 1, 2] }];
    (async () => {
      const counts = [0, 0, 0], { uniform } = await import("./model.js");
      const turn = { temperature, chance: uniform(1) };
      for (let i = 0; i < 4000; i++) counts[await model.choose(turn, [0, 1, 2])] += 1;
      return counts;
    })().then(done, (error) => done(String(error)));
    """
    assert browser.execute_async_script(script, 0) == [0, 0, 4000]
    shares = np.exp(np.arange(3) / 0.7)
    drawn = np.array(browser.execute_async_script(script, 0.7)) / 4000
    assert np.abs(drawn - shares / shares.sum()).max() < 0.03


def test_words_are_written_as_the_tokenizer_writes_them(exported, browser):
    modality = exported[0].modalities["text"]
    for words in ("it 's . ok , do n't !", " two  blanks", "四十二 ?"):
        ids = modality.read(Part("text", words)).blocks[0].tokens.tolist()
        assert browser.execute_script("return plait.model.codecs.text.write(arguments[0])", ids) == words


@pytest.mark.parametrize("size", [(35, 35), (63, 35), (20, 90), (7, 7), (300, 200)])
def test_a_picture_has_the_grid_that_the_codec_gives_it(exported, browser, size):
    modality = exported[0].modalities["image"]
    header = modality.read(Part("image", Image.new("L", size, 200))).blocks[0].header
    script = """
    const canvas = new OffscreenCanvas(...arguments[0]);
    canvas.getContext("2d").fillRect(0, 0, 1, 1);
    return plait.model.codecs.image.read(canvas)[0].header;
    """
    assert browser.execute_script(script, list(size)) == list(header)


def test_an_export_that_fails_leaves_nothing(exported, tmp_path):
    world, _ = exported
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / page.TRAIN).write_text("no row\n")
    with pytest.raises(RowError):
        page.write(world.model(), tmp_path / "page", SAMPLING, tmp_path / "data")
    with pytest.raises(ConfigError, match="by 33 steps a block; expected at most 32"):
        page.write(world.model(), tmp_path / "page", {"steps": {"image": 33}}, None)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="is there already"):
        page.write(world.model(), tmp_path / "file", SAMPLING, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file"]


def test_rows_of_the_current_folder_are_not_published(exported, tmp_path, monkeypatch):
    world, _ = exported
    monkeypatch.chdir(tmp_path)
    row = {"task": "a", "messages": [{"role": "user", "content": "secret"}, {"role": "assistant", "content": "yes"}]}
    (tmp_path / page.TRAIN).write_text(json.dumps(row) + "\n")
    assert list(page.prompts(world.model(), None)) == []
    assert len(list(page.prompts(world.model(), tmp_path))) == 1
    asked_for = []
    monkeypatch.setattr(page, "write", lambda network, folder, settings, data: asked_for.append(data) or folder)
    model = world.model()
    run = checkpoint.save(tmp_path / "run", model, model.state_dict(), {"data": "", "pack": {"length": 64}})
    api.export(run, tmp_path / "new", to="page")
    assert asked_for == [None]


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
    long = browser.execute_async_script(ANSWER, [["audio", [0.0] * int((most + 1) * RATE)]], {"to": "text"}, [])
    assert f"expected at most {most:g} s" in long
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert all("something first" in error for error in errors), errors
