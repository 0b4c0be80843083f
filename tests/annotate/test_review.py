"""What answers come to, where people differ, and the rows of it."""

import json

import numpy as np
import pytest
from PIL import Image

from plait import registry
from plait.annotate import items, review
from plait.annotate.kinds import Question, known, overlap
from plait.annotate.project import Plan
from plait.annotate.store import ANSWER, DECIDE, SKIP, Item
from plait.api import annotating
from plait.data.rows import read_rows
from plait.errors import ConfigError, DataError
from plait.recipes.overrides import changed


def picture(path, shade=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 60, 3), shade, np.uint8)).save(path)


@pytest.fixture
def begin(tmp_path):
    """Opens projects on the media of a folder of three pictures, and closes them at the end."""
    opened = []

    def begin(question, plan=None, rows=None):
        folder = tmp_path / f"data{len(opened)}"
        if rows is None:
            for number in range(3):
                picture(folder / f"{number}.png", 50 * number)
        else:
            folder.mkdir()
            (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        project = annotating.open_project(folder, question, plan or ["overlap=3", "gold_every=0"], lambda line: None)
        opened.append(project)
        return project, folder

    yield begin
    for project in opened:
        project.store.close()


def say(project, person, values, kind=ANSWER):
    for id, value in zip(project.items, values, strict=True):
        project.say(kind, id, person, value, f"{person}{id}{kind}")


def exported(project, folder, tmp_path, **options):
    project.store.close()
    annotating.export(folder, tmp_path / "rows", say=lambda line: None, **options)
    lines = [line for path in sorted((tmp_path / "rows").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_labels_become_rows_that_training_reads(begin, tmp_path):
    project, folder = begin(Question("label", "What is it?", ("cat", "dog")))
    say(project, "ann", ["cat", "dog", "cat"])
    say(project, "ben", ["cat", "cat", "cat"])
    project.say(DECIDE, list(project.items)[1], "eve", "dog", "d")
    rows = exported(project, folder, tmp_path)
    assert len(rows) == 3
    by_answer = [row["messages"][-1]["content"][0]["text"] for row in rows]
    assert sorted(by_answer) == ["cat", "cat", "dog"]
    (decided,) = [row for row in rows if row["meta"]["annotated"]["method"] == "decision"]
    assert decided["messages"][-1]["content"][0]["text"] == "dog"
    assert decided["meta"]["annotated"]["answers"] == {"ann": "dog", "ben": "cat"}
    assert decided["meta"]["annotated"]["by"] == ["ann", "ben"]
    question = decided["messages"][0]["content"]
    assert question[0]["type"] == "image"
    assert question[1]["text"] == "What is it?", "words of one's own, as they will be asked again"
    assert (tmp_path / "rows" / question[0]["image"]).is_file()
    from plait import api

    for path in (tmp_path / "rows").glob("*.jsonl"):
        assert not api.check(path, say=lambda line: None).bad_lines


def test_words_of_the_kind_itself_tell_what_may_be_answered(begin, tmp_path):
    project, folder = begin(Question("label", "", ("cat", "dog")))
    say(project, "ann", ["cat", "dog", "cat"])
    row, *_ = exported(project, folder, tmp_path)
    assert row["messages"][0]["content"][1]["text"] == "What is this? Answer with cat, dog."


def test_boxes_become_the_text_of_boxes(begin, tmp_path):
    project, folder = begin(Question("box", "", ("cat",)))
    first = [{"label": "cat", "box": [100, 100, 300, 300]}]
    second = [{"label": "cat", "box": [120, 100, 320, 300]}, {"label": "cat", "box": [700, 700, 800, 800]}]
    third = [{"label": "cat", "box": [110, 100, 310, 300]}]
    for person, boxes in (("ann", first), ("ben", second), ("cid", third)):
        say(project, person, [boxes, [], boxes])
    rows = exported(project, folder, tmp_path)
    texts = sorted(row["messages"][-1]["content"][0]["text"] for row in rows)
    assert texts == ["cat [110, 100, 310, 300]", "cat [110, 100, 310, 300]", "none"]


def test_choices_become_preferences(begin, tmp_path):
    rows = [{"prompt": f"Say {n}.", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(3)]
    project, folder = begin(Question("choose", ""), rows=rows)
    say(project, "ann", ["first", "second", "same"])
    rows = exported(project, folder, tmp_path)
    said = {row["prompt"][0]["content"]: (row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows}
    assert said == {"Say 0.": ("yes 0", "no 0"), "Say 1.": ("no 1", "yes 1")}, "no difference teaches nothing"


def test_ratings_do_not_teach_the_answer_that_was_rated(begin, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": "A"}]} for n in range(2)
    ]
    project, folder = begin(Question("rate", "How good?", ("bad", "fair", "good")), rows=rows)
    say(project, "ann", [1, 3])
    say(project, "ben", [2, 3])
    (first, second) = exported(project, folder, tmp_path)
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert [part["text"] for part in first["messages"][0]["content"]] == [
        "Q0",
        "A",
        "How good? Answer with a number. 1: bad, 2: fair, 3: good.",
    ]
    assert first["messages"][-1]["content"][0]["text"] == "1"
    assert second["messages"][-1]["content"][0]["text"] == "3"


def test_what_is_said_of_a_preference_is_no_preference(begin, tmp_path):
    rows = [{"prompt": "Q", "chosen": "A", "rejected": "B"}]
    project, folder = begin(Question("label", "Polite?", ("yes", "no")), rows=rows)
    say(project, "ann", ["yes"])
    (row,) = exported(project, folder, tmp_path)
    assert "rejected" not in row
    assert row["messages"][-1]["content"][0]["text"] == "yes"


def test_a_document_that_is_labelled_is_a_row_that_training_reads(begin, tmp_path):
    project, folder = begin(Question("label", "Polite?", ("yes", "no")), rows=[{"content": "Thank you."}])
    say(project, "ann", ["no"])
    exported(project, folder, tmp_path)
    known = registry.build_all(registry.available())
    files = sorted((tmp_path / "rows").glob("*.jsonl"))
    (sample,) = [sample for file in files for sample in read_rows(file, known)]
    assert [message.role for message in sample.messages] == ["user", "assistant"]


def test_a_rejected_picture_that_is_broken_is_left_out_and_said(begin, tmp_path):
    good, bad = (
        [{"role": "assistant", "content": [{"type": "image", "image": f"{name}.png"}]}] for name in ("good", "bad")
    )
    rows = [{"prompt": "Draw.", "chosen": good, "rejected": bad}, {"prompt": "Say.", "chosen": "A", "rejected": "B"}]
    project, folder = begin(Question("choose", ""), rows=rows)
    picture(folder / "good.png", 90)
    (folder / "bad.png").write_bytes(b"no picture")
    say(project, "ann", ["first", "first"])
    project.store.close()
    told = []
    annotating.export(folder, tmp_path / "rows", say=told.append)
    rows = [json.loads(line) for path in (tmp_path / "rows").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [row["prompt"][0]["content"] for row in rows] == ["Say."]
    assert any("left out" in line and "picture" in line for line in told)


def test_corrections_take_the_place_of_the_answer(begin, tmp_path):
    rows = [{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5"}]}]
    project, folder = begin(Question("correct", ""), rows=rows)
    say(project, "ann", ["4"])
    (row,) = exported(project, folder, tmp_path)
    assert [part["text"] for message in row["messages"] for part in message["content"]] == ["2 + 2?", "4"]


def test_disputes_come_by_how_far_they_lie_apart(begin):
    project, _ = begin(Question("label", "", ("cat", "dog", "bird")))
    say(project, "ann", ["cat", "cat", "cat"])
    say(project, "ben", ["cat", "dog", "cat"])
    say(project, "cid", ["cat", "bird", "dog"])
    ids = list(project.items)
    assert [dispute.item.id for dispute in review.disputes(project)] == [ids[1], ids[2]]
    project.say(DECIDE, ids[1], "eve", "cat", "d")
    assert [dispute.item.id for dispute in review.disputes(project)] == [ids[2]]


def test_an_export_says_where_people_differ_and_nobody_decided(begin, tmp_path):
    project, folder = begin(Question("label", "What is it?", ("cat", "dog")))
    say(project, "ann", ["cat", "cat", "dog"])
    say(project, "ben", ["cat", "dog", "cat"])
    assert review.statistics(project)["disputed"] == 2
    project.say(DECIDE, list(project.items)[2], "eve", "cat", "d")
    assert review.statistics(project)["disputed"] == 1
    project.store.close()
    told = []
    annotating.export(folder, tmp_path / "rows", say=told.append)
    assert [line[:50] for line in told] == [
        "1 of 3 items: people differ and nobody decided, so",
        "2 of 3 items have fewer answers than the 3 that ov",
    ]
    told.clear()
    assert annotating.export(folder, tmp_path / "sure", agreed_only=True, say=told.append) == {"train": 2}
    assert [line.split(" items")[0] for line in told] == ["1 of 2"], "one has two answers, one is decided"


def test_a_dispute_is_left_out_however_sure_the_crowd_is(begin, tmp_path):
    """With three persons a model of their errors may be sure of what two differ about."""
    project, folder = begin(Question("label", "", ("cat", "dog")), ["overlap=2", "gold_every=0"])
    first, second, third = project.items
    for id, person, value in (
        (first, "ann", "cat"),
        (first, "ben", "cat"),
        (second, "ann", "cat"),
        (second, "ben", "dog"),
        (third, "cid", "cat"),
    ):
        project.say(ANSWER, id, person, value, f"{person}{id}")
    project.store.close()
    told = []
    assert sum(annotating.export(folder, tmp_path / "all", say=told.append).values()) == 3
    assert any(line.startswith("1 of 3 items: people differ") and line.endswith("--agreed") for line in told)
    assert "1 of 3 items have fewer answers than the 2 that overlap=2 asks for" in told
    assert sum(annotating.export(folder, tmp_path / "agreed", agreed_only=True, say=told.append).values()) == 2


def test_a_person_who_is_left_out_and_those_who_pass_over_dispute_nothing(begin, tmp_path):
    rows = [
        {
            "messages": [
                {"role": "user", "content": word},
                *([{"role": "assistant", "content": "cat"}] * (word == "gold")),
            ],
            "meta": {"gold": word == "gold"},
        }
        for word in ("gold", "one", "two")
    ]
    project, folder = begin(Question("label", "", ("cat", "dog")), ["overlap=5", "gold_every=2"], rows)
    gold, one, two = project.items
    for person, value in (("ann", "cat"), ("ben", "cat"), ("bad", "dog")):
        for id in (gold, one):
            project.say(ANSWER, id, person, value, f"{person}{id}")
    for person in ("ann", "ben", "cid"):
        project.say(ANSWER, two, person, "dog", f"{person}{two}")
    for person in ("dan", "eva"):
        project.say(SKIP, two, person, None, f"{person}{two}")
    project.store.close()
    told = []
    assert (
        sum(annotating.export(folder, tmp_path / "a", least_gold=0.8, agreed_only=True, say=told.append).values()) == 2
    )
    assert not any("people differ" in line for line in told)
    assert sum(annotating.export(folder, tmp_path / "b", agreed_only=True, say=told.append).values()) == 1


def test_an_export_before_any_answer(begin, tmp_path):
    project, folder = begin(Question("label", "", ("cat", "dog")))
    project.store.close()
    with pytest.raises(ConfigError, match=r"there is no answer to write; expected some: label first$"):
        annotating.export(folder, tmp_path / "rows")
    with pytest.raises(ConfigError, match=r"no answer that is chosen to write; .* or leave less out$"):
        annotating.export(folder, tmp_path / "rows", agreed_only=True)


def test_what_two_pass_over_is_a_dispute(begin):
    project, _ = begin(Question("label", "", ("cat", "dog")))
    first = next(iter(project.items))
    for person in ("ann", "ben"):
        project.say(SKIP, first, person, None, person)
    (dispute,) = review.disputes(project)
    assert dispute.passed_over == ("ann", "ben")
    assert dispute.settled is None


def test_persons_who_miss_known_items_are_left_out(begin, tmp_path):
    gold = {
        "messages": [{"role": "user", "content": "G"}, {"role": "assistant", "content": "cat"}],
        "meta": {"gold": True},
    }
    rows = [{"messages": [{"role": "user", "content": "Q"}]}, gold]
    project, folder = begin(Question("label", "", ("cat", "dog")), rows=rows)
    say(project, "ann", ["cat", "cat"])
    say(project, "ben", ["dog", "dog"])
    say(project, "cid", ["dog", "dog"])
    assert review.gold_scores(project) == {"ann": (1, 1), "ben": (0, 1), "cid": (0, 1)}
    (row,) = exported(project, folder, tmp_path, least_gold=0.5)
    assert row["messages"][-1]["content"][0]["text"] == "cat"
    assert row["meta"]["annotated"]["by"] == ["ann"]


def test_statistics_tell_agreement_and_persons(begin):
    project, _ = begin(Question("label", "", ("cat", "dog")))
    for person, values in (
        ("ann", ["cat", "dog", "cat"]),
        ("ben", ["cat", "dog", "cat"]),
        ("cid", ["dog", "cat", "dog"]),
    ):
        say(project, person, values)
    told = review.statistics(project)
    assert told["complete"] == 3
    assert told["alpha"] < 0
    assert {(pair["first"], pair["second"]): pair["kappa"] for pair in told["kappas"]}["ann", "ben"] == 1.0
    assert [person["name"] for person in told["persons"]] == ["ann", "ben", "cid"]
    json.dumps(told)


def test_the_nearest_text_is_taken(begin):
    project, _ = begin(Question("transcribe", ""))
    say(project, "ann", ["the cat sat", "x", "x"])
    say(project, "ben", ["the cat sad", "x", "x"])
    say(project, "cid", ["a hat sat down", "x", "x"])
    first, second, _ = review.results(project)
    assert first.value in ("the cat sat", "the cat sad")
    assert second.confidence == 1.0
    assert first.confidence < 1.0


def test_a_median_is_what_somebody_said():
    settled = known("rate").settle({"i": {"ann": 1, "ben": 2, "cid": 5, "dan": 5}})
    assert settled["i"].value == 2


def test_overlap_of_boxes():
    assert overlap([0, 0, 10, 10], [5, 0, 15, 10]) == pytest.approx(1 / 3)
    assert overlap([0, 0, 10, 10], [10, 0, 15, 10]) == 0.0


@pytest.mark.parametrize(
    ("row", "question", "message"),
    [
        ({"messages": [{"role": "user", "content": "Q"}]}, Question("rate", "", ("bad", "good")), "has no answer"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}, Question("choose", ""), "one answer"),
        ({"messages": [{"role": "user", "content": "Q"}]}, Question("box", "", ("cat",)), "no medium"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "fish"}], "meta": {"gold": True}}, Question("label", "", ("cat", "dog")), "gold"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_asked_about_are_said(tmp_path, row, question, message):
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=f"train.jsonl:1.*{message}"):
        annotating.open_project(tmp_path, question)
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"], "another question may be asked"


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(DataError, match="no rows, pictures or clips"):
        annotating.open_project(tmp_path, Question("label", "", ("cat", "dog")))
    with pytest.raises(ConfigError, match="is not there"):
        annotating.open_project(tmp_path / "nowhere", None)
    with pytest.raises(ConfigError, match="expected --ask"):
        annotating.open_project(tmp_path, None)


def test_new_media_are_added_to_a_project(begin):
    project, folder = begin(Question("label", "", ("cat", "dog")))
    say(project, "ann", ["cat", "cat", "cat"])
    project.store.close()
    picture(folder / "more/new.png", 200)
    again = annotating.open_project(folder, say=lambda line: None)
    assert len(again.items) == 4
    assert sum(bool(again.answers_of(id)) for id in again.items) == 3
    again.store.close()


def test_items_of_a_file_of_rows(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Q"}]}) + "\n")
    (item,) = items.read(path, Question("transcribe", ""))
    assert isinstance(item, Item)
    assert annotating.store_of(path).parent == tmp_path


@pytest.mark.parametrize(
    "override", ["overlap", "overlap=x", "nothing=1", "overlap=0", "gold_every=-1", "overlap=true"]
)
def test_plans_that_are_none(override):
    with pytest.raises(ConfigError, match="expected"):
        changed(Plan(), [override])


def test_a_mistyped_plan_is_told_what_it_may_mean(tmp_path):
    picture(tmp_path / "a.png")
    question = Question("label", "", ("cat", "dog"))
    with pytest.raises(ConfigError, match=r"got 'overlp=2'; expected .*; did you mean overlap\?"):
        annotating.open_project(tmp_path, question, ["overlp=2"])
    with pytest.raises(ConfigError, match=r"reviewers='?a,b'?$"):
        annotating.open_project(tmp_path, question, ["overlap=many"])


def test_an_override_leaves_the_rest_of_the_plan(tmp_path):
    picture(tmp_path / "0.png")
    question = Question("label", "", ("cat", "dog"))
    for overrides in (["overlap=3", "reviewers=eve,eva"], ["gold_every=5"], []):
        project = annotating.open_project(tmp_path, question, overrides, lambda line: None)
        project.store.close()
    assert (project.plan.overlap, project.plan.gold_every, project.plan.reviewers) == (3, 5, ("eve", "eva"))
    with pytest.raises(ConfigError, match="one of the reviewers: eve, eva"):
        project.check_reviewer("ann")


def test_media_that_broke_are_left_out_of_the_rows_and_said(begin, tmp_path):
    project, folder = begin(Question("label", "", ("cat", "dog")))
    say(project, "ann", ["cat", "dog", "cat"])
    project.store.close()
    (folder / "0.png").unlink()
    (folder / "1.png").write_text("<html>")
    told = []
    annotating.export(folder, tmp_path / "rows", say=told.append)
    gone = {item.id for item in project.items.values() if item.row["messages"][0]["content"][0]["image"] < "2"}
    assert (len(told), len(gone)) == (2, 2)
    assert "1 of 1 items have fewer answers" in told[1]
    assert told[0].startswith("left out: item")
    assert all(id in told[0] for id in gone)


def test_files_with_odd_names_and_damaged_stores(tmp_path):
    question = Question("label", "", ("cat", "dog"))
    picture(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "bad\udcff.png")
    picture(tmp_path / "b.png")
    told = []
    project = annotating.open_project(tmp_path, question, say=told.append)
    assert len(project.items) == 1
    assert "UTF-8" in told[0]
    project.store.close()
    store = annotating.store_of(tmp_path)
    store.write_bytes(store.read_bytes()[:4096] + b"\x99" * 40_000)
    for use in (lambda: annotating.open_project(tmp_path), lambda: annotating.status(tmp_path)):
        with pytest.raises(ConfigError, match="move a broken one away"):
            use()


def test_how_it_stands_is_told_while_pages_ask(begin, tmp_path):
    project, folder = begin(Question("label", "", ("cat", "dog")))
    say(project, "ann", ["cat", "dog", "cat"])
    assert annotating.status(folder)["answers"] == 3
    assert sum(annotating.export(folder, tmp_path / "rows").values()) == 3
    (folder / "0.png").unlink()
    project.store.close()
    told = []
    annotating.open_project(folder, say=told.append).store.close()
    assert "1 of them are gone from" in told[-1]


@pytest.mark.parametrize("name", ["t.xml", "nowhere/t.json", "t"])
def test_where_tasks_cannot_be_written(begin, tmp_path, name):
    _, folder = begin(Question("label", "", ("cat", "dog")))
    with pytest.raises(ConfigError, match="a folder that is there"):
        annotating.give(folder, tmp_path / name)
