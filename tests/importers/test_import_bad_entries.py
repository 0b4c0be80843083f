"""An entry that cannot be used is passed over and counted by reason; more than a tenth of them, or one if strict, stop."""

import io
import json

import pytest
from import_sources import (
    SOURCES,
    answers,
    captions_csv,
    captions_txt,
    chat_openai,
    coco,
    common_voice,
    folders,
    idx,
    ljspeech,
    medmnist,
    picture,
    take,
    voc,
    webdataset,
    write,
)

from plait.data.importers import run
from plait.data.importers.core.report import EntryError, Report
from plait.errors import DataError, RowError


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def append(path, line):
    path.write_text(f"{path.read_text()}\n{line}")


def chat(**answer):
    return json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", **answer}]})


def edit_coco(root, change):
    path = root / "annotations/instances.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


TOOL = {
    "messages": [
        {"role": "user", "content": "q"},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "3"},
    ]
}
BAD = {  # (maker, what spoils one entry of at least twenty, rows that are lost, what is said of it, what strict says)
    "no file": (captions_csv, lambda s: (s / "3.png").unlink(), 2, "its file is not there (captions.csv:5 3.png)"),
    "no caption": (captions_txt, lambda s: (s / "7.txt").write_text(" "), 2, "it has no text (7.txt)"),
    "half a picture": (folders, lambda s: truncate(s / "train/pear/train1.png"), 2, "image part: cannot decode bytes: "),
    "an empty file": (folders, lambda s: (s / "train/pear/train1.png").write_bytes(b""), 2, "image part: bytes is no picture"),
    "no clip": (ljspeech, lambda s: (s / "wavs/LJ-7.wav").unlink(), 2, "its file is not there (metadata.csv:8 LJ-7)"),
    "no sentence": (ljspeech, lambda s: append(s / "metadata.csv", "LJ-1||"), 0, "it has no text (metadata.csv:32)"),
    "a field too many": (ljspeech, lambda s: append(s / "metadata.csv", "LJ-1|a|b|c"), 0, "it has 4 fields (metadata.csv:32)"),
    "a missing mp3": (common_voice, lambda s: (s / "clips/train2.mp3").unlink(), 2, "its file is not there (train.tsv:4 "),
    "broken XML": (voc, lambda s: (s / "Annotations/4.xml").write_text("<annotation><object"), 1, "it is not XML (Annotations/4.xml"),
    "no number": (voc, lambda s: write(s / "Annotations/4.xml", (s / "Annotations/4.xml").read_text().replace("5<", "x<")), 1, "<xmin> is no number (Annotations/4.xml 'x'"),
    "no box": (coco, lambda s: edit_coco(s, lambda raw: raw["annotations"][3].update(bbox="no")), 1, "a box is not of numbers (annotations/instances.json, image 3 "),
    "three numbers": (coco, lambda s: edit_coco(s, lambda raw: raw["annotations"][3].update(bbox=[1, 2, 3])), 1, "a box is not of four numbers ("),
    "no id": (coco, lambda s: edit_coco(s, lambda raw: raw["images"].append({"file_name": "1.png"})), 0, "a picture has no id or no file_name ("),
    "no messages": (chat_openai, lambda s: append(s / "chats.jsonl", '{"messages": []}'), 0, "it has no messages (chats.jsonl:31)"),
    "a tool": (chat_openai, lambda s: append(s / "chats.jsonl", json.dumps(TOOL)), 0, "a tool is called or answers (chats.jsonl:31)"),
    "a call": (chat_openai, lambda s: append(s / "chats.jsonl", chat(content=None, tool_calls=[{}])), 0, "a tool is called or answers (chats.jsonl:31)"),
    "null": (chat_openai, lambda s: append(s / "chats.jsonl", chat(content=None)), 0, "a message has no content (chats.jsonl:31 None)"),
    "a stranger": (chat_openai, lambda s: append(s / "chats.jsonl", chat(content="a").replace("user", "robot")), 0, "a message is by nobody known (chats.jsonl:31 'robot')"),
    "half a surrogate": (chat_openai, lambda s: append(s / "chats.jsonl", chat(content="a \ud800 b")), 0, "it has half of a surrogate pair (chats.jsonl:31)"),
    "no words": (chat_openai, lambda s: append(s / "chats.jsonl", chat(content="")), 0, "it has an empty text (chats.jsonl:31)"),
    "nobody answers": (chat_openai, lambda s: append(s / "chats.jsonl", chat(content="a").replace("assistant", "user")), 0, "nobody answers (chats.jsonl:31)"),
    "no JSON": (chat_openai, lambda s: append(s / "chats.jsonl", '{"messages": [}'), 0, "it is not JSON (chats.jsonl:31"),
    "no object": (chat_openai, lambda s: append(s / "chats.jsonl", "[1]"), 0, "it is no object (chats.jsonl:31)"),
    "no message": (chat_openai, lambda s: append(s / "chats.jsonl", '{"messages": [7]}'), 0, "a message is no object (chats.jsonl:31 7)"),
    "latin 1": (captions_csv, lambda s: (s / "captions.csv").write_bytes((s / "captions.csv").read_bytes() + b"1.png,caf\xe9\n"), 0, "it is not UTF-8 (captions.csv:32 "),
    "no label": (idx, lambda s: write(s / "labels.txt", "\n".join(map(str, range(19)))), 2, "its label has no name (train-images-idx3-ubyte.gz, picture 19 19)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_bad_entry_is_passed_over_and_counted(tmp_path, name):
    make, spoil, lost, line = BAD[name]
    source = tmp_path / "s"
    source.mkdir()
    make(source)
    form, whole = next((f, count) for m, f, count, _ in SOURCES.values() if m is make)
    spoil(source)
    counts, said = take(source, tmp_path / "to", form)
    assert sum(counts.values()) == whole - lost
    passed = [entry for entry in said if "passed over: " in entry and not entry.endswith(("_bare", ".txt"))]
    assert any(entry.startswith(f"1 passed over: {line}") for entry in passed), said
    place = line.partition("(")[2].split(" ")[0].rstrip(")") if "(" in line else ""
    with pytest.raises(DataError, match=r"; expected ") as caught:
        take(source, tmp_path / "strict", form, strict=True)
    assert str(caught.value).startswith(place.rstrip(","))
    assert not (tmp_path / "strict").exists()


def test_more_than_a_tenth_stops_and_says_why(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    captions_csv(source)
    for n in (1, 2):
        (source / f"{n}.png").unlink()
    assert sum(take(source, tmp_path / "to")[0].values()) == 56
    append(source / "captions.csv", "4.png, \n5.png,")
    with pytest.raises(DataError) as caught:
        take(source, tmp_path / "other")
    assert str(caught.value).startswith("4 of 32 entries cannot be used; expected at most 10%")
    assert "2: its file is not there (captions.csv:3 1.png, captions.csv:4 2.png), expected it beside" in str(
        caught.value
    )
    assert "2: it has no text (captions.csv:33, captions.csv:34), expected one under 'caption'" in str(caught.value)
    assert not (tmp_path / "other").exists()


def test_one_conversation_of_five_is_too_much_and_one_of_fifty_is_not(tmp_path):
    good = chat(content="a")
    write(tmp_path / "a.jsonl", "\n".join([good] * 4 + [json.dumps(TOOL)]))
    with pytest.raises(DataError, match=r"1 of 5 entries cannot be used.*a tool is called or answers \(a.jsonl:5\)"):
        take(tmp_path / "a.jsonl", tmp_path / "to")
    write(tmp_path / "a.jsonl", "\n".join([good] * 49 + [json.dumps(TOOL)]))
    assert take(tmp_path / "a.jsonl", tmp_path / "to")[0] == {"train": 49}


def tar(root, **members):
    import tarfile

    with tarfile.open(root / "train-000.tar", "a") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({"x_txt": b"alone"}, "it has no medium or no text (train-000.tar, x)"),
        ({"x_jpg": b"no picture", "x_txt": b"a"}, "image part: bytes is no picture (train-000.tar, x)"),
        ({"x_jpg": b"", "x_json": b"{"}, "it cannot be read (train-000.tar, x "),
        ({"x_jpg": b"", "x_txt": b"caf\xe9"}, "it is not UTF-8 (train-000.tar, x "),
    ],
)
def test_a_bad_sample_of_a_tar(tmp_path, members, line):
    webdataset(tmp_path)
    tar(tmp_path, **members)
    counts, said = take(tmp_path, tmp_path / "to")
    assert sum(counts.values()) == 80
    assert any(entry.startswith(f"1 passed over: {line}") for entry in said), said


def test_names_of_classes_as_an_object(tmp_path):
    source = medmnist(tmp_path)
    for names in ('{"0": "ill", "1": "well"}', '{"ill": 0, "well": 1}', '["ill", "well"]'):
        (tmp_path / "set.labels.json").write_text(names)
        to = tmp_path / f"to{len(names)}"
        take(source, to, strict=True)
        assert set(answers(to)) == {"ill", "well"}
    (tmp_path / "set.labels.json").write_text("7")
    with pytest.raises(DataError, match=r"set.labels.json: got '7' as the names of the classes; expected"):
        take(source, tmp_path / "other")


@pytest.mark.parametrize(
    ("make", "spoil", "named"),
    [
        (idx, lambda root: (root / "train-labels-idx1-ubyte.gz").unlink(), "labels.* is missing"),
        (webdataset, lambda root: (root / "train-000.tar").write_bytes(b"x" * 2000), "no whole tar"),
        (coco, lambda root: truncate(root / "annotations/instances.json"), r"instances.json:1: not JSON .*is the file whole\?"),
        (coco, lambda root: edit_coco(root, lambda raw: raw.update(images={})), "'images' is '{}'; expected a list of objects"),
        (captions_csv, lambda root: [path.unlink() for path in root.glob("*.png")], "30 of 30 entries cannot be used"),
    ],
)  # fmt: skip
def test_a_broken_source_leaves_nothing_half(tmp_path, make, spoil, named):
    source = tmp_path / "s"
    source.mkdir()
    make(source)
    spoil(source)
    form = next(f for m, f, _, _ in SOURCES.values() if m is make)
    with pytest.raises(DataError, match=named):
        take(source, tmp_path / "to", form)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("make", [idx, medmnist])
def test_a_flipped_byte_is_said_in_a_line(tmp_path, make):
    source = tmp_path / "s"
    source.mkdir()
    path = make(source) or source
    file = next(iter(sorted(path.glob("train-images*")))) if path.is_dir() else path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(DataError, match="is the source whole"):
        take(path, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_what_a_reader_raises_while_detecting_is_a_message(tmp_path, monkeypatch):
    from plait.data.importers import voc

    picture(tmp_path / "s/a.png")

    def fail(source):
        raise MemoryError("too much")

    monkeypatch.setattr(voc, "matches", fail)
    with pytest.raises(DataError, match=r"as voc: MemoryError\('too much'\); expected Pascal VOC"):
        take(tmp_path / "s", tmp_path / "to")


def test_a_list_that_is_not_utf_8_is_said(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_bytes("file_name,caption\na.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        run(tmp_path, tmp_path.parent / "to", say=str)


def test_a_report_counts_entries_once_and_groups_reasons():
    report = Report()
    for n in range(40):
        with report.entry(f"a:{n}"):
            report.take(f"a:{n}")
            report.take(f"a:{n}")
            if n in (1, 2):
                raise EntryError(f"it has {n} fields", "3", f"x{n}")
            if n == 3:
                raise RowError("image part: got 7 pixels; expected more")
            if n == 4:
                raise KeyError("bbox")
    assert (report.taken, report.unusable) == (40, 4)
    assert report.lines() == [
        "2 passed over: it has 1 fields (a:1 x1, a:2 x2)",
        "1 passed over: image part: got 7 pixels (a:3)",
        "1 passed over: it cannot be read (a:4 KeyError('bbox'))",
    ]
    with pytest.raises(DataError, match="the whole"), report.entry("a"):
        raise DataError("the whole")
