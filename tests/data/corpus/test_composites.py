"""The main colour of a drawing, and several drawings on one canvas with their boxes."""

import numpy as np
import pytest
from drawings_and_clips import drawing
from PIL import Image, ImageDraw

from plait.data.corpus.composites import composite, main_colour


@pytest.mark.parametrize("colour", ["red", "yellow", "green", "blue", "black", "purple"])
def test_the_main_colour_of_a_drawing(colour):
    canvas = Image.new("RGB", (90, 90), "white")
    ImageDraw.Draw(canvas).ellipse([10, 10, 80, 80], fill=colour)
    assert main_colour(canvas) == colour
    ImageDraw.Draw(canvas).rectangle([10, 10, 80, 45], fill="orange" if colour == "blue" else "blue")
    assert main_colour(canvas) is None


def test_boxes_of_a_composite_enclose_what_was_drawn():
    things = []
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 160, 0)), ("blue", (0, 0, 255))):
        canvas = Image.new("RGB", (90, 90), "white")
        ImageDraw.Draw(canvas).rectangle([20, 30, 70, 60], fill=colour)
        things.append((name, canvas))
    picture, boxes = composite(things, np.random.default_rng(4))
    levels = np.asarray(picture, int)
    assert [box["label"] for box in boxes] == ["red", "green", "blue"]
    for box, channel in zip(boxes, range(3), strict=True):
        mine = levels[..., channel] - levels[..., [c for c in range(3) if c != channel]].max(axis=2) > 100
        rows, columns = np.nonzero(mine)
        drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(box["box"]) - drawn).max() <= 1


def test_a_blank_drawing_and_one_of_many_colours_have_no_main_colour():
    assert main_colour(Image.new("RGB", (40, 40), "white")) is None
    stripes = Image.new("RGB", (90, 90), "white")
    for number, fill in enumerate(("red", "green", "blue")):
        ImageDraw.Draw(stripes).rectangle([30 * number, 0, 30 * number + 29, 89], fill=fill)
    assert main_colour(stripes) is None


def test_a_tiny_mark_is_no_colour_of_a_drawing():
    canvas = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(canvas).rectangle([0, 0, 9, 9], fill="red")
    assert main_colour(canvas) is None


@pytest.mark.parametrize(("level", "name"), [(0, "black"), (59, "black"), (60, "grey"), (189, "grey"), (250, None)])
def test_greys_are_told_by_their_level(level, name):
    canvas = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(canvas).rectangle([0, 0, 63, 63], fill=(level, level, level))
    assert main_colour(canvas) == name, "nearly white is the paper"


def test_no_drawing_of_a_composite_covers_another():
    rng = np.random.default_rng(0)
    drawings = [(str(n), drawing(n)) for n in range(9)]
    for _ in range(5):
        canvas, boxes = composite(drawings, rng)
        assert canvas.size == (256, 256)
        assert len(boxes) == 9
        for number, a in enumerate(boxes):
            for b in boxes[number + 1 :]:
                (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a["box"], b["box"]
                assert ax2 <= bx1 or bx2 <= ax1 or ay2 <= by1 or by2 <= ay1, (a, b)


def test_a_blank_drawing_takes_no_box():
    _, boxes = composite(
        [("nothing", Image.new("RGB", (50, 50), "white")), ("thing", drawing(1))], np.random.default_rng(0)
    )
    assert [box["label"] for box in boxes] == ["thing"]
    assert composite([], np.random.default_rng(0))[1] == []
