"""Endings, and names of files as other machines and programs write them; what is passed over is said."""

import json

import pytest
from import_sources import answers, clip, described, picture, take, voc, write
from PIL import Image

from plait.data.importers.core.report import EntryError
from plait.data.importers.core.search import FileIndex, spellings
from plait.errors import DataError

N = 12


def jpeg(path):
    """A JPEG under whatever ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(picture(path.with_suffix(".png"))).save(path, "JPEG")
    path.with_suffix(".png").unlink()
    return path


def test_pictures_of_every_ending_that_is_read(tmp_path):
    for n, ending in enumerate((".jfif", ".JPG", ".jpeg", ".JFIF", ".Jpg")):
        for label in ("cat", "dog"):
            jpeg(tmp_path / "s" / label / f"{n}{ending}")
    take(tmp_path / "s", tmp_path / "to", strict=True)
    assert answers(tmp_path / "to") == ["cat"] * 5 + ["dog"] * 5


@pytest.mark.parametrize("ending", [".caption", ".txt", ".TXT", ".Caption"])
def test_texts_of_every_ending_that_is_usual(tmp_path, ending):
    for n in range(N):
        write(picture(tmp_path / "s" / f"{n}.png").with_suffix(ending), f"thing {n}")
    take(tmp_path / "s", tmp_path / "to", strict=True)
    assert answers(tmp_path / "to") == sorted(f"thing {n}" for n in range(N))


def test_texts_beside_clips(tmp_path):
    for n in range(N):
        write(clip(tmp_path / "s" / f"{n}.wav").with_suffix(".txt"), f"said {n}")
    take(tmp_path / "s", tmp_path / "to", strict=True)
    assert answers(tmp_path / "to") == sorted(f"said {n}" for n in range(N))


@pytest.mark.parametrize("name", ["CAPTIONS.CSV", "list.JSONL", "list.json", "list.ndjson"])
def test_lists_of_every_ending(tmp_path, name):
    entries = [{"file_name": picture(tmp_path / "s" / f"{n}.png").name, "text": f"thing {n}"} for n in range(N)]
    text = "\n".join(map(json.dumps, entries))
    if name.endswith("CSV"):
        text = "file_name,text\n" + "\n".join(",".join(entry.values()) for entry in entries)
    write(tmp_path / "s" / name, json.dumps(entries) if name.endswith(".json") else text)
    take(tmp_path / "s", tmp_path / "to", strict=True)
    assert answers(tmp_path / "to") == sorted(f"thing {n}" for n in range(N))
    take(tmp_path / "s" / name, tmp_path / "of-the-file", strict=True)
    assert answers(tmp_path / "of-the-file") == answers(tmp_path / "to")


@pytest.mark.parametrize(
    "name",
    [
        "{n}.png",
        "images/{n}.png",
        "./images/{n}.PNG",
        "images\\{n}.png",
        "C:\\Users\\me\\My data\\images\\{n}.png",
        "/content/drive/data/images/{n}.png",
        "file:///home/me/images/{n}.png",
        "http://localhost:8080/data/upload/3/0a1b2c3d-{n}.png",
        "/data/upload/3/0a1b2c3d-{n}.png",
        "/data/local-files/?d=images/{n}.png",
        "/data/local-files/?d=my%20data/images/{n}.png",
        "images/{n}",
        "{n}",
        "../s/images/{n}.png",
        "images/{n}.jpg",
    ],
)
def test_files_are_found_by_the_names_of_other_machines(tmp_path, name):
    entries = []
    for n in range(N):
        picture(tmp_path / "s/images" / f"{n}.png")
        entries.append({"image": name.format(n=n), "text": f"thing {n}"})
    write(tmp_path / "s/list.jsonl", "\n".join(map(json.dumps, entries)))
    take(tmp_path / "s", tmp_path / "to", "captions", strict=True)
    expected = {(tmp_path / "s/images" / f"{n}.png").read_bytes(): f"thing {n}" for n in range(N)}
    assert described(tmp_path / "to") == expected


def test_voc_names_without_ending_and_of_other_names(tmp_path):
    """A name without ending, none at all, one of before the files were renamed; upper-case endings."""
    (tmp_path / "s").mkdir()
    voc(tmp_path / "s")
    for n, name in ((0, "0"), (1, ""), (2, "IMG_2.JPG"), (3, "C:\\me\\3.png")):
        path = tmp_path / "s/Annotations" / f"{n}.xml"
        write(path, path.read_text().replace(f"<filename>{n}.png", f"<filename>{name}"))
    (tmp_path / "s/Annotations/4.xml").rename(tmp_path / "s/Annotations/4.XML")
    (tmp_path / "s/JPEGImages/5.png").rename(tmp_path / "s/JPEGImages/5.PNG")
    counts, said = take(tmp_path / "s", tmp_path / "to", strict=True)
    assert sum(counts.values()) == 30
    assert len(said) == 1


def test_a_text_of_the_whole_name(tmp_path):
    for n in range(N):
        write(picture(tmp_path / "s" / f"{n}.png").with_suffix(".png.txt"), f"thing {n}")
    take(tmp_path / "s", tmp_path / "to", strict=True)
    assert answers(tmp_path / "to") == sorted(f"thing {n}" for n in range(N))


def test_looking_claims_no_file(tmp_path):
    """That a column is found to name files does not keep another from it."""
    files = index(tmp_path, "0.png")
    assert files.find("/home/me/a/0.png", tmp_path, claim=False) == tmp_path / "0.png"
    assert files.find("/home/me/b/0.png", tmp_path) == tmp_path / "0.png"


def test_a_folder_between(tmp_path):
    files = index(tmp_path, "coco/images/train2017/0.png", "vg/images/1.png")
    assert files.find("coco/train2017/0.png", tmp_path) == tmp_path / "coco/images/train2017/0.png"
    with pytest.raises(EntryError, match="is not there"):
        files.find("vg/0.png", tmp_path)


def index(tmp_path, *names):
    return FileIndex(tmp_path, [picture(tmp_path / name) for name in names])


@pytest.mark.parametrize(
    ("files", "name", "near", "split"),
    [
        (["dogs/0.png", "cats/1.png"], "cats/0.png", "", ""),  # that of another class
        (["dogs/0.png"], "cats/0.png", "", ""),
        (["masks/0.png", "images/1.png"], "images/0.png", "", ""),  # its mask
        (["masks/0.png", "images/1.png"], "0.png", "", ""),
        (["val/0.png", "train/1.png"], "0.png", "annotations", "train"),  # that of another split
        (["images/10.png"], "0.png", "", ""),
    ],
)
def test_another_file_is_not_taken_for_one_that_is_missing(tmp_path, files, name, near, split):
    with pytest.raises(EntryError, match=f"its file is not there: {name}; expected"):
        index(tmp_path, *files).find(name, tmp_path / near, split)


def test_of_several_files_the_nearest(tmp_path):
    files = index(
        tmp_path, "train/images/0.png", "val/images/0.png", "VOC2007/JPEGImages/1.png", "VOC2012/JPEGImages/1.png"
    )
    assert files.find("0.png", tmp_path / "val").parent == tmp_path / "val/images"
    assert files.find("0.png", tmp_path / "annotations", "train").parent == tmp_path / "train/images"
    assert files.find("1", tmp_path / "VOC2012/Annotations").parent == tmp_path / "VOC2012/JPEGImages"
    with pytest.raises(EntryError, match=r"several files have the name of its file: 0\.png; expected one"):
        files.find("0.png", tmp_path)


def test_two_names_do_not_lead_to_one_file(tmp_path):
    files = index(tmp_path, "0.png")
    assert files.find("/home/me/a/0.png", tmp_path) == tmp_path / "0.png"
    with pytest.raises(EntryError, match="its file is that of an entry with another name"):
        files.find("/home/me/b/0.png", tmp_path)


def test_addresses_are_said_to_be_such(tmp_path):
    with pytest.raises(EntryError, match="an address: fetch it first"):
        index(tmp_path, "0.png").find("https://example.org/1.png", tmp_path)


def test_spellings():
    assert list(spellings("C:\\a\\b c.png")) == [("a", "b c.png")]
    assert list(spellings("https://h.org/a/b%20c.png")) == [("a", "b%20c.png"), ("a", "b c.png")]
    assert list(spellings("/data/local-files/?d=x%2Fy.png")) == [("x", "y.png")]
    assert list(spellings("0a1b2c3d-y.png")) == [("0a1b2c3d-y.png",), ("y.png",)]
    assert list(spellings("..")) == [()]


def test_what_is_passed_over_is_said_with_count_and_reason(tmp_path):
    for n in range(N):
        write(picture(tmp_path / "s" / f"{n}.png").with_suffix(".txt"), f"thing {n}")
        write(tmp_path / "s" / f"{n}.heic", "x")
    write(tmp_path / "s/README.md", "x")
    for n in range(3):
        picture(tmp_path / "s" / f"more{n}.png")
    _, said = take(tmp_path / "s", tmp_path / "to")
    assert "12 passed over: .heic" in said
    assert "1 passed over: .md" in said
    assert "3 passed over: image files that nothing names or describes (more0.png, more1.png, more2.png)" in said


@pytest.mark.parametrize(
    ("names", "seen", "nearest"),
    [
        (["a.heic", "b.heic", "c.svg"], "2 .heic, 1 .svg", ""),
        (["a.png", "b.png"], "2 .png", "folders: pictures or clips in a folder a class"),
        (["a.png", "list.csv"], "1 .png, 1 .csv", "captions: "),
        (["a.png", "a.json"], "1 .json, 1 .png|1 .png, 1 .json", "coco: "),
    ],
)
def test_none_of_the_formats_says_what_is_there_and_what_is_nearest(tmp_path, names, seen, nearest):
    for name in names:
        picture(tmp_path / "s" / name) if name.endswith("png") else write(tmp_path / "s" / name, "7")
    with pytest.raises(DataError, match=f"none of the known formats: there is ({seen}); expected one") as caught:
        take(tmp_path / "s", tmp_path / "to")
    assert (f"nearest is {nearest}" in str(caught.value)) if nearest else ("nearest" not in str(caught.value))


def test_two_formats_say_which(tmp_path):
    (tmp_path / "s").mkdir()
    voc(tmp_path / "s")
    write(tmp_path / "s/boxes.json", json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(DataError, match="looks like coco and voc; expected one: name it with --format"):
        take(tmp_path / "s", tmp_path / "to")
