"""Rows and their names: an id is the hash of a line, wherever it stands."""

import json

import pytest
from worlds import World

from plait.data.rows import BOM, dump_row, parse_line, parse_row, read_rows, row_id
from plait.data.validate import list_bad_rows
from plait.errors import RowError

KNOWN = World().modalities


def line(question, answer="yes"):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}).encode()


@pytest.mark.parametrize("content", ["a text", [{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}]])
def test_a_document_is_written_as_it_is_read(tmp_path, content):
    sample = parse_row({"content": content, "meta": {"from": "here"}}, tmp_path, KNOWN)
    again = parse_row(json.loads(dump_row(sample)), tmp_path, KNOWN)
    assert (again.messages, again.meta) == (sample.messages, sample.meta)
    assert again.messages[0].role is None


def test_a_row_keeps_its_id_wherever_it_stands(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n".join([line("a"), line("b")]) + b"\n")
    first = {sample.messages[0].parts[0].value: sample.id for sample in read_rows(path, KNOWN)}
    path.write_bytes(BOM + b"\r\n".join([line("b"), b"", line("c"), line("a")]))
    moved = {sample.messages[0].parts[0].value: sample.id for sample in read_rows(path, KNOWN)}
    assert {word: moved[word] for word in "ab"} == first
    assert len(set(moved.values())) == 3
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in moved.values())


def test_rows_are_left_out_by_their_ids(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n".join([line("a"), b"{broken", line("b"), line("a")]))
    kept = list(read_rows(path, KNOWN, {row_id(line("a")), row_id(b"{broken")}))
    assert [sample.messages[0].parts[0].value for sample in kept] == ["b"]
    assert kept[0].where == "train.jsonl:3"
    with pytest.raises(RowError, match=r"train\.jsonl:2: not JSON"):
        list(read_rows(path, KNOWN, {row_id(line("a"))}))


def test_bad_rows_are_listed_by_line_and_id(tmp_path, monkeypatch):
    monkeypatch.setattr("plait.data.validate.LONGEST_LINE", 300)
    path, listed = tmp_path / "train.jsonl", tmp_path / "bad.jsonl"
    long = line("x" * 900)
    path.write_bytes(b"\n".join([line("a"), b"{broken", long, line("b")]) + b"\n")
    (report,) = list_bad_rows([path], KNOWN, listed)
    entries = [json.loads(entry) for entry in listed.read_text().splitlines()]
    assert [(entry["line"], entry["id"]) for entry in entries] == [(2, row_id(b"{broken")), (3, row_id(long))]
    assert report.bad_ids == [entry["id"] for entry in entries]
    assert [sample.where for sample in read_rows(path, KNOWN, set(report.bad_ids))] == [
        "train.jsonl:1",
        "train.jsonl:4",
    ]


def test_progress_is_told_as_rows_are_checked(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n".join(line(str(n)) for n in range(1200)))
    told = []
    list_bad_rows([path], KNOWN, tmp_path / "bad.jsonl", progress=lambda of, rows: told.append((of.name, rows)))
    assert told == [("train.jsonl", 512), ("train.jsonl", 1024), ("train.jsonl", 1200)]


def test_the_id_of_a_sample_is_that_of_its_line(tmp_path):
    sample = parse_line(line("a") + b"\r\n", tmp_path / "x.jsonl", 7, KNOWN)
    assert (sample.id, sample.where) == (row_id(line("a")), "x.jsonl:7")


PROMPT = [{"role": "user", "content": "Count to three."}]
CHOSEN, REJECTED = ([{"role": "assistant", "content": text}] for text in ("1, 2, 3", "1, 3, 2"))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, "chosen": CHOSEN, "rejected": REJECTED},
        {"messages": PROMPT, "chosen": CHOSEN, "rejected": REJECTED},
        {"messages": PROMPT, "chosen": CHOSEN[0], "rejected": REJECTED[0]},
        {"prompt": "Count to three.", "chosen": "1, 2, 3", "rejected": "1, 3, 2"},
        {"chosen": PROMPT + CHOSEN, "rejected": PROMPT + REJECTED},
    ],
)
def test_a_preference_is_read_in_the_forms_that_others_write(row, tmp_path):
    sample = parse_row(row, tmp_path, KNOWN)
    assert [(m.role, m.parts[0].value) for m in sample.messages] == [
        ("user", "Count to three."),
        ("assistant", "1, 2, 3"),
    ]
    assert [(m.role, m.parts[0].value) for m in sample.rejected] == [("assistant", "1, 3, 2")]
    written = json.loads(dump_row(sample))
    assert written == {"task": "", "prompt": PROMPT, "chosen": CHOSEN, "rejected": REJECTED, "meta": {}}
    assert parse_row(written, tmp_path, KNOWN) == sample


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": PROMPT, "chosen": CHOSEN}, "expected 'chosen', 'rejected'"),
        ({"prompt": PROMPT, "messages": PROMPT, "chosen": CHOSEN, "rejected": REJECTED}, "one of 'prompt'"),
        ({"prompt": PROMPT, "chosen": CHOSEN, "rejected": CHOSEN}, "the same"),
        ({"chosen": CHOSEN, "rejected": REJECTED}, "expected a prompt"),
        ({"prompt": PROMPT, "chosen": PROMPT, "rejected": REJECTED}, "one assistant's message"),
        ({"prompt": PROMPT, "chosen": CHOSEN * 2, "rejected": REJECTED}, "one assistant's message"),
        ({"prompt": PROMPT, "chosen": [], "rejected": REJECTED}, "at least one message"),
        ({"prompt": PROMPT, "chosen": CHOSEN, "rejected": REJECTED, "score": 2}, "unknown keys"),
    ],
)
def test_a_bad_preference_says_what_is_expected(row, said, tmp_path):
    with pytest.raises(RowError, match=said):
        parse_row(row, tmp_path, KNOWN)
