"""Explanations from question to JSON and page; what cannot be explained is said."""

import dataclasses
import json
import re
import shutil
from importlib.resources import files

import numpy as np
import pytest
from worlds import World, templated, text

from plait.contract import Message, Part
from plait.errors import ConfigError
from plait.explain.explanation import MOST_TARGETS, SENTENCES, Subject, explain, sentence
from plait.explain.faithfulness import Curves, Verdict
from plait.explain.methods import METHODS
from plait.explain.page import page
from plait.explain.scorer import Scorer, Target
from plait.infer.engine import Engine

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(params=[False, True], ids=["marks", "template"])
def subject(request):
    world = templated(World()) if request.param else World()
    model = world.model().eval()
    subject = Subject(Engine(model), {}, lambda: model)
    object.__setattr__(subject, "world", world)
    return subject


def asked(*parts):
    return (Message("user", tuple(parts)),)


def told(*parts):
    return Message("assistant", tuple(parts))


def test_an_answer_has_one_map_with_a_number_a_unit(subject):
    world = subject.world
    found = explain(subject, asked(world.part("image", 2), text("what is this?")), told(text("yes")))
    [one] = found.maps
    assert len(one.values) == len(found.units)
    data = json.loads(found.to_json())
    assert data["method"] == "shapley"
    assert [part["type"] for part in data["messages"][0]["parts"]] == ["image", "text"]
    assert data["messages"][1]["parts"] == [{"type": "text", "text": "yes"}]
    assert [unit["kind"] for unit in data["units"]][-4:] == ["text"] * 4
    assert len(data["maps"][0]["values"]) == len(data["units"])
    assert set(data["maps"][0]["verdict"]) >= {"faithfulness", "random", "chance", "is_faithful", "curves"}


def test_every_token_of_an_answer_is_explained_by_what_came_before_it(subject):
    found = explain(subject, asked(text("what is this?")), told(text("zwei")), of="token")
    assert "".join(one.label for one in found.maps) == "zwei"
    last = found.maps[-1]
    of_answer = [n for n, unit in enumerate(found.units) if unit.message == 1]
    if len(found.maps) > 1:
        assert any(last.values[n] for n in of_answer)
        assert not any(found.maps[0].values[n] for n in of_answer), "of what comes later nothing is told"


def test_patches_and_frames_have_places(subject):
    world = subject.world
    picture, sound = world.part("image", 4), world.part("audio", 5)
    found = explain(subject, asked(text("draw seven")), told(picture), of="patch")
    boxes = [one.region["box"] for one in found.maps]
    assert boxes[0][:2] == (0, 0)
    assert boxes[-1][2:] == (1, 1)
    assert len(set(boxes)) == len(boxes)
    found = explain(subject, asked(text("say it")), told(sound), of="frame:1")
    [one] = found.maps
    first, last = one.region["seconds"]
    assert first == pytest.approx(last - first)


def test_a_long_answer_is_explained_up_to_a_bound(subject, monkeypatch):
    monkeypatch.setattr("plait.explain.explanation.MOST_TARGETS", 3)
    assert MOST_TARGETS > 3
    found = explain(subject, asked(text("what?")), told(text("yes yes yes yes yes")), of="token")
    assert len(found.maps) == 3


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"of": "word"}, "of='word'; expected answer, token"),
        ({"of": "token:x"}, "of='token:x'"),
        ({"of": "token:99"}, "expected a token from 0 to"),
        ({"of": "answer:1"}, "of='answer:1'"),
        ({"method": "magic"}, "'magic'; expected one of shapley"),
        ({"part": 2}, "part 2 of an answer of 1"),
    ],
)
def test_what_is_not_there_is_said(subject, options, what):
    with pytest.raises(ConfigError, match=what):
        explain(subject, asked(text("what?")), told(text("yes")), **options)


