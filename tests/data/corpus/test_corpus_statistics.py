"""`plait data stats`: numbers of a built data folder."""

import json
from collections import Counter

from built_folders import BOXES, invoke

from plait import api
from plait.data.corpus.statistics import bins_of
from plait.runtime import pages


def test_numbers_are_those_of_the_rows(packed, tmp_path):
    output = invoke(
        "data", "stats", "dictionary", "--folder", packed, "--html", tmp_path / "s.html", "--json", tmp_path / "s.json"
    )
    numbers = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert numbers["rows"]["name"] == {"train": 8, "test": 3, "phrasing": 3, "dev": 3}
    assert numbers["rows"]["say"] == {"train": 8}
    assert numbers["media"]["image"]["files"] == 16, "stored once a group, whatever asks about it"
    assert numbers["media"]["audio"]["files"] == 12, "of two equal clips in a group one is stored"
    assert numbers["sizes"]["commonest"] == {"40 x 40": 8, "600 x 300": 8}
    assert numbers["seconds"]["histogram"] == [[0.5, 0.75, 8], [0.75, 1, 0], [1, 1.5, 4]]
    assert numbers["seconds"]["total"] == 9  # 8 x 0.5 + 4 x 1.2 s
    assert numbers["languages"] == {"es": {"train": 24, "held out": 0}, "ar": {"train": 16, "held out": 0}}
    assert numbers["answers"]["written-language"]["commonest"] == {"Spanish": 6, "English": 2}
    assert numbers["boxes"]["commonest"] == {"cat": 16}
    assert numbers["texts"]["answers"]["largest"] == len(BOXES)
    assert sum(count for *_, count in numbers["texts"]["questions"]["histogram"]) == 48
    assert numbers["tokens"]["say"]["stored"] > numbers["tokens"]["say"]["largest"], "with noised copies"
    assert numbers["tokens"]["name"]["of"] == 8
    for expected in (
        "too dark",
        "a note",
        "2 times near-duplicates",
        "public domain",
        "name",
        "600 x 300",
        "8 drawing",
    ):
        assert expected in output
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 6
    assert 'href="https://example.org/things"' in page
    for title in ("Training rows by language", "Clips by length in seconds", "Answers of written-language", "Left out"):
        assert title in page


def test_numbers_of_rows_in_one_file(listed):
    (listed / "2.png").write_bytes(b"no picture")
    (listed / "3.png").unlink()
    lines = []
    numbers = api.stats("fashion", listed, say=lines.append)
    assert numbers["rows"] == {"image->text classes": {"train": 4, "test": 2}}
    assert numbers["media"]["image"]["damaged"] == 2
    assert numbers["tokens"]["image->text classes"]["unreadable"] == 2
    assert numbers["hold_out"] == {"judge": 0.09}, "what is held out by content has no file"
    assert numbers["answers"]["image->text classes"]["commonest"] == {"coat": 2, "shirt": 2}
    assert lines


def test_a_folder_without_any_readable_row(listed):
    for number in range(4):
        (listed / f"{number}.png").unlink()
    assert "unreadable" in invoke("data", "stats", "fashion", "--folder", listed, "--html", listed / "stats.html")


def test_many_different_answers_are_not_kept(monkeypatch, listed):
    from plait.data.corpus import statistics

    monkeypatch.setattr(statistics, "MOST_ANSWERS", 1)
    assert api.stats("fashion", listed)["answers"]["image->text classes"]["different"] == "over 1"


def test_bins():
    assert bins_of(Counter({1: 2, 4: 1, 11: 3}), (0, 2, 5, 10)) == [(0, 2, 2), (2, 5, 1), (5, 10, 0), (10, 11, 3)]
    assert bins_of(Counter(), (0, 2)) == []
    assert bins_of(Counter({3: 1}), (0, 2, 5, 10)) == [(2, 5, 1)]


def test_plots():
    drawn = str(pages.bars({"<b>": 5, "none": 0}))
    assert "&lt;b&gt;" in drawn
    assert 'width="220.0"' in drawn
    assert 'width="0.0"' in drawn
    assert str(pages.bars({})).startswith("<svg")
    columns = str(pages.histogram([(0, 1, 3), (1, 2, 1)]))
    assert "0 to 1: 3" in columns
    assert ">75<" in columns
