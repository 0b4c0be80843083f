"""One function for boxes of every format: turned, in order, clipped, dropped and counted."""

import json

import numpy as np
import pytest
from import_sources import answers, picture, take, write
from PIL import Image, ImageOps

from plait.data.importers.core.boxes import Box, frame_of, looks_like_boxes, settled, turned
from plait.data.importers.core.report import EntryError, Report
from plait.errors import DataError


def oriented(path, size, orientation):
    """A picture as it is stored, and how it is to be turned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, "grey").save(path, exif=exif)
    return path


def coco(root, boxes, size=(20, 10), name="0.png", **extra):
    """A list of one picture, and of nineteen others with a box that is sound."""
    images = [{"id": 0, "file_name": name, "width": size[0], "height": size[1]} | extra]
    annotations = [{"image_id": 0, "category_id": 1} | box for box in boxes]
    for n in range(1, 20):
        picture(root / f"{n}.png", (20, 10))
        images.append({"id": n, "file_name": f"{n}.png", "width": 20, "height": 10})
        annotations.append({"image_id": n, "category_id": 1, "bbox": [0, 0, 20, 10]})
    if not (root / name).exists():
        picture(root / name, size if min(size) > 0 else (20, 10))
    raw = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    write(root / "boxes.json", json.dumps(raw))
    return root


WHOLE = "cat [0, 0, 1000, 1000]"


def first(root, to, **options):
    """(what is said of the picture that is not like the others, lines that were said)."""
    _, said = take(root, to, **options)
    texts = answers(to)
    assert texts.count(WHOLE) == 19
    return [text for text in texts if text != WHOLE], said


def test_boxes_are_thousandths(tmp_path):
    boxes = [{"bbox": [5, 0, 10, 5]}, {"bbox": [1, 1, 19, 9]}]
    texts, said = first(coco(tmp_path / "s", boxes), tmp_path / "to")
    assert texts == ["cat [250, 0, 750, 500]; cat [50, 100, 1000, 1000]"]
    assert len(said) == 1


def test_boxes_turn_with_their_picture(tmp_path):
    oriented(tmp_path / "s/0.jpg", (64, 32), 6)
    root = coco(tmp_path / "s", [{"bbox": [0, 0, 16, 16]}], (64, 32), "0.jpg")
    texts, said = first(root, tmp_path / "to")
    assert texts == ["cat [500, 0, 1000, 250]"]
    assert "1 pictures are turned by EXIF, and their boxes with them (boxes.json, image 0)" in said


def test_boxes_that_are_turned_already_stay(tmp_path):
    """The list gives the picture the sides that it is shown with."""
    oriented(tmp_path / "s/0.jpg", (64, 32), 6)
    root = coco(tmp_path / "s", [{"bbox": [16, 0, 16, 16]}], (32, 64), "0.jpg")
    assert first(root, tmp_path / "to")[0] == ["cat [500, 0, 1000, 250]"]


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_other_formats_turn_alike(tmp_path, form):
    """Pascal VOC says the stored size, as COCO does; fractions are of the picture as it is shown."""
    oriented(tmp_path / "s/0.jpg", (64, 32), 6)
    if form == "voc":
        box = "<xmin>0</xmin><ymin>0</ymin><xmax>16</xmax><ymax>16</ymax>"
        size = "<size><width>64</width><height>32</height></size>"
        thing = f"<object><name>cat</name><bndbox>{box}</bndbox></object>"
        write(tmp_path / "s/0.xml", f"<annotation><filename>0.jpg</filename>{size}{thing}</annotation>")
    else:
        write(tmp_path / "s/0.txt", "0 0.75 0.125 0.5 0.25")
        write(tmp_path / "s/classes.txt", "cat")
    take(tmp_path / "s", tmp_path / "to")
    assert answers(tmp_path / "to") == ["cat [500, 0, 1000, 250]"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_turn_as_pixels_do(tmp_path, orientation):
    pixels = np.zeros((32, 64), np.uint8)
    pixels[4:10, 40:60] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    frame, by = frame_of(tmp_path / "a.png", (64, 32))
    assert (frame, by) == ((64, 32), orientation)
    (box,) = settled([Box("a", (40, 4, 60, 10))], frame, by, Report(), "a")
    ys, xs = np.nonzero(shown)
    height, width = shown.shape
    expected = (xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height)
    assert box.corners == pytest.approx([1000 * at for at in expected])
    assert turned(40, 4, (64, 32), 1) == (40, 4)


@pytest.mark.parametrize(
    ("box", "text", "line"),
    [
        ({"bbox": [15, 5, -10, -5]}, "cat [250, 0, 750, 500]", "1 boxes have swapped corners, now in order"),
        ({"bbox": [-5, 0, 100, 5]}, "cat [0, 0, 1000, 500]", "1 boxes reach out of the picture, and are clipped"),
        ({"bbox": [5, 0, 10, 5], "segmentation": []}, "cat [250, 0, 750, 500]", ""),
        ({"segmentation": [[5, 0, 15, 0, 15, 5]]}, "cat [250, 0, 750, 500]", ""),
        ({"bbox": [], "segmentation": [[5, 0, 15, 0], [9, 4, 9, 5]]}, "cat [250, 0, 750, 500]", ""),
        ({"bbox": [5, 5, 0, 3]}, None, "1 passed over: boxes without width or height"),
        ({"bbox": [5, 5, 3, 0.001]}, None, "1 passed over: boxes without width or height"),
        ({"bbox": [50, 5, 3, 3]}, None, "1 passed over: boxes outside of the picture"),
        ({"bbox": [0, 0, 15, 10], "iscrowd": 1}, None, "1 passed over: boxes of crowds"),
        ({"bbox": [float("nan"), 0, 15, 10]}, None, "1 passed over: boxes that are not finite numbers"),
        ({}, None, "1 passed over: annotations without a box or a polygon"),
        (
            {"segmentation": {"counts": "abc", "size": [1, 1]}},
            None,
            "1 passed over: annotations without a box or a polygon",
        ),
    ],
)
def test_boxes_are_checked(tmp_path, box, text, line):
    """What is left of a picture is learned; of one of whose boxes nothing is left it is not said that nothing is there."""
    beside = {"bbox": [10, 5, 10, 5]}
    texts, said = first(coco(tmp_path / "s", [box, beside]), tmp_path / "to")
    sound = "cat [500, 500, 1000, 1000]"
    assert texts == ([f"{text}; {sound}"] if text else [sound])
    assert len(said) == (2 if line else 1)
    assert line in said[-1]
    texts, said = first(coco(tmp_path / "t", [box]), tmp_path / "to2") if text else ([], None)
    assert texts == ([text] if text else [])


def test_a_picture_without_boxes_has_nothing_in_it(tmp_path):
    assert first(coco(tmp_path / "s", []), tmp_path / "to")[0] == ["nothing"]


def test_a_picture_none_of_whose_boxes_are_sound_is_passed_over(tmp_path):
    texts, said = first(coco(tmp_path / "s", [{"bbox": [0, 0, 15, 10], "iscrowd": 1}]), tmp_path / "to")
    assert texts == []
    assert "1 passed over: none of its boxes can be used (boxes.json, image 0)" in said


@pytest.mark.parametrize("size", [(0, 0), (None, None), ("?", 1), (20, 10), (2000, 1000)])
def test_a_size_that_is_not_said_is_that_of_the_picture(tmp_path, size):
    scale = 100 if size == (2000, 1000) else 1
    root = coco(tmp_path / "s", [{"bbox": [5 * scale, 0, 10 * scale, 5 * scale]}], width=size[0], height=size[1])
    assert first(root, tmp_path / "to")[0] == ["cat [250, 0, 750, 500]"]


def test_a_size_of_another_shape_is_passed_over(tmp_path):
    root = coco(tmp_path / "s", [{"bbox": [5, 0, 10, 5]}], width=10, height=20)
    texts, said = first(root, tmp_path / "to")
    assert texts == []
    assert any("the size in the list is not that of its picture (boxes.json, image 0 10x20, 20x10)" in x for x in said)


def test_a_class_without_a_name_passes_its_picture_over(tmp_path):
    texts, said = first(coco(tmp_path / "s", [{"bbox": [5, 0, 10, 5], "category_id": 7}]), tmp_path / "to")
    assert texts == []
    assert any(line.startswith("1 passed over: a box is of a category that is not listed") for line in said)


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 1, "name": "cat"}],
        [{"id": "1", "name": "cat"}],
        {"1": "cat"},
        {"cat": 1},
        {"1": {"name": "cat"}},
        ["none", "cat"],
    ],
)
def test_names_of_classes_in_every_shape(tmp_path, categories):
    root = coco(tmp_path / "s", [{"bbox": [5, 0, 10, 5]}])
    raw = json.loads((root / "boxes.json").read_text())
    write(root / "boxes.json", json.dumps(raw | {"categories": categories}))
    assert first(root, tmp_path / "to")[0] == ["cat [250, 0, 750, 500]"]


def test_names_of_classes_in_no_shape_are_said(tmp_path):
    root = coco(tmp_path / "s", [])
    raw = json.loads((root / "boxes.json").read_text())
    write(root / "boxes.json", json.dumps(raw | {"categories": [{"name": "cat"}]}))
    with pytest.raises(DataError, match=r"boxes.json: categories: got .*expected a list of names, or an object"):
        take(root, tmp_path / "to")


def test_voc_objects(tmp_path):
    """A polygon for a box, no size, no object's name."""
    size = "<size><width>0</width><height>0</height></size>"
    box = "<bndbox><xmin>15</xmin><ymin>0</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    polygon = "<polygon><x1>5</x1><y1>0</y1><x2>15</x2><y2>0</y2><x3>15</x3><y3>5</y3></polygon>"
    things = {n: f"<object><name>cat</name>{box if n % 2 else polygon}</object>" for n in range(19)}
    things[19] = f"<object>{box}</object>"
    for n, thing in things.items():
        picture(tmp_path / "s" / f"{n}.png", (20, 10))
        write(
            tmp_path / "s" / f"{n}.xml",
            f"<annotation><filename>{n}.png</filename>{size if n % 3 else ''}{thing}</annotation>",
        )
    _, said = take(tmp_path / "s", tmp_path / "to")
    assert answers(tmp_path / "to") == ["cat [250, 0, 750, 500]"] * 19
    assert "1 passed over: an <object> has no <name> (19.xml)" in said


