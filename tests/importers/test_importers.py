"""Each importer on a small source of its format: rows that the validator accepts, splits that keep groups together."""

import gzip
import io
import json
import struct
import sys
import tarfile

import numpy as np
import pytest
import soundfile
from PIL import Image
from worlds import World

from plait.data import importers
from plait.data.importers import by_content, importer, names, run, split_in
from plait.data.importers.coco import boxes_as_text
from plait.data.importers.idx import load
from plait.data.rows import read_rows
from plait.data.validate import check_file
from plait.errors import ConfigError, DataError, MissingError

WORLD = World()
RNG = np.random.default_rng(0)


def picture(path, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def clip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, RNG.normal(0, 0.1, 2000), 16_000)
    return path


def captions_csv(root):
    for n in range(30):
        picture(root / f"{n}.png")
    (root / "captions.csv").write_text(
        "file_name,caption\n" + "".join(f'{n}.png,"a thing, number {n}"\n' for n in range(30))
    )


def captions_semicolons(root):
    """As spreadsheets of many countries write them."""
    for n in range(30):
        picture(root / f"{n}.png")
    (root / "captions.csv").write_text("Image;Caption\n" + "".join(f"{n}.png;a, b, number {n}\n" for n in range(30)))


def captions_jsonl(root):
    for n in range(30):
        picture(root / "images" / f"{n}.jpg")
    lines = (json.dumps({"image": f"{n}.jpg", "text": [f"one {n}", f"uno {n}"]}) for n in range(30))
    (root / "list.jsonl").write_text("\n".join(lines))


def captions_txt(root):
    for n in range(30):
        picture(root / f"{n}.png").with_suffix(".txt").write_text(f"a thing {n}")


def folders(root):
    for split in ("train", "val", "test"):
        for label in ("red_apple", "pear"):
            for n in range(4):
                picture(root / split / label / f"{split}{n}.png")


def sound_folders(root):
    for label in ("bell", "horn"):
        for n in range(20):
            clip(root / label / f"{n}.wav")


def ljspeech(root):
    for n in range(30):
        clip(root / "wavs" / f"LJ-{n}.wav")
    (root / "metadata.csv").write_text("".join(f"LJ-{n}|Dr. {n}|doctor {n}\n" for n in range(30)))


def common_voice(root):
    for split in ("train", "dev", "test"):
        rows = [f's{n}\t{clip(root / "clips" / f"{split}{n}.mp3").name}\tsay "{n}' for n in range(4)]
        (root / f"{split}.tsv").write_text("client_id\tpath\tsentence\n" + "\n".join(rows) + "\n")


def coco(root):
    images = [
        {"id": n, "file_name": picture(root / "images" / f"{n}.png", (20, 10)).name, "width": 20, "height": 10}
        for n in range(30)
    ]
    boxes = [{"id": n, "image_id": n, "category_id": 7, "bbox": [5, 0, 10, 5]} for n in range(30)]
    raw = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "cat"}]}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances.json").write_text(json.dumps(raw))


def voc(root):
    for n in range(30):
        picture(root / "JPEGImages" / f"{n}.png", (20, 10))
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{n}.xml").write_text(
            f"<annotation><filename>{n}.png</filename><size><width>20</width><height>10</height></size><object><name>cat</name>"
            "<bndbox><xmin>5</xmin><ymin>0</ymin><xmax>15</xmax><ymax>5</ymax></bndbox></object></annotation>"
        )


def chat_openai(root):
    rows = [
        {"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}]}
        for n in range(30)
    ]
    (root / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))


def chat_sharegpt(root):
    rows = [
        {"id": n, "conversations": [{"from": "human", "value": f"q {n}"}, {"from": "gpt", "value": f"a {n}"}]}
        for n in range(30)
    ]
    (root / "chats.json").write_text(json.dumps(rows))


