"""One walk over folders and tars: what other programs leave behind is not data, and links are followed."""

import io
import os
import tarfile
from collections import Counter

import numpy as np
import pytest
from import_sources import answers, captions_txt, picture, rows, take, write
from PIL import Image

from plait.data.importers.core.walk import is_leaving, walk
from plait.errors import DataError

LEFT = (".ipynb_checkpoints", "@eaDir", ".thumbnails", "__MACOSX", ".git", "$RECYCLE.BIN", "System Volume Information")


@pytest.fixture
def classes(tmp_path):
    for label in ("cat", "dog"):
        for n in range(6):
            picture(tmp_path / "s" / label / f"{n}.png")
    return tmp_path / "s"


@pytest.mark.parametrize("name", LEFT)
def test_folders_that_programs_leave_are_no_classes(tmp_path, classes, name):
    for folder in (classes / name, classes / "cat" / name):
        picture(folder / "0-checkpoint.png")
    _, said = take(classes, tmp_path / "to")
    assert set(answers(tmp_path / "to")) == {"cat", "dog"}
    assert len(answers(tmp_path / "to")) == 12
    assert "2 passed over: hidden files, and what other programs left behind" in said


@pytest.mark.parametrize("name", ["._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"])
def test_files_that_programs_leave_are_no_data(tmp_path, classes, name):
    write(classes / "cat" / name, "x" * 100)
    take(classes, tmp_path / "to", strict=True)
    assert len(answers(tmp_path / "to")) == 12


def test_their_texts_are_no_captions(tmp_path):
    (tmp_path / "s").mkdir()
    captions_txt(tmp_path / "s")
    for n in range(30):
        write(tmp_path / "s" / f"._{n}.png", "Mac OS X")
        write(tmp_path / "s" / f"._{n}.txt", "Mac OS X")
    take(tmp_path / "s", tmp_path / "to", strict=True)
    assert answers(tmp_path / "to") == sorted(f"a thing {n}" for n in range(30))


def test_pairs_of_a_tar_stay_together(tmp_path):
    """Whatever lies between a picture and its text, and however far from one another they are."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        for n in range(10):
            buffer = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(buffer, "PNG")
            add(f"{n}.png", buffer.getvalue())
            add(f"._{n}.png", b"Mac OS X")
            add(f"__MACOSX/{n}.png", b"Mac OS X")
            if n < 5:
                add(f"{n}.txt", f"thing {n}".encode())
        for n in range(5, 10):
            add(f"{n}.txt", f"thing {n}".encode())
    _, said = take(tmp_path / "a.tar", tmp_path / "to", strict=True)
    texts = {row[0][1][0]: row[1][1][0] for row in rows(tmp_path / "to") if isinstance(row[0][1][0], bytes)}
    assert {Image.open(io.BytesIO(data)).getpixel((0, 0))[0]: text for data, text in texts.items()} == {
        n: f"thing {n}" for n in range(10)
    }
    assert "20 passed over: hidden files, and what other programs left behind" in said


def test_linked_folders_are_followed(tmp_path, classes):
    (classes / "dog").rename(tmp_path / "elsewhere")
    (classes / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (classes / "cat" / "9.png").symlink_to(picture(tmp_path / "far.png"))
    (classes / "cat" / "broken.png").symlink_to(tmp_path / "gone.png")
    (classes / "cat" / "loop").symlink_to(classes, target_is_directory=True)
    _, said = take(classes, tmp_path / "to")
    assert answers(tmp_path / "to") == ["cat"] * 7 + ["dog"] * 6
    assert "1 passed over: links to nothing, pipes and devices" in said


def test_a_linked_source_is_no_empty_one(tmp_path, classes):
    (tmp_path / "link").symlink_to(classes, target_is_directory=True)
    assert sum(take(tmp_path / "link", tmp_path / "to")[0].values()) == 24


def test_the_walk_is_in_order_and_counts(tmp_path):
    for name in ("b/2", "a/1", "c", ".hidden", "a/.x"):
        write(tmp_path / "s" / name, "x")
    os.mkfifo(tmp_path / "s/pipe")
    passed = Counter()
    assert [path.relative_to(tmp_path / "s").as_posix() for path in walk(tmp_path / "s", passed)] == ["a/1", "b/2", "c"]
    assert sorted(passed.values()) == [1, 2]
    assert len(walk(tmp_path / "s", Counter(), most=2)) == 2
    assert walk(tmp_path / "nothing", passed) == []


def test_names_that_programs_leave():
    assert all(map(is_leaving, [*LEFT, "a/._b", "a/__macosx/b", "THUMBS.DB", "..a"]))
    assert not any(map(is_leaving, ["a", "a.b", "a/../b", "./a", "...", "dot.files/x"]))


def test_a_folder_of_leavings_says_so(tmp_path):
    picture(tmp_path / "s/.thumbnails/a.png")
    with pytest.raises(DataError, match=r"there is no files \(1 hidden files, and what other programs left behind\)"):
        take(tmp_path / "s", tmp_path / "to")