def test_an_empty_answer_is_nothing_to_explain(subject):
    with pytest.raises(ConfigError, match="empty"):
        explain(subject, asked(text("what?")), told())


def verdict_of(chance, matters=1.0, units=9):
    return Verdict(Curves(units, (1,), 1.0, 0.0, (0.4,), (0.6,)), 0.1, chance, matters)


def test_what_is_no_more_than_chance_says_so():
    assert "NOT more faithful" in sentence(verdict_of(0.5))
    assert "NOT" not in sentence(verdict_of(0.0))
    assert "nothing to explain" in sentence(verdict_of(0.0, matters=0.001))
    assert "too few pieces" in sentence(verdict_of(0.0, units=3))


def test_more_than_is_affordable_is_refused_before_it_begins(subject):
    bounded = dataclasses.replace(subject, most_tokens=100)
    with pytest.raises(ConfigError, match="expected at most 100: a shorter question"):
        explain(bounded, asked(text("what is this?")), told(text("yes")))


def test_what_nobody_waits_for_ends_between_two_batches(subject, monkeypatch):
    calls = []

    def check():
        calls.append(1)
        if len(calls) > 1:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        explain(dataclasses.replace(subject, check=check), asked(text("what is this?")), told(text("yes")))


@pytest.mark.parametrize("written", ["四 is 🙂", "не знаю", "  what is this?  ", "שלום yes"])
def test_units_of_any_script_are_what_people_see(subject, written):
    """Characters of several tokens are hidden whole, and every token belongs to the word that it writes."""
    found = explain(subject, asked(text(written)), told(text("yes")))
    pieces = [written[int(unit.region["characters"][0]) : int(unit.region["characters"][1])] for unit in found.units]
    assert "".join(pieces).strip() == written.strip()
    assert all(piece.strip() for piece in pieces)
    tokens = [token for unit in found.units for token in unit.tokens]
    assert len(tokens) == len(set(tokens))


def test_tokens_of_an_answer_with_blanks_are_targets(subject):
    found = explain(subject, asked(text("what is this?")), told(text("yes ")), of="token")
    assert "".join(one.label for one in found.maps).strip() == "yes"


def test_every_unit_of_a_target_can_change_its_score(subject):
    """The token from which the model goes on is no unit: hidden or not, it is what asks."""
    question, answer = asked(text("what is this?")), told(text("yes zwei 四"))
    whole = Scorer(subject.engine, question, answer)
    for number in range(1, whole.tokens):
        scorer = Scorer(subject.engine, question, answer, Target(0, number, number + 1))
        [shown, *without] = scorer.scores(np.vstack([scorer.none_hidden, np.eye(len(scorer.units), dtype=bool)]))
        assert all(abs(score - shown) > 1e-7 for score in without)


def test_a_whole_answer_in_sound_is_not_explained_by_itself(subject):
    rng = np.random.default_rng(0)
    sound = Part("audio", (0.1 * rng.standard_normal(16_000).astype(np.float32), 16_000))
    found = explain(subject, asked(text("say it")), told(sound))
    assert {unit.message for unit in found.units} == {0}
    later = explain(subject, asked(text("say it")), told(sound), of="frame:9")
    frames = [unit for unit in later.units if unit.message == 1]
    assert frames
    assert max(unit.region["seconds"][1] for unit in frames) <= later.maps[0].region["seconds"][0] + 1e-6


def test_the_table_names_units_as_people_do(subject):
    world = subject.world
    question = asked(world.part("audio", 3), world.part("image", 2), text("what is this?"))
    table = explain(subject, question, told(text("yes"))).table(most=99)
    for kind in ("audio, 0.00 to", "image, ", "% from the left", "'what'", "'?'"):
        assert kind in table, kind


