"""The main colour of a drawing, and several drawings on one canvas with their boxes."""

import numpy as np
import pytest
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
