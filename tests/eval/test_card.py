"""The model card."""

import pytest
from small_suite import cell

from plait.eval import card


def report(*cells, **data):
    return {
        "train": {"parameters": 2_500_000, "steps": 20, "tokens": 3_000_000, "seconds": 90}, "commit": "abc1234",
        "notes": ["a note"], "cells": list(cells), "data": {"sources": [], "notes": ["of the data"], **data},
    }  # fmt: skip


def test_a_card_says_what_was_trained_and_measured(tmp_path):
    path = card.write(tmp_path, report(cell(target=0.4), cell(split="phrasing", value=0.25)), "digits")
    assert path == tmp_path / "README.md"
    text = path.read_text()
    assert text.startswith("# A Plait checkpoint: digits\n")
    assert "2.5 million parameters, 20 steps, 3.0 million tokens, 1.5 minutes; commit abc1234" in text
    assert "## Measured on held-out data, per cent" in text
    assert "| text->image | draw | digit accuracy | 50.0 | 40.0-60.0 | 20 | 10.0 |  |  | 40.0 | met |" in text
    assert "| draw | phrasing | digit accuracy | 25.0 | 40.0-60.0 | 20 |" in text, (
        "another split, in a table of its own"
    )
    assert text.count("- a note\n- of the data\n") == 1
    assert not list(tmp_path.glob("*.partial"))


def test_numbers_of_training_rows_are_said_to_be_learned_by_heart(tmp_path):
    text = card.write(tmp_path, report(cell(split="trained")), "own").read_text()
    assert "learned by heart" in text
    assert "held-out data" not in text


@pytest.mark.parametrize(
    ("facts", "end"),
    [
        ({"target": 0.4}, "| 40.0 | met |"),
        ({"target": 0.6}, "| 60.0 | **missed** |"),
        ({"target": None}, "|  |  |"),
        ({"target": 0.6, "higher_is_better": False}, "| 60.0 | met |"),
    ],
)
def test_a_target_is_marked(facts, end):
    assert card.table(report(cell(**facts))).splitlines()[-1].endswith(end)


def test_a_source_asks_to_be_named_and_shared_alike():
    source = {
        "what": "stamps",
        "from": "here",
        "licence": "GPL-2.0-or-later",
        "attribution": "Bill",
        "share_alike": True,
    }
    assert card.source_line(source) == f"- stamps: here (GPL-2.0-or-later): Bill {card.SHARE_ALIKE}"
    bare = {"what": "clothes", "from": "there", "licence": "MIT"}
    assert card.source_line(bare) == "- clothes: there (MIT)"


def test_a_card_without_sources_and_notes_of_the_data(tmp_path):
    text = card.write(tmp_path, report(sources=None, notes=None), "own").read_text()
    assert "- a note" in text


def test_a_second_card_replaces_the_first(tmp_path):
    card.write(tmp_path, report(cell()), "one")
    assert "checkpoint: two" in card.write(tmp_path, report(cell()), "two").read_text()
