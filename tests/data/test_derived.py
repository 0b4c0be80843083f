"""A folder derived from another: other rows, the same media, whole by itself."""

import json

import pytest

from plait.data import derived
from plait.data.rows import dump_row, read_rows
from plait.errors import DataError
from plait.registry import build_all
from plait.train.run import bad_rows, check


def test_a_derived_folder_is_whole_and_its_rows_are_good(small_digits, tmp_path):
    known = build_all(("text", "image", "audio"))
    samples = list(read_rows(derived.rows_file(small_digits), known))[::7]
    to = tmp_path / "some"
    derived.links(small_digits, to)
    derived.links(small_digits, to)  # again: what is there stays
    derived.write_rows(small_digits, to, (dump_row(derived.relative(sample, small_digits)) for sample in samples))
    again = list(read_rows(to / "train.jsonl", known))
    assert [(s.task, s.meta) for s in again] == [(s.task, s.meta) for s in samples]
    assert all(str(to) in part.value for s in again for m in s.messages for part in m.parts if part.type != "text")
    assert json.loads((to / "manifest.json").read_text())["files"]["train.jsonl"]["rows"] == len(samples)
    assert (to / "labelled-test.jsonl").read_bytes() == (small_digits / "labelled-test.jsonl").read_bytes()
    (to / "manifest.json").unlink()  # now every row is opened
    run = tmp_path / "run"
    run.mkdir()
    check(to, (), known, run, True, lambda line: None)
    assert not bad_rows(run)


def test_what_was_stopped_on_the_way_is_made_whole(small_digits, tmp_path):
    to = tmp_path / "some"
    (to / "media.partial").mkdir(parents=True)
    (to / "media.partial" / "stale").write_text("")
    derived.links(small_digits, to)
    assert not (to / "media.partial").exists()
    there, here = ({p.relative_to(f / "media") for p in (f / "media").rglob("*")} for f in (small_digits, to))
    assert here == there


def test_a_folder_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no train\.jsonl; expected a folder of rows"):
        derived.rows_file(tmp_path)
