"""Each importer on a small source of its format: rows that the validator accepts, splits that keep groups together."""

import json
import sys

import pytest
from import_sources import SOURCES, WORLD, idx, parquet_images, picture, webdataset

from plait.data import importers
from plait.data.importers import by_content, importer, names, run, split_in
from plait.data.importers.idx import load
from plait.data.importers.idx import records as idx_records
from plait.data.rows import read_rows
from plait.data.validate import check_file
from plait.errors import DataError, MissingError


@pytest.fixture(params=SOURCES)
def imported(request, tmp_path):
    make, form, count, splits = SOURCES[request.param]
    source = tmp_path / "source"
    source.mkdir()
    source = make(source) or source
    said = []
    counts = run(source, tmp_path / "data", say=said.append)
    assert f"as {form}" in said[0], "recognised as something else"
    return tmp_path / "data", counts, count, splits


def test_importers(imported):
    folder, counts, count, splits = imported
    assert sum(counts.values()) == count
    if splits:
        assert "test" in counts
    media = {}
    for split in counts:
        bad = []
        found = check_file(folder / f"{split}.jsonl", WORLD.modalities, bad.append)
        assert not bad
        assert found.rows == counts[split]
        samples = read_rows(folder / f"{split}.jsonl", WORLD.modalities)
        media[split] = {p.value for s in samples for m in s.messages for p in m.parts if p.type != "text"}
    for a in media:
        for b in media:
            assert a == b or not media[a] & media[b], "one picture in two splits"


def test_parquet_reads_names_of_classes_and_needs_its_extra(tmp_path, monkeypatch):
    parquet_images(tmp_path)
    run(tmp_path, tmp_path / "data", say=str)
    answers = {str(s.messages[1].parts[0].value) for s in read_rows(tmp_path / "data/train.jsonl", WORLD.modalities)}
    assert {"ill", "well off"} <= answers
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingError, match=r"plait\[parquet\]"):
        run(tmp_path / "train-00000-of-00001.parquet", tmp_path / "other", say=str)


def test_parquet_of_something_else_is_said(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([{"height": 3, "width": 4}]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="height, width"):
        run(tmp_path / "x.parquet", tmp_path / "data", say=str)


def test_every_importer_is_tested():
    assert {form for _, form, _, _ in SOURCES.values()} == set(names())
    assert all(importer(name).HELP for name in names())


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017", "dev"),
        ("train-000.tar", "train"),
        ("t10k-images-idx3-ubyte", "test"),
        ("latest", ""),
        ("constraints", ""),
    ],
)
def test_a_split_is_a_word_of_the_name(name, split):
    assert split_in(name) == split


def test_a_jpeg_stays_a_jpeg(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    webdataset(source)
    run(source, tmp_path / "data", say=str)
    assert {path.suffix for path in (tmp_path / "data" / "media").iterdir()} == {".jpg"}


def test_splits_by_content():
    splits = [by_content(str(n)) for n in range(4000)]
    assert 0.08 < splits.count("test") / 4000 < 0.12
    assert 0.035 < splits.count("dev") / 4000 < 0.065
    assert splits == [by_content(str(n)) for n in range(4000)]


def test_a_class_may_be_named_like_a_split(tmp_path):
    for label in ("valid", "invalid", "other"):
        for n in range(20):
            picture(tmp_path / "source" / label / f"{n}.png")
    counts = run(tmp_path / "source", tmp_path / "data", say=lambda _: None)
    assert sum(counts.values()) == 120


def test_pictures_in_no_class_are_counted(tmp_path):
    """A test folder without classes beside a training folder with them."""
    said = []
    for label in ("cat", "dog"):
        for n in range(20):
            picture(tmp_path / "source/train" / label / f"{n}.png")
    for n in range(7):
        picture(tmp_path / "source/test" / f"{n}.png")
    assert run(tmp_path / "source", tmp_path / "data", say=said.append) == {"train": 80}
    assert any("7 passed over: files in no class" in line for line in said)


def test_coco_as_it_is_published(tmp_path):
    """Pictures in train2017/ and val2017/, and lists of keypoints and captions beside those of the objects."""
    source = tmp_path / "source"
    (source / "annotations").mkdir(parents=True)
    for split, ids in (("train2017", range(20)), ("val2017", range(20, 25))):
        for n in ids:
            picture(source / split / f"{n}.png", (20, 10))
        images = [{"id": n, "file_name": f"{n}.png", "width": 20, "height": 10} for n in ids]
        boxes = [{"image_id": n, "category_id": 1, "bbox": [5, 0, 10, 5]} for n in ids]
        for kind in ("instances", "person_keypoints"):
            raw = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": kind}]}
            (source / f"annotations/{kind}_{split}.json").write_text(json.dumps(raw))
    assert run(source, tmp_path / "data", say=lambda _: None) == {"train": 20, "dev": 5}
    assert "person_keypoints" not in (tmp_path / "data/train.jsonl").read_text()


def test_idx_says_what_is_wrong(tmp_path):
    (tmp_path / "a").write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x05abc")
    with pytest.raises(DataError, match="expected"):
        load(tmp_path / "a")


def test_an_idx_folder_alone_is_strict(tmp_path):
    """As recipes read it: nobody reads a report, so that nothing is passed over."""
    idx(tmp_path)
    assert len(list(idx_records(tmp_path, [str(n) for n in range(20)]))) == 50
    with pytest.raises(DataError, match=r"picture 19: its label has no name: 19; expected 0 to 18"):
        list(idx_records(tmp_path, [str(n) for n in range(19)]))


def test_an_importer_is_one_file(tmp_path, monkeypatch):
    """A new format needs no change elsewhere."""
    (tmp_path / "mine.py").write_text(
        "from plait.contract import Message, Part, Sample\n"
        "from plait.data.importers import Record\n"
        "HELP = 'mine'\n"
        "def matches(source): return source.path.suffix == '.mine'\n"
        "def records(source):\n"
        "    yield Record(Sample((Message(None, (Part('text', source.path.read_text()),)),)), 'train')\n"
    )
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(tmp_path)])
    (tmp_path / "a.mine").write_text("hello")
    assert run(tmp_path / "a.mine", tmp_path / "data", say=lambda _: None) == {"train": 1}
