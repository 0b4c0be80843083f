"""What is measured: rows in files, partners of rows, cycles."""

import json

import pytest
from small_suite import WORLD, task
from worlds import text

from plait.contract import Message, Part, Sample
from plait.errors import DataError, RowError
from plait.eval.suites import Cycle, FolderRows, Suite, partners


def row(question, answer, **expect):
    parts = (question, text("?")) if isinstance(question, Part) else (text(question),)
    return Sample((Message("user", parts), Message("assistant", (text(answer),))), meta={"expect": expect})


def test_a_partner_has_another_medium_and_another_answer():
    rows = [row(Part("image", f"{n // 2}.png"), f"class {n // 4}") for n in range(12)]
    for number, partner in enumerate(partners(rows, 12)):
        assert rows[number].messages[0] != rows[partner].messages[0]
        assert rows[number].messages[1] != rows[partner].messages[1]


def test_of_rows_in_words_alone_another_answer_is_enough():
    assert partners([row("a", "1"), row("b", "1"), row("c", "2")], 3) == [2, 2, 0]


def test_where_nothing_differs_the_next_row_must_do():
    assert partners([row("a", "1")] * 3, 3) == [1, 2, 0]
    assert partners([row("a", "1")], 1) == [0]
    assert partners([], 5) == []


def test_rows_with_equal_answers_but_other_expectations_are_partners():
    rows = [row("a", "x.png", digit=1), row("b", "y.png", digit=1), row("c", "z.png", digit=2)]
    assert partners(rows, 1) == [2]


def test_partners_are_those_of_the_first_rows():
    assert len(partners([row(str(n), str(n)) for n in range(9)], 4)) == 4


def test_a_cycle_knows_all_attributes_of_its_reader():
    assert Cycle("text->image->text", "draw", "read", "digit").attributes == ("digit",)
    assert Cycle("a", "say", "hear", "word", ("speaker",)).attributes == ("word", "speaker")


def test_a_suite_finds_its_tasks_by_name():
    suite = Suite((task("text->text", "a"), task("text->image", "b")), None, {}, None, str)
    assert suite.task("b").cell == "text->image"
    with pytest.raises(StopIteration):
        suite.task("c")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.test.jsonl").write_text(
        json.dumps({"task": "a", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "meta": {"expect": {"exact": "y"}}}) + "\n"
    )  # fmt: skip
    parts = [
        {"type": "image", "image": "0.png"},
        {"type": "audio", "audio": "1.wav"},
        {"type": "image", "image": "2.png"},
    ]
    lines = [
        json.dumps({"messages": [{"role": "user", "content": [part]}], "meta": {"labels": {"digit": n}}})
        for n, part in enumerate(parts)
    ]
    (tmp_path / "labelled-judge.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_rows_of_a_folder_are_those_of_task_and_split(folder):
    rows = FolderRows(folder, WORLD.modalities)
    (sample,) = rows.rows(task("text->text", "a"), "test")
    assert sample.meta["expect"] == {"exact": "y"}
    assert rows.rows(task("text->text", "a"), "phrasing") == []
    assert rows.rows(task("text->text", "b"), "test") == []
    assert rows.notes() == []


def test_labelled_media_of_a_folder_are_told_apart_by_modality(folder):
    rows = FolderRows(folder, WORLD.modalities)
    parts, labels = rows.labelled("judge", "image")
    assert [part.value for part in parts] == [str(folder / "0.png"), str(folder / "2.png")]
    assert labels == [{"digit": 0}, {"digit": 2}]
    assert [part.value for part in rows.media("judge", "audio")] == [str(folder / "1.wav")]


def test_the_digest_changes_with_the_media_of_the_judges(folder):
    rows = FolderRows(folder, WORLD.modalities)
    before = rows.digest()
    assert before == rows.digest()
    (folder / "labelled-judge.jsonl").write_text("\n")
    assert rows.digest() != before


def test_missing_and_damaged_files_of_a_folder_are_named(folder):
    rows = FolderRows(folder, WORLD.modalities)
    with pytest.raises(DataError, match=r"labelled-test\.jsonl is not a file"):
        rows.labelled("test", "image")
    (folder / "a.test.jsonl").write_text("no JSON\n")
    with pytest.raises(RowError, match=r"a\.test\.jsonl:1"):
        rows.rows(task("text->text", "a"), "test")