def test_yolo_boxes_are_checked(tmp_path):
    lines = {
        0: "0 1.0 0.5 1.0 1.0",
        1: "0 0.5 0.5 0 0.5\n0 0.5 0.5 1 1",
        2: "0 320 240 100 100",
        3: "9 0.5 0.5 1 1",
        4: "0 a b c d",
    }
    for n in range(40):
        picture(tmp_path / "s" / f"{n}.png", (20, 10))
        write(tmp_path / "s" / f"{n}.txt", lines.get(n, "0 0.5 0.5 1 1"))
    write(tmp_path / "s/classes.txt", "cat\n")
    _, said = take(tmp_path / "s", tmp_path / "to", "yolo")
    assert answers(tmp_path / "to") == [WHOLE] * 36 + ["cat [500, 0, 1000, 1000]"]
    for reason in (
        "a box is not in fractions of the picture (2.txt",
        "a box is of a class without a name (3.txt 9)",
        "a line is not of numbers (4.txt",
    ):
        assert any(line.startswith(f"1 passed over: {reason}") for line in said), reason


def test_what_looks_like_boxes():
    assert looks_like_boxes("0 0.5 0.5 1 1\n\n12 .5 0.25 1e-3 0.1 0.9\n")
    assert not looks_like_boxes("")
    assert not looks_like_boxes("4 cats in 2 rows of 2")
    assert not looks_like_boxes("7 8 9")