def test_the_table_says_how_much_it_leaves_out(subject):
    found = explain(subject, asked(subject.world.part("audio", 3), text("what is this?")), told(text("yes")))
    (one,) = found.maps
    assert sum(value != 0 for value in one.values) > 3
    shares = [int(line.split()[0]) for line in found.table(most=3).splitlines()[:4]]
    (rest,) = [line for line in found.table(most=3).splitlines() if " more, " in line]
    assert f"in {sum(value != 0 for value in one.values) - 3} more" in rest
    assert sum(map(abs, shares)) == pytest.approx(100, abs=3)
    assert " more, " not in found.table(most=999)
    assert "-0 %" not in found.table(most=999)


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")
def test_the_page_shows_heat_and_its_tokens_can_be_chosen(subject, tmp_path):
    """In Chromium: a square of heat a unit, methods to choose from, a map for each token; markup in a question is text."""
    world = subject.world
    question = asked(world.part("image", 2), world.part("audio", 3), text("what </script><!-- <b>is</b> 四 this?"))
    answer = told(text("yes zwei"))
    found = [explain(subject, question, answer, of="token", method=method) for method in ("masking", "relevance")]
    path = tmp_path / "why.html"
    path.write_text(page(found), encoding="utf-8")
    options = webdriver.ChromeOptions()
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,1000"):
        options.add_argument(argument)
    options.binary_location = CHROMIUM
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        browser.get(path.as_uri())
        units = [unit for unit in found[0].units if unit.message == 0]
        marks = browser.find_elements(By.CSS_SELECTOR, "[data-unit]")
        assert len(marks) == len(units)
        words = browser.find_element(By.CSS_SELECTOR, ".heat-words")
        assert words.text == "what </script><!-- <b>is</b> 四 this?"
        assert not browser.find_elements(By.CSS_SELECTOR, ".heat-words b")
        strongest = int(np.argmax(np.abs(found[0].maps[0].values)))
        colour = {
            int(mark.get_attribute("data-unit")): mark.value_of_css_property("background-color") for mark in marks
        }
        assert "0.55" in colour[strongest]
        choices = browser.find_elements(By.CSS_SELECTOR, ".heat-choice")
        assert len(choices) == len(found[0].maps)
        choices[-1].click()
        pressed = browser.find_elements(By.CSS_SELECTOR, ".heat-choice[aria-pressed=true]")
        assert [each.get_attribute("data-target") for each in pressed] == [str(len(found[0].maps) - 1)]
        select = browser.find_element(By.CSS_SELECTOR, "[data-methods]")
        assert [each.text for each in select.find_elements(By.TAG_NAME, "option")] == ["masking", "relevance"]
        assert browser.find_elements(By.CSS_SELECTOR, ".heat-verdict svg polyline")
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    finally:
        browser.quit()


def test_a_broken_clip_on_a_page_is_said(subject):
    found = explain(subject, asked(text("what?")), told(text("yes")))
    broken = Message("user", (Part("image", "gone.png"),))
    object.__setattr__(found, "messages", (broken,))
    assert "gone.png" in page([found])


def test_every_method_is_named_in_the_help():
    from plait.explain import methods

    assert all(f"    {name} " in methods.__doc__ or f"    {name}  " in methods.__doc__ for name in METHODS)


def test_the_pages_have_each_outcome_and_each_view_in_chinese():
    """With the same figures in them."""
    words = (files("plait") / "web" / "words.js").read_text(encoding="utf-8")
    chinese = dict(re.findall(r'"((?:outcome|title|caption) \w+)": "([^"]*)"', words))
    wanted = {f"outcome {name}": set(re.findall(r"{(\w+)}", text)) for name, text in SENTENCES.items()}
    figures = {"patched": {"score", "other"}, "untelling": {"score", "other", "distance"}}
    for kind in ("ids", "flow", "patched", "untelling"):
        wanted |= {f"title {kind}": set(), f"caption {kind}": figures.get(kind, set())}
    assert {key: set(re.findall(r"{(\w+)}", text)) for key, text in chinese.items()} == wanted
