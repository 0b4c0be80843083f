"""report.html: figures, curves, examples beside their references."""

import json
import re

import numpy as np
import pytest
from small_suite import cell, picture, task
from worlds import text

from plait.contract import Message, Part, Sample
from plait.eval import report
from plait.eval.runner import SHOWN
from plait.eval.suites import Outcome


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [("digit accuracy", 0.1234, "12.3"), ("exact match", 1.0, "100.0"), ("mse", 0.1234, "0.123"), ("mse", None, "")],
)
def test_shares_are_in_per_cent_and_distances_as_they_are(metric, value, shown):
    assert report.figure(cell(metric=metric), value) == shown


@pytest.mark.parametrize(
    ("value", "target", "higher", "met"),
    [(0.5, 0.5, True, True), (0.49, 0.5, True, False), (0.49, 0.5, False, True), (0.51, 0.5, False, False),
     (0.5, None, True, None)],
)  # fmt: skip
def test_a_target_is_met_from_its_own_side(value, target, higher, met):
    assert report.met(cell(value=value, target=target, higher_is_better=higher)) is met


def test_curves_are_read_from_a_log_with_words_and_a_line_cut_short(tmp_path):
    lines = [
        "held out: nothing",
        json.dumps({"step": 1, "loss/text": 2.0, "loss/image": 0.5}),
        json.dumps({"step": 2, "loss/text": 1.0}),
        '{"step": 3, "loss/te',
    ]
    (tmp_path / "train.log").write_text("\n".join(lines))
    checkpoint = tmp_path / "checkpoints" / "step-2"
    assert report.curves(checkpoint) == {"text": [(1, 2.0), (2, 1.0)], "image": [(1, 0.5)]}
    assert report.curves(tmp_path / "elsewhere" / "checkpoints" / "step-2") == {}


@pytest.mark.parametrize("points", [[(1, 2.0), (2, 1.0)], [(5, 1.0), (5, 1.0)], [(1, 0.0), (2, 3.0)]])
def test_a_curve_stays_within_its_frame(points):
    numbers = re.search(r'points="([^"]+)"', report._curve(points, 260, 90))[1]
    corners = np.array([[float(n) for n in pair.split(",")] for pair in numbers.split()])
    assert len(corners) == len(points)
    assert (corners >= 0).all()
    assert (corners <= [260, 90]).all()


def test_a_part_without_a_rendering_is_its_plain_value():
    assert str(report.show(Part("smell", "<rose>"))) == "<code>&lt;rose&gt;</code>"
    assert len(report.show(Part("smell", "x" * 5000))) < 300
    assert "nothing" in report.show(None)


def outcome(answers, references, split="test", of="text->image"):
    samples = [
        Sample((Message("user", (text(f"draw {n} & more"),)), Message("assistant", (part,))), "draw")
        for n, part in enumerate(references)
    ]
    return Outcome(task(of, "draw"), split, samples, answers, 1.0)


def facts(cells):
    return {
        "checkpoint": "run", "commit": "abc", "seed": 0, "cells": cells, "checks": [], "notes": [], "cascade": [],
        "train": {"parameters": 1e6, "seconds": 60, "steps": 10, "tokens": 1e6, "flops": 1e12, "peak_rss_mb": 100.0},
        "machine": {"threads": 1, "processor": "some", "torch": "2"}, "data": {"sources": None, "notes": None},
    }  # fmt: skip


def rows_of_examples(page):
    """[question, answer, reference] of every row in the tables of examples."""
    tables = re.findall(r'<table class="examples">(.*?)</table>', page, re.DOTALL)
    heads = [re.findall("<th>(.*?)</th>", table) for table in tables]
    assert heads == [["question", "model's answer", "right answer"]] * len(tables)
    return [
        re.findall("<td>(.*?)</td>", row, re.DOTALL)
        for table in tables
        for row in re.findall("<tr><td>.*?</tr>", table)
    ]


def test_an_example_has_the_right_answer_beside_the_models(tmp_path):
    answers, right = [text(f"answer {n}") for n in range(9)], [text(f"reference <{n}>") for n in range(9)]
    answers[1] = None
    outcomes = [outcome(answers, right, of="text->text"), outcome(answers, right, "phrasing", of="text->text")]
    report.write_html(tmp_path / "deep/report.html", facts([cell(cell="text->text")]), outcomes, {})
    rows = rows_of_examples((tmp_path / "deep/report.html").read_text())
    assert len(rows) == 3 + SHOWN, "three in the grid, the rest under the task, none of other splits"
    question, answer, reference = rows[3]
    assert "draw 0 &amp; more" in question
    assert "answer 0" in answer
    assert "reference &lt;0&gt;" in reference
    assert "nothing" in rows[4][1]
    assert "reference &lt;1&gt;" in rows[4][2]


def test_the_page_is_whole_in_itself(tmp_path):
    pictures = [picture(np.full((8, 8), 20 * n)) for n in range(4)]
    path = tmp_path / "report.html"
    cells = [cell(target=0.4), cell(split="phrasing", by={"language en": 0.7})]
    losses = {"image": [(1, 2.0), (9, 1.0)], "text": [(1, 2.0)]}
    report.write_html(path, facts(cells), [outcome(pictures[:2], pictures[2:])], losses)
    page = path.read_text()
    assert page.count("data:image/") == 2 * 2 * 2, "answers and references, in the grid and under the task"
    assert "://" not in page.replace("http://www.w3.org", "")
    assert "<h1>One transformer, 1 cells</h1>" in page
    assert "met</span>" in page
    assert "language en&nbsp;70.0" in page
    assert page.count("<polyline") == 1, "a curve of one point is none"
    assert "learning by heart" not in page


def test_rows_of_the_training_are_called_so(tmp_path):
    path = tmp_path / "report.html"
    answers = [text("a")]
    report.write_html(
        path, facts([cell(cell="text->text", split="trained")]), [outcome(answers, answers, "trained")], {}
    )
    assert "everything below was trained on" in path.read_text()


def test_axes_are_the_modalities_that_cells_name():
    cells = [cell(cell="image+text->audio"), cell(cell="text->image->text"), cell(cell="check")]
    assert report.axes_of(cells) == ["image", "text", "audio"]


def test_the_summary_of_a_folder_nobody_built_is_empty(tmp_path):
    assert report.data_summary(tmp_path) == {"sources": None, "notes": None, "counts": None, "files": None}