def test_what_is_no_picture_has_no_frame(tmp_path):
    write(tmp_path / "a.png", "no picture")
    with pytest.raises(DataError, match=r"its picture cannot be read: image part: .*a.png is no picture; expected"):
        frame_of(tmp_path / "a.png", (1, 1))
    with pytest.raises(EntryError, match=r"not that of its picture: 1x3, 8x8; expected the same shape"):
        frame_of(picture(tmp_path / "b.png"), (1, 3))


def test_a_list_that_is_still_to_be_annotated_says_nothing(tmp_path):
    """Its pictures are no pictures of nothing."""
    root = coco(tmp_path / "s/train", [])
    raw = json.loads((root / "boxes.json").read_text())
    picture(tmp_path / "s/test/0.png", (20, 10))
    images = [{"id": 0, "file_name": "0.png", "width": 20, "height": 10}]
    write(tmp_path / "s/test/boxes.json", json.dumps(raw | {"images": images, "annotations": []}))
    counts, said = take(tmp_path / "s", tmp_path / "to")
    assert counts == {"train": 20}
    assert "1 passed over: pictures of a list without any annotations (test/boxes.json)" in said


@pytest.mark.parametrize("points", [True, False])
def test_numbers_behind_a_box_of_yolo_are_points_or_a_polygon(tmp_path, points):
    for n in range(3):
        picture(tmp_path / "s" / f"{n}.png", (20, 10))
        write(tmp_path / "s" / f"{n}.txt", "0 0.5 0.5 0.2 0.2 0.1 0.9")
    write(tmp_path / "s/data.yaml", "names: [cat]\n" + "kpt_shape: [1, 2]\n" * points)
    take(tmp_path / "s", tmp_path / "to", strict=True)
    box = [400, 400, 600, 600] if points else [100, 200, 500, 900]
    assert answers(tmp_path / "to") == [f"cat {box}"] * 3


def test_lists_of_names_that_differ_are_said(tmp_path):
    for split, names in (("train", "cat"), ("valid", "dog")):
        picture(tmp_path / "s" / split / "0.png")
        write(tmp_path / "s" / split / "0.txt", "0 0.5 0.5 1 1")
        write(tmp_path / "s" / split / "classes.txt", names)
    with pytest.raises(DataError, match=r"train/classes.txt, valid/classes.txt name the classes differently"):
        take(tmp_path / "s", tmp_path / "to")
