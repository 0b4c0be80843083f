"""The tasks of the picture dictionary: the items that they make of groups."""

from dataclasses import replace

import numpy as np
import pytest

from plait.contract import Part
from plait.data.sources import Asset
from plait.tasks.dictionary import BY_NAME, TASKS, Group
from plait.tasks.task import Item


def test_the_same_is_asked_in_other_words():
    def row(phrasing, text, language="German"):
        task = BY_NAME["translate"]
        slots = {"text": text, "given": "English", "language": language}
        return task.sample(task.phrasings[phrasing], Item(slots, Part("text", "x"), {})).meta["asks"]

    assert row(0, "Good night!") == row(1, "good night") == row(-1, "Good night")
    assert row(0, "Good night!") != row(0, "Good night!", "French")
    assert row(0, "!") != row(0, "?"), "where there are no words the marks are told apart"
    heard = BY_NAME["transcribe"].sample(
        "{speech} What?", Item({"speech": Part("audio", "a.wav")}, Part("text", "x"), {})
    )
    assert "asks" not in heard.meta


@pytest.mark.parametrize(
    ("middle", "answer"),
    [((10, 10), "top left"), ((50, 5), "top"), ((90, 50), "right"), ((50, 50), "middle"), ((40, 99), "bottom")],
)
def test_where_things_are(middle, answer):
    box = [middle[0] - 3, 2 * middle[1] - 3, middle[0] + 3, 2 * middle[1] + 3]
    facts = {"boxes": [{"label": "bee", "box": box}], "size": [100, 200]}
    asset = Asset("composites", "boxes", "one", {"picture": "one.png"}, facts=facts)
    [item] = BY_NAME["where"].make(Group("one", [asset], np.random.default_rng(0)))
    assert item.answer.value == answer


def test_cells_are_counted_with_evidence():
    boxes = [{"label": "platelet", "box": [10, 20, 30, 40]}, {"label": "platelet", "box": [50, 60, 70, 80]}]
    boxes += [{"label": "red blood cell", "box": [n, n, n + 5, n + 5]} for n in range(13)]
    asset = Asset("bccd", "boxes", "one", {"picture": "one.png"}, facts={"boxes": boxes, "size": [100, 100]})
    items = {i.facts["label"]: i for i in BY_NAME["blood"].make(Group("one", [asset], np.random.default_rng(0)))}
    assert set(items) == {"platelet"}, (
        "thirteen are more than an answer lists, and no white cell means that none was marked"
    )
    assert items["platelet"].answer.value.startswith("2: [100, 200, 300, 400]; [500, 600, 700, 800]. No medical device")
    assert items["platelet"].facts["number"] == 2
    none = replace(asset, facts=asset.facts | {"boxes": boxes[2:4]})
    answers = {
        i.facts["label"]: i.answer.value for i in BY_NAME["blood"].make(Group("one", [none], np.random.default_rng(0)))
    }
    assert answers["platelet"].startswith("0. No medical device")
    assert answers["red blood cell"].startswith("2: ")
    unmarked = replace(asset, facts=asset.facts | {"boxes": boxes[:2]})
    group = Group("one", [unmarked], np.random.default_rng(0))
    assert not [*BY_NAME["blood"].make(group), *BY_NAME["detect"].make(group), *BY_NAME["count"].make(group)]


def test_every_cell_of_the_grid_has_a_task():
    kinds = ("text", "image", "audio")
    assert {f"{a}->{b}" for a in kinds for b in kinds} <= {task.cell for task in TASKS}
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert all(len(task.phrasings) >= 3 for task in TASKS)
