"""Film a conversation on the page Talk in Chromium, in real time: pictures for the README, and a film with what the model says.

    python scripts/record_talk.py smol docs/smol/talk.webp --picture plait/shipped/smol/lion.png

Writes the animation without sound, and beside it a film with sound, .webm. Needs Debian's chromium and chromium-driver, selenium and av.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

SIZE = (880, 620)
RATE = 48_000  # Hz, of the film's sound
FRAMES_A_SECOND = 8
A_KEY = 0.025  # seconds
PATIENCE = 120  # seconds
PORT = 8311
Frames = list[tuple[float, Image.Image]]


@contextmanager
def served(model: str) -> Any:
    """A server of the model, ready."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "plait",
            "serve",
            model,
            "--port",
            str(PORT),
            "--conversations",
            f"{folder}/c.sqlite",
        ]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                with suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz")
                    break
                time.sleep(0.3)
            yield f"http://127.0.0.1:{PORT}"
        finally:
            process.terminate()
            process.wait()


def browser() -> Chrome:
    """Chromium without a window, which may play."""
    options = ChromeOptions()
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--lang=en", f"--window-size={SIZE[0]},{SIZE[1]}",
        "--autoplay-policy=no-user-gesture-required",
    ):  # fmt: skip
        options.add_argument(argument)
    return Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def asked(path: str) -> Any:
    """What the server answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}") as answer:
        return json.load(answer)


def last_sound() -> bytes:
    """The sound of the last answer of the newest conversation, once it is stored."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        message = asked(f"/conversations/{asked('/conversations')['data'][0]['id']}")["messages"][-1]
        for part in message["content"] if message["role"] == "assistant" else ():
            if part["type"] == "input_audio":
                return base64.b64decode(part["input_audio"]["data"])
        time.sleep(0.05)
    raise SystemExit("no sound was stored")


class Film:
    """What a browser shows, from the beginning on, and what was heard when."""

    def __init__(self, driver: Chrome) -> None:
        self.driver, self.begun = driver, time.monotonic()
        self.frames: Frames = []
        self.sounds: list[tuple[float, np.ndarray]] = []  # seconds at which they begin, samples at RATE
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(1 / FRAMES_A_SECOND):
            with self.lock:
                picture = self.driver.get_screenshot_as_png()
            self.frames.append((time.monotonic() - self.begun, Image.open(io.BytesIO(picture)).convert("RGB")))

    def close(self) -> None:
        self.ended.set()
        self.thread.join()

    def all(self, selector: str) -> list[Any]:
        """Elements of the page."""
        with self.lock:
            return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def ask(self, words: str) -> None:
        """Type a question, wait for the answer, and note what is heard."""
        count, sounds = len(self.all(".message.assistant")), len(self.all(".assistant audio"))
        box = self.all("textarea")[0]
        for letter in words:
            with self.lock:
                box.send_keys(letter)
            time.sleep(A_KEY)
        time.sleep(0.3)
        with self.lock:
            box.send_keys(Keys.ENTER)
        until = time.monotonic() + PATIENCE
        while len(self.all(".message.assistant")) == count or self.all("[aria-busy]"):
            if time.monotonic() > until:
                raise SystemExit(f"no answer to {words!r} within {PATIENCE} seconds")
            time.sleep(0.05)
        at = time.monotonic() - self.begun
        if len(self.all(".assistant audio")) > sounds:
            samples, rate = soundfile.read(io.BytesIO(last_sound()))
            self.sounds.append((at, soxr.resample(samples, rate, RATE).astype(np.float32)))
            time.sleep(len(samples) / rate)

    def attach(self, path: Path) -> None:
        """Choose a file."""
        with self.lock:
            self.driver.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(path.resolve()))
        time.sleep(0.7)

    def click(self, selector: str) -> None:
        """Click the first element of a kind."""
        element = self.all(selector)[0]
        with self.lock:
            element.click()


def write_pictures(frames: Frames, to: Path) -> None:
    """The frames as an animation without end; those that are like the one before prolong it."""
    kept, lengths = [frames[0][1]], [0.0]
    for (at, picture), (following, _) in zip(frames, [*frames[1:], (frames[-1][0] + 2.0, None)], strict=True):
        if picture.tobytes() != kept[-1].tobytes():
            kept.append(picture)
            lengths.append(0.0)
        lengths[-1] += following - at
    durations = [max(20, round(1000 * length)) for length in lengths]
    kept[0].save(to, save_all=True, append_images=kept[1:], duration=durations, loop=0, quality=55, method=4)


def write_film(frames: Frames, sounds: list[tuple[float, np.ndarray]], to: Path) -> None:
    """Frames and sound as WebM."""
    seconds = frames[-1][0] + 1.0
    track = np.zeros(round(seconds * RATE), np.float32)
    for at, samples in sounds:
        first = round(at * RATE)
        track[first : first + len(samples)] += samples[: max(0, len(track) - first)]
    with av.open(str(to), "w") as container:
        video = container.add_stream("libvpx-vp9", rate=FRAMES_A_SECOND)
        video.width, video.height, video.pix_fmt = SIZE[0] // 2 * 2, frames[0][1].height // 2 * 2, "yuv420p"
        video.options = {"crf": "38", "b": "0"}
        audio = container.add_stream("libopus", rate=RATE, layout="mono")
        audio.bit_rate = 32_000
        times = np.array([at for at, _ in frames])
        for number in range(int(seconds * FRAMES_A_SECOND)):
            shown = max(0, int(np.searchsorted(times, number / FRAMES_A_SECOND, side="right")) - 1)
            picture = frames[shown][1].crop((0, 0, video.width, video.height))
            for packet in video.encode(av.VideoFrame.from_image(picture)):
                container.mux(packet)
        for first in range(0, len(track), RATE // 50):
            block = np.zeros(RATE // 50, np.float32)
            block[: len(track[first : first + len(block)])] = track[first : first + len(block)]
            sound = av.AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
            sound.sample_rate, sound.pts = RATE, first
            for packet in audio.encode(sound):
                container.mux(packet)
        for stream in (video, audio):
            for packet in stream.encode(None):
                container.mux(packet)


def main() -> None:
    """Film and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path, help="the animation")
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args()
    with served(options.model) as url, closing_browser(browser()) as driver:
        metrics = {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(url)
        while not driver.find_elements(By.CSS_SELECTOR, "textarea"):
            time.sleep(0.1)
        time.sleep(0.5)
        film = Film(driver)
        with closing(film):
            film.attach(options.picture)
            film.ask("What is this?")
            film.ask("And what colour is it?")
            film.ask("Say this for me: good morning, the shop opens at nine.")
            film.ask("Draw a red heart.")
            time.sleep(1.5)
    print(f"{film.frames[-1][0]:.1f} seconds, {len(film.frames)} pictures, {len(film.sounds)} sounds")
    write_pictures(film.frames, options.out.with_suffix(".webp"))
    write_film(film.frames, film.sounds, options.out.with_suffix(".webm"))


@contextmanager
def closing_browser(driver: Chrome) -> Any:
    """The browser, which is closed at the end."""
    try:
        yield driver
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
