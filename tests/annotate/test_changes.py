"""What becomes of a project when its files change, and when its question was mistyped."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from plait.annotate import review
from plait.annotate.kinds import Question
from plait.annotate.store import ANSWER
from plait.api import annotating
from plait.errors import ConfigError

LABELS = Question("label", "What is it?", ("cat", "dog"))


@pytest.fixture
def data(tmp_path):
    """Four pictures of one colour each."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(4):
        picture(folder, number, 50 * number)
    return folder


def picture(folder, number, level):
    Image.new("RGB", (32, 32), (level, level, level)).save(folder / f"{number}.png")


def opened(data, question=None, *overrides):
    told = []
    return annotating.open_project(data, question, overrides, told.append), told


def name_of(item):
    return item.row["messages"][0]["content"][0]["image"]


def label_all(project, person="ann"):
    """Label by the name of the file; returns the names in the order in which they were asked about."""
    names = []
    while item := project.next(person):
        names.append(name_of(item))
        project.say(ANSWER, item.id, person, "cat" if name_of(item) < "2" else "dog", f"{person}{item.id}")
    return names


def test_a_picture_that_was_changed_takes_no_earlier_label(data, tmp_path):
    project, _ = opened(data, LABELS)
    assert sorted(label_all(project)) == ["0.png", "1.png", "2.png", "3.png"]
    project.store.close()
    picture(data, 0, 200)  # another one now
    (data / "1.png").unlink()
    told = []
    annotating.export(data, tmp_path / "out", say=told.append)
    assert told[0].startswith("left out: item")
    assert "is gone, or another than when people were asked" in told[0]
    rows = [json.loads(line) for path in (tmp_path / "out").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in rows] == [[{"type": "text", "text": "dog"}]] * 2
    project, told = opened(data)
    assert "2 of them are gone" in " ".join(told)
    assert label_all(project) == ["0.png"], "it is asked about as it is now"
    assert project.progress()["complete"] == 5, "what was said of the others stays"
    project.store.close()
    annotating.export(data, tmp_path / "again")
    rows = [json.loads(line) for path in (tmp_path / "again").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(rows) == 3


def test_a_picture_that_is_gone_is_asked_about_no_more_and_comes_back_with_its_file(data):
    opened(data, LABELS)[0].store.close()
    kept = (data / "3.png").read_bytes()
    (data / "3.png").unlink()
    project, _ = opened(data)
    assert sorted(label_all(project)) == ["0.png", "1.png", "2.png"]
    progress = project.progress()
    assert progress["items"] == progress["complete"] == 3, "the work can be done"
    project.store.close()
    assert annotating.status(data)["items"] == 3
    (data / "3.png").write_bytes(kept)
    project, _ = opened(data)
    assert label_all(project) == ["3.png"]
    project.store.close()


def test_rows_that_left_the_file_are_as_they_were(tmp_path):
    rows = [json.dumps({"messages": [{"role": "user", "content": f"Question {number}"}]}) for number in range(3)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    opened(tmp_path, LABELS)[0].store.close()
    (tmp_path / "train.jsonl").write_text("\n".join(rows[:2]))
    project, told = opened(tmp_path)
    assert "1 of them are not in" in " ".join(told)
    assert sum(1 for _ in iter(lambda: answer(project), None)) == 3
    project.store.close()


def answer(project):
    item = project.next("ann")
    return item and project.say(ANSWER, item.id, "ann", "cat", item.id)


def test_a_question_is_mended_until_somebody_answers(data):
    opened(data, Question("label", "What is it?", ("cat", "dgo")))[0].store.close()
    project, _ = opened(data, LABELS)
    assert project.question == LABELS
    assert answer(project)
    project.store.close()
    with pytest.raises(ConfigError, match="do not mix"):
        opened(data, Question("label", "What is it?", ("cat", "dgo")))
    assert annotating.status(data)["answers"] == 1


def test_reviewers_are_called_as_persons_are(data):
    project, _ = opened(data, LABELS, "reviewers= Anna ,Jose\u0301")
    assert [project.may_decide(name) for name in (" Anna ", "Anna", "Jos\u00e9", "cid", "")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    project.store.close()


def test_what_is_absent_is_not_reviewed_guessed_or_given(data, tmp_path):
    project, _ = opened(data, LABELS, "overlap=2")
    label_all(project)
    for id in list(project.items):
        project.say(ANSWER, id, "ben", "dog", f"ben{id}")
    assert len(review.disputes(project)) == 2
    project.store.close()
    (data / "0.png").unlink()
    project, _ = opened(data)
    assert [name_of(dispute.item) for dispute in review.disputes(project)] == ["1.png"]
    (absent,) = (id for id in project.items if project.is_absent(id))
    asked = []
    model = SimpleNamespace(network=SimpleNamespace(vocabulary=SimpleNamespace(modalities=Asked(asked))))
    project.plan = replace(project.plan, overlap=9)
    list(annotating.guesses(model, "m", project, data))
    assert len(asked) == 3
    project.store.close()
    annotating.give(data, tmp_path / "tasks.json")
    assert absent not in (tmp_path / "tasks.json").read_text()


class Asked(dict):
    """Modalities that note that they were wanted, and have none."""

    def __init__(self, asked):
        self.asked = asked

    def __contains__(self, name):
        self.asked.append(name)
        return False


def test_a_mended_question_takes_its_items_anew(tmp_path):
    row = {
        "messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "dog"}],
        "meta": {"gold": True},
    }
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    project, _ = opened(tmp_path, LABELS)
    assert [item.gold for item in project.items.values()] == ["dog"]
    project.store.close()
    with pytest.raises(ConfigError, match="nothing in it can be asked about"):
        opened(tmp_path, Question("label", "What is it?", ("feline", "canine")))
    with pytest.raises(ConfigError, match="nothing in it can be asked about"):
        opened(tmp_path, Question("choose", "Which is better?", ()))
    project, _ = opened(tmp_path, LABELS)
    assert [item.gold for item in project.items.values()] == ["dog"]
    project.store.close()
