"""Rows and their names: an id is the hash of a line, wherever it stands."""

import json

import pytest
from worlds import World

from plait.data.rows import BOM, parse_line, read_rows, row_id
from plait.data.validate import list_bad_rows
from plait.errors import RowError

KNOWN = World().modalities


def line(question, answer="yes"):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}).encode()


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
