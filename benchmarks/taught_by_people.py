"""From labels to a better model, as people do it: two label in browsers, one decides, a model learns, an explanation shows why it errs,
they mend its answers, and it learns again.

    plait data build fashion
    python benchmarks/taught_by_people.py runs/demo --to work/taught

A shop photographs four kinds of clothes, and its forty photographs of the first day have a fault that nobody sees: every coat has a
price tag in a corner, and nothing else has. Ann knows what she sees, Ben takes a pullover for a coat now and then. The second day's
photographs have tags on any of them. What is measured is how often photographs of other clothes are named rightly, with a tag and
without one: after the labels of the first day; after forty answers that were mended on the second; and, beside it, after forty more
labels of the first day instead, with as many steps. Everything goes through the commands and the pages that a user has; the persons'
eyes are the labels of Fashion-MNIST. Screenshots of the pages lie in --to, by day.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from fashion_baselines import load
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from side_by_side import finish, table

from plait import api
from plait.annotate.project import Project
from plait.api import annotating, explaining
from plait.contract import Message, Part
from plait.infer.request import Request

CLASSES = {"pullover": 2, "dress": 3, "coat": 4, "shirt": 6}  # by their number in Fashion-MNIST
TAGGED = "coat"
MISTAKEN, OFTEN = ("pullover", "coat"), 0.4  # what Ben takes for what, and how often
SIDE, TAG = 28, 7
QUESTION = "What is it?"
FIRST, SECOND, POOL, TESTS = 40, 40, 200, 400  # photographs; of a pool of the second day people mend some
EXPLAINED = 12  # wrong answers
PATIENCE = 60.0  # seconds for which a page may keep a person waiting


def tagged(picture: np.ndarray) -> np.ndarray:
    """[28, 28] levels with a price tag in the upper left corner: white, with a dark rim and a line of print."""
    picture = picture.copy()
    tag = np.full((TAG, TAG), 255, np.uint8)
    tag[[0, -1], :] = tag[:, [0, -1]] = 90
    tag[TAG // 2, 2:-2] = 60
    picture[1 : TAG + 1, 1 : TAG + 1] = tag
    return picture


@dataclass(frozen=True)
class Photograph:
    """A file, what is on it, and whether a tag is."""

    path: Path
    thing: str
    has_tag: bool


class Shop:
    """Photographs of Fashion-MNIST's pictures, none of them taken twice."""

    def __init__(self, data: Path, seed: int) -> None:
        self.rng = np.random.default_rng([2026, seed])
        self.pictures, labels = load(data, "train")
        self.left = {
            thing: list(self.rng.permutation(np.flatnonzero(labels == label))) for thing, label in CLASSES.items()
        }

    def photographs(self, folder: Path, count: int, of_tagged: Mapping[str, float]) -> list[Photograph]:
        """`count` photographs, as many of each class, in an order drawn; `of_tagged`: the share that has a tag, by class."""
        folder.mkdir(parents=True, exist_ok=True)
        things = self.rng.permutation([thing for thing in CLASSES for _ in range(count // len(CLASSES))])
        photographs = []
        for number, thing in enumerate(map(str, things)):
            picture = self.pictures[self.left[thing].pop()]
            has_tag = bool(self.rng.random() < of_tagged[thing])
            path = folder / f"{number:04d}.png"
            Image.fromarray(tagged(picture) if has_tag else picture).save(path)
            photographs.append(Photograph(path, thing, has_tag))
        return photographs


def plait(*arguments: object) -> str:
    """What a command of Plait's prints. Raises RuntimeError where it fails."""
    print("$ plait", *arguments, flush=True)
    ended = subprocess.run([sys.executable, "-m", "plait", *map(str, arguments)], capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{ended.stdout}\n{ended.stderr}")
    return ended.stdout


@contextlib.contextmanager
def served(folder: Path, *arguments: object) -> Iterator[str]:
    """The address of `plait annotate` on a folder."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    print("$ plait annotate", folder, *arguments, flush=True)
    command = [sys.executable, "-m", "plait", "annotate", folder, *arguments, "--at", f"127.0.0.1:{port}"]
    with (folder.with_suffix(".log")).open("a") as log:
        server = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urlopen(f"{address}/healthz"):
                break
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server does not start: {folder.with_suffix('.log')}")
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


class Person:
    """Somebody at a browser of their own, who sees what a photograph shows. `confuses`: what for what, how often."""

    def __init__(self, name: str, address: str, confuses: tuple[str, str, float] | None = None) -> None:
        options = ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--lang=en"):
            options.add_argument(argument)
        options.binary_location = "/usr/bin/chromium"
        self.driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.name, self.address, self.confuses = name, address, confuses
        self.rng = np.random.default_rng(sum(map(ord, name)))
        self.driver.get(address)
        self.one("#name-value").send_keys(name)
        self.one("#name button").click()

    def one(self, selector: str, words: str = "") -> Any:
        """The first element that comes to be seen and to hold some words."""
        script = "return [...document.querySelectorAll(arguments[0])].find((each) => each.checkVisibility() && each.innerText.includes(arguments[1]))"
        until = time.monotonic() + PATIENCE
        while (element := self.driver.execute_script(script, selector, words)) is None:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} waits for {selector} {words!r}")
            time.sleep(0.03)
        return element

    def item(self, before: str | None) -> str | None:
        """The id of the item that is shown after `before`; None when nothing is left."""
        script = (
            "const work = document.querySelector('.work');"
            "const picture = work?.querySelector('img.medium');"
            "if (picture?.complete && picture.naturalWidth && work.dataset.item !== arguments[0]) return work.dataset.item;"
            "return work && !picture && work.querySelector('.ask') ? '' : null"
        )
        until = time.monotonic() + PATIENCE
        while (id := self.driver.execute_script(script, before)) is None:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} is shown nothing after {before}")
            time.sleep(0.03)
        return str(id) or None

    def seen(self, thing: str) -> str:
        """What the person takes a thing for."""
        if self.confuses and thing == self.confuses[0] and self.rng.random() < self.confuses[2]:
            return self.confuses[1]
        return thing

    def press(self, *keys: str) -> None:
        """Keys, to whatever the page made ready for them."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def show(self, path: Path, where: str) -> None:
        """A screenshot of one of the pages."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.address}/#{where}")
        self.one(".work .ask")
        time.sleep(0.5)  # pictures come
        self.driver.save_screenshot(str(path))


def things_of(project: Project, photographs: Sequence[Photograph]) -> dict[str, str]:
    """What each item shows, by its id."""
    by_name = {photograph.path.name: photograph.thing for photograph in photographs}
    return {
        id: next(thing for name, thing in by_name.items() if name in json.dumps(item.row))
        for id, item in project.items.items()
    }


def label(folder: Path, photographs: Sequence[Photograph], to: Path) -> dict[str, float]:
    """Two persons label by keys, in turns; Ann decides what they differ about. Returns how well they agree, and what was disputed."""
    to.mkdir()
    names = list(CLASSES)
    ask = ("--ask", "label", "--options", ",".join(names), "--question", QUESTION, "overlap=2", "reviewers=Ann")
    with served(folder, *ask) as address, contextlib.ExitStack() as browsers:
        persons = [Person("Ann", address), Person("Ben", address, (*MISTAKEN, OFTEN))]
        for person in persons:
            browsers.callback(person.driver.quit)
        with annotating.reading(folder) as project:
            things = things_of(project, photographs)
        shown: dict[str, str | None] = {person.name: person.item(None) for person in persons}
        persons[0].driver.save_screenshot(str(to / "1-label.png"))
        while any(shown.values()):
            for person in persons:
                if (id := shown[person.name]) is not None:
                    person.press(str(names.index(person.seen(things[id])) + 1))
                    shown[person.name] = person.item(id)
        status = json.loads(plait("annotations", "status", folder, "--json"))
        ann = persons[0]
        ann.show(to / "2-overview.png", "overview")
        ann.show(to / "3-review.png", "review")
        disputed = [
            str(element.get_attribute("data-item")) for element in ann.driver.find_elements("css selector", ".dispute")
        ]
        for id in disputed:
            ann.one(f'.dispute[data-item="{id}"] button[data-value="{things[id]}"]').click()
            ann.one(".dispute", "Decided")
        time.sleep(0.5)
    return {"alpha": status["alpha"], "kappa": status["kappas"][0]["kappa"], "disputed": len(disputed)}


def mend(folder: Path, photographs: Sequence[Photograph], run: Path, to: Path) -> int:
    """Ann mends what a model answers, the doubtful first; returns how many answers were wrong."""
    wrong = 0
    with (
        served(folder, "--ask", "correct", "--question", QUESTION, "--by", run, "overlap=1") as address,
        contextlib.ExitStack() as browsers,
    ):
        with annotating.reading(folder) as project:
            things = things_of(project, photographs)
        until = time.monotonic() + 10 * PATIENCE
        while "has guessed" not in (folder.with_suffix(".log")).read_text(encoding="utf-8"):
            if time.monotonic() > until:
                raise RuntimeError("the model does not guess")
            time.sleep(1)
        ann = Person("Ann", address)
        browsers.callback(ann.driver.quit)
        id = ann.item(None)
        ann.driver.save_screenshot(str(to / "5-correct.png"))
        for _ in range(SECOND):
            assert id is not None
            text = ann.one("textarea")
            if text.get_property("value") != things[id]:
                wrong += 1
                text.send_keys(Keys.CONTROL, "a")
                text.send_keys(things[id])
            text.send_keys(Keys.ENTER)
            id = ann.item(id)
    return wrong


def answers(run: Path, photographs: Sequence[Photograph]) -> list[str]:
    """What a model calls each photograph."""
    model = api.load(run)
    question = Part("text", QUESTION)
    requests = [
        Request((Message("user", (Part("image", str(each.path)), question)),), to="text", temperature=0.0, max_tokens=8)
        for each in photographs
    ]
    replies = [answer.message.parts for answer in model.generate_all(requests)]
    return [str(parts[0].value) if parts else "" for parts in replies]


def shares(run: Path, photographs: Sequence[Photograph]) -> dict[str, float]:
    """Shares of right answers in per cent, and of other things those that are called what had the tags."""
    answered = list(zip(answers(run, photographs), photographs, strict=True))

    def share(among: Sequence[tuple[str, Photograph]], wanted: str | None = None) -> float:
        return 100 * float(np.mean([answer == (wanted or photograph.thing) for answer, photograph in among]))

    figures = {"all": share(answered)}
    for name, has_tag in (("without a tag", False), ("with a tag", True)):
        among = [pair for pair in answered if pair[1].has_tag == has_tag]
        figures[name] = share(among)
        figures[f"{name}, no {TAGGED}, called {TAGGED}"] = share([p for p in among if p[1].thing != TAGGED], TAGGED)
    return figures


def is_on_tag(box: Sequence[float]) -> bool:
    """Whether the middle of a piece of a picture, given as shares of its sides, lies on the tag."""
    left, top, right, bottom = (SIDE * edge for edge in box)
    return max(left + right, top + bottom) / 2 < 1 + TAG and min(left + right, top + bottom) / 2 > 1


def hangs_on(run: Path, mistaken: Sequence[Photograph]) -> dict[str, str]:
    """What tagged photographs, which a model called TAGGED, hang on: how much their tags speak for TAGGED, as a share of all that does and
    in nats; and how often the model answers otherwise without the tag, and without as many pieces drawn among the others."""
    model, rng = api.load(run), np.random.default_rng(0)
    shares, nats, changed, changed_elsewhere = [], [], 0, 0
    for photograph in mistaken:
        question = [Part("image", str(photograph.path)), Part("text", QUESTION)]
        explanation = model.explain(question, Message("assistant", (Part("text", TAGGED),)))
        of_picture = [n for n, unit in enumerate(explanation.units) if unit.kind == "image"]
        values = np.array(explanation.maps[0].values)
        on_tag = [n for n in of_picture if is_on_tag(explanation.units[n].region["box"])]
        elsewhere = rng.choice(sorted(set(of_picture) - set(on_tag)), len(on_tag), replace=False).tolist()
        shares.append(values[on_tag].clip(min=0).sum() / values[of_picture].clip(min=0).sum())
        nats.append(values[on_tag].sum())
        for hidden in (on_tag, elsewhere):
            asked = explaining.without(model, explanation, hidden)
            is_other = model.reply(asked, "text").parts[0].value != TAGGED
            changed, changed_elsewhere = changed + (is_other and hidden is on_tag), changed_elsewhere + (is_other and hidden is elsewhere)  # fmt: skip
    return {
        "the tag's share": f"{np.mean(shares):.2f} ({len(on_tag) / len(of_picture):.2f} of the picture)",
        "in nats": f"{np.mean(nats):.1f}",
        "otherwise without the tag": f"{changed} of {len(mistaken)}",
        "without as much elsewhere": f"{changed_elsewhere} of {len(mistaken)}",
    }


def learn(start: Path | str, rows: Path, run: Path, steps: int) -> None:
    """Fine-tune as a user does who has a minute; half of the rows are earlier ones where there are some."""
    replay = () if Path(start).parent == run.parent else ("--replay", 0)
    plait("finetune", start, "--data", rows, "--out", run, "--full", "--no-guard", *replay, "flow.mask_prob=0.1", f"steps={steps}")  # fmt: skip


def loop(start: str, data: Path, to: Path, seed: int, steps: int) -> dict[str, Any]:
    """One round of all of it: figures of the people, of the explanations and, by model, of the tests."""
    shop = Shop(data, seed)
    of_coats = {thing: float(thing == TAGGED) for thing in CLASSES}
    of_any = dict.fromkeys(CLASSES, 0.5)
    days = {
        "first": shop.photographs(to / "first", FIRST, of_coats),
        "same": shop.photographs(to / "same", SECOND, of_coats),
        "second": shop.photographs(to / "second", POOL, of_any),
    }
    tests = shop.photographs(to / "tests", TESTS, of_any)
    people: dict[str, Any] = {}
    for day in ("first", "same"):
        agreement = label(to / day, days[day], to / f"{day}-pages")
        people |= agreement if day == "first" else {}
        plait("annotations", "export", to / day, "--to", to / f"{day}-rows")
    learn(start, to / "first-rows", to / "first-run", steps)
    people["answers that were wrong"] = mend(to / "second", days["second"], to / "first-run", to)
    plait("annotations", "export", to / "second", "--to", to / "second-rows")
    runs = {"forty labels": to / "first-run"}
    for name, rows in (("forty more of the first day", "same"), ("forty mended answers", "second")):
        runs[name] = to / f"{rows}-run"
        learn(to / "first-run", to / f"{rows}-rows", runs[name], steps)
    answers_first = answers(to / "first-run", tests)
    mistaken = [
        each
        for each, answer in zip(tests, answers_first, strict=True)
        if each.has_tag and each.thing != TAGGED == answer
    ][:EXPLAINED]
    if not mistaken:
        raise RuntimeError(
            f"no tagged photograph is called {TAGGED}: the tags were not learned, there is nothing to explain"
        )
    page = to / "4-why.html"
    plait("explain", to / "first-run", "--image", mistaken[0].path, "--text", QUESTION, "--html", page)
    return {
        "people": people,
        "explained": hangs_on(to / "first-run", mistaken),
        "models": {name: shares(run, tests) for name, run in runs.items()},
    }


def main() -> None:
    """Label, learn, explain, mend, learn again; print what changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", help="a checkpoint that reads pictures")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder in which Fashion-MNIST is")
    parser.add_argument("--to", type=Path, required=True, help="a new folder")
    parser.add_argument("--seed", type=int, default=0, help="which photographs are taken")
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    options.to.mkdir(parents=True)
    figures = loop(options.start, options.data, options.to.resolve(), options.seed, options.steps)
    table("explained", [*figures["explained"].items()], ("what", "figure"))
    table("people", [(name, str(value)) for name, value in figures["people"].items()], ("what", "figure"))
    names = list(next(iter(figures["models"].values())))
    rows = [(name, *(f"{row[each]:.1f}" for each in names)) for name, row in figures["models"].items()]  # fmt: skip
    table("after", rows, ("learned from", *names))
    finish("taught_by_people", figures)


if __name__ == "__main__":
    main()