def idx(root):
    for name, count in (("train", 20), ("t10k", 5)):
        pixels = RNG.integers(0, 255, (count, 8, 8), np.uint8)
        header = struct.pack(">HBBIII", 0, 8, 3, count, 8, 8)
        (root / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
        labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(range(count))
        (root / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def medmnist(root):
    arrays = {}
    for split, count in (("train", 20), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = RNG.integers(0, 255, (count, 8, 8, 3), np.uint8)
        arrays[f"{split}_labels"] = RNG.integers(0, 2, (count, 1))
    np.savez(root / "set.npz", **arrays)
    (root / "set.labels.json").write_text('["ill", "well"]')
    return root / "set.npz"


def webdataset(root):
    for name in ("train-000", "test-000"):
        with tarfile.open(root / f"{name}.tar", "w") as tar:
            for n in range(20):
                buffer = io.BytesIO()
                Image.fromarray(RNG.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "JPEG")
                for ending, data in (("jpg", buffer.getvalue()), ("txt", f"thing {n}".encode())):
                    info = tarfile.TarInfo(f"{n:04}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def parquet_images(root):
    """As `datasets` writes it: pictures with a named class, in two splits."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Pictures

    for split, count in (("train", 20), ("test", 5)):
        pictures = [Image.fromarray(RNG.integers(0, 255, (8, 8, 3), np.uint8)) for _ in range(count)]
        features = Features({"image": Pictures(), "label": ClassLabel(names=["ill", "well_off"])})
        columns = {"image": pictures, "label": [n % 2 for n in range(count)]}
        Dataset.from_dict(columns, features=features).to_parquet(root / f"{split}-00000-of-00001.parquet")


def parquet_clips(root):
    """As other tools write it: structs of bytes and path, with a transcript."""
    import pyarrow
    from pyarrow import parquet

    rows = []
    for n in range(20):
        buffer = io.BytesIO()
        soundfile.write(buffer, RNG.normal(0, 0.1, 2000), 16_000, format="FLAC")
        rows.append({"audio": {"bytes": buffer.getvalue(), "path": f"{n}.flac"}, "transcription": f"word {n}"})
    rows.append({"audio": {"bytes": buffer.getvalue(), "path": "x.flac"}, "transcription": " "})
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "clips.parquet")
    return root / "clips.parquet"


def parquet_chats(root):
    import pyarrow
    from pyarrow import parquet

    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": turns}] * 12), root / "chats.parquet")


def parquet_questions(root):
    import pyarrow
    from pyarrow import parquet

    rows = [{"question": f"what is {n}?", "answer": str(n), "id": n} for n in range(30)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "qa.parquet")


SOURCES = {  # (maker, importer that must be found, rows in all, splits given)
    "captions_csv": (captions_csv, "captions", 60, False),
    "captions_semicolons": (captions_semicolons, "captions", 60, False),
    "captions_jsonl": (captions_jsonl, "captions", 120, False),
    "captions_txt": (captions_txt, "captions", 60, False),
    "folders": (folders, "folders", 48, True),
    "sound_folders": (sound_folders, "folders", 80, False),
    "ljspeech": (ljspeech, "ljspeech", 60, False),
    "common_voice": (common_voice, "common_voice", 24, True),
    "coco": (coco, "coco", 30, False),
    "voc": (voc, "voc", 30, False),
    "chat_openai": (chat_openai, "chat", 30, False),
    "chat_sharegpt": (chat_sharegpt, "chat", 30, False),
    "idx": (idx, "idx", 50, True),
    "medmnist": (medmnist, "medmnist", 56, True),
    "webdataset": (webdataset, "webdataset", 80, True),
    "parquet_images": (parquet_images, "parquet", 50, True),
    "parquet_clips": (parquet_clips, "parquet", 40, False),
    "parquet_chats": (parquet_chats, "parquet", 12, False),
    "parquet_questions": (parquet_questions, "parquet", 30, False),
}


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


def test_boxes_are_thousandths():
    assert (
        boxes_as_text([("cat", 5, 0, 15, 5), ("dog", 0, 0, 20, 10)], 20, 10)
        == "dog [0, 0, 1000, 1000]; cat [250, 0, 750, 500]"
    )
    assert boxes_as_text([("cat", -5, 0, 50, 5)], 20, 10) == "cat [0, 0, 1000, 500]"
    assert boxes_as_text([], 20, 10) == "nothing"


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


def test_what_has_nothing_to_learn_from_is_said(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    captions_txt(source)
    (source / "7.txt").write_text(" ")
    said = []
    assert sum(run(source, tmp_path / "data", say=said.append).values()) == 58
    assert "1 entries passed over" in said[-1]


def test_a_jpeg_stays_a_jpeg(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    webdataset(source)
    run(source, tmp_path / "data", say=str)
    assert {path.suffix for path in (tmp_path / "data" / "media").iterdir()} == {".jpg"}


def test_a_reader_s_own_error_names_the_source(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "boxes.json").write_text('{"images": [{}], "annotations": [], "categories": []}')
    with pytest.raises(DataError, match=r"as coco.*is the source whole"):
        run(source, tmp_path / "data", say=str)
    assert not list((tmp_path / "data").glob("*.jsonl*"))


def test_splits_by_content():
    splits = [by_content(str(n)) for n in range(4000)]
    assert 0.08 < splits.count("test") / 4000 < 0.12
    assert 0.035 < splits.count("dev") / 4000 < 0.065
    assert splits == [by_content(str(n)) for n in range(4000)]


def test_what_cannot_be_imported(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        run(tmp_path / "nothing", tmp_path / "data")
    (tmp_path / "source").mkdir()
    with pytest.raises(DataError, match="none of the known formats"):
        run(tmp_path / "source", tmp_path / "data")
    with pytest.raises(ConfigError, match="unknown format"):
        run(tmp_path / "source", tmp_path / "data", "excel")
    captions_csv(tmp_path / "source")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    with pytest.raises(ConfigError, match="not empty"):
        run(tmp_path / "source", tmp_path / "full")
    assert (tmp_path / "full" / "mine").read_text() == "keep"


@pytest.mark.parametrize(
    ("make", "spoil", "named"),
    [
        (captions_csv, lambda root: (root / "3.png").unlink(), "captions.csv:5.*is not there"),
        (ljspeech, lambda root: (root / "metadata.csv").write_text("LJ-0|\n"), r"metadata.csv:1.*id\|text"),
        (ljspeech, lambda root: (root / "wavs" / "LJ-7.wav").unlink(), "metadata.csv:8.*not there"),
        (common_voice, lambda root: (root / "clips" / "train2.mp3").unlink(), "train.tsv:4"),
        (voc, lambda root: (root / "Annotations" / "4.xml").write_text("<annotation><object"), "4.xml is not XML"),
        (idx, lambda root: (root / "train-labels-idx1-ubyte.gz").unlink(), "labels.* is missing"),
        (webdataset, lambda root: (root / "train-000.tar").write_bytes(b"x" * 2000), "no whole tar"),
        (
            chat_openai,
            lambda root: (root / "chats.jsonl").write_text((root / "chats.jsonl").read_text() + '\n{"messages": []}'),
            "chats.jsonl:31",
        ),
    ],
)
def test_a_broken_source_leaves_nothing_half(tmp_path, make, spoil, named):
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    spoil(source)
    form = next(f for m, f, _, _ in SOURCES.values() if m is make)
    with pytest.raises(DataError, match=named):
        run(source, tmp_path / "data", form, say=lambda _: None)
    assert not list((tmp_path / "data").glob("*.jsonl*"))
    assert not (tmp_path / "data" / "media").exists()


@pytest.mark.parametrize("make", [idx, medmnist])
def test_a_flipped_byte_is_said_in_a_line(tmp_path, make):
    source = tmp_path / "source"
    source.mkdir()
    place = make(source) or source
    file = next(iter(sorted(place.glob("train-images*")))) if place.is_dir() else place
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(DataError, match="is the source whole"):
        run(place, tmp_path / "data", say=lambda _: None)


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
    assert any("7 entries passed over" in line for line in said)


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


def test_an_importer_is_one_file(tmp_path, monkeypatch):
    """A new format needs no change elsewhere."""
    (tmp_path / "mine.py").write_text(
        "from plait.contract import Message, Part, Sample\n"
        "from plait.data.importers import Record\n"
        "HELP = 'mine'\n"
        "def matches(source): return source.suffix == '.mine'\n"
        "def records(source):\n"
        "    yield Record(Sample((Message(None, (Part('text', source.read_text()),)),)), 'train')\n"
    )
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(tmp_path)])
    (tmp_path / "a.mine").write_text("hello")
    assert run(tmp_path / "a.mine", tmp_path / "data", say=lambda _: None) == {"train": 1}


def test_a_refused_import_touches_nothing(tmp_path):
    """Neither the folder that is in use, nor the source where it is that folder."""
    source = tmp_path / "source"
    captions_csv(source)
    mine = tmp_path / "mine"
    (mine / "media").mkdir(parents=True)
    (mine / "train.jsonl").write_text("years of work")
    for to in (mine, source):
        before = sorted(path.name for path in to.rglob("*"))
        with pytest.raises(ConfigError, match="is not empty"):
            run(source, to, say=str)
        assert sorted(path.name for path in to.rglob("*")) == before
    assert (mine / "train.jsonl").read_text() == "years of work"


def test_a_list_that_is_not_utf_8_is_said(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_bytes("file_name,caption\na.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        run(tmp_path, tmp_path.parent / "to", say=str)
