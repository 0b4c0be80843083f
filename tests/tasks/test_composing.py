"""Composites that are composed anew: the same things elsewhere, and an answer that is still true."""

import io

import numpy as np
import pytest
from PIL import Image

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.corpus.composites import composite
from plait.errors import RowError
from plait.modalities.image.boxes import boxes_as_text, boxes_in_text
from plait.tasks import composing
from plait.tasks.composing import CANVAS, CELLS, PARTS, SIDE, recompose
from plait.tasks.dictionary.pictures import _part


def drawing(colour):
    picture = Image.new("RGB", (60, 60), "white")
    picture.paste(colour, (10, 15, 50, 45))
    return picture


COLOURS = {"a": (200, 0, 0), "b": (0, 0, 200)}


@pytest.fixture
def scene():
    """Three red things and a blue one, with their boxes."""
    rng = np.random.default_rng(3)
    return composite([(name, drawing(COLOURS[name])) for name in ("a", "a", "b", "a")], rng)


def asked(picture, answer):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Sample(
        (
            Message("user", (Part("image", buffer.getvalue()), Part("text", "?"))),
            Message("assistant", (Part("text", answer),)),
        )
    )


def colour_at(picture, box):
    x1, y1, x2, y2 = map(round, box)
    return np.asarray(picture)[(y1 + y2) // 2, (x1 + x2) // 2]


def shown(sample):
    return sample.messages[0].parts[0].value, sample.messages[1].parts[0].value


def test_boxes_move_with_what_they_enclose(scene):
    canvas, boxes = scene
    wanted = [box | {"label": ""} for box in boxes if box["label"] == "a"]
    sample = asked(canvas, boxes_as_text(wanted, canvas.size))
    places = set()
    for seed in range(20):
        picture, answer = shown(recompose(sample, np.random.default_rng(seed)))
        told = boxes_in_text(answer, (CANVAS, CANVAS))
        assert len(told) == 3
        for box in told:
            assert np.abs(colour_at(picture, box["box"]) - np.array(COLOURS["a"])).max() < 30
            places.add(tuple(int(corner) // SIDE for corner in box["box"][:2]))
        red = (np.asarray(picture, int)[:, :, 0] > 150) & (np.asarray(picture, int)[:, :, 2] < 60)
        inside = np.zeros_like(red)
        for box in told:
            x1, y1, x2, y2 = (round(corner) for corner in box["box"])
            inside[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = True
        assert not (red & ~inside).any(), "nothing red is left out"
    assert len(places) == CELLS**2, "all cells are taken, sooner or later"


def test_a_part_is_that_of_the_new_cell_and_a_number_stays(scene):
    canvas, boxes = scene
    (box,) = (box for box in boxes if box["label"] == "b")
    sample = asked(canvas, _part(box["box"], list(canvas.size)))
    for seed in range(10):
        picture, answer = shown(recompose(sample, np.random.default_rng(seed)))
        blue = np.argwhere(np.asarray(picture, int)[:, :, 2] - np.asarray(picture, int)[:, :, 0] > 120)
        top, left = blue.mean(axis=0)
        assert answer == PARTS[int(left) // SIDE + CELLS * (int(top) // SIDE)]
    assert shown(recompose(asked(canvas, "3"), np.random.default_rng(0)))[1] == "3"


def test_parts_are_called_as_the_task_calls_them():
    for cell, name in enumerate(PARTS):
        left, top = cell % CELLS * SIDE, cell // CELLS * SIDE
        assert _part([left + 20, top + 20, left + 60, top + 60], [CANVAS, CANVAS]) == name


def test_the_same_draw_gives_the_same_picture(scene):
    sample = asked(scene[0], "3")
    one, other = (shown(recompose(sample, np.random.default_rng(5)))[0] for _ in range(2))
    assert np.array_equal(np.asarray(one), np.asarray(other))


def test_what_is_no_composite_stays_as_it_is():
    sample = asked(Image.new("RGB", (100, 80), "white"), "3")
    assert recompose(sample, np.random.default_rng(0)) is sample
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (CANVAS, CANVAS, 3), np.uint8))
    of_a_photo = asked(photo, "3")
    assert recompose(of_a_photo, np.random.default_rng(0)) is of_a_photo
    canvas = Image.new("RGB", (CANVAS, CANVAS), "white")
    nothing = asked(canvas, "[1, 1, 200, 200]")
    assert recompose(nothing, np.random.default_rng(0)) is nothing, "an answer about a cell with nothing in it"
    words = asked(canvas, "a red thing")
    assert recompose(words, np.random.default_rng(0)) is words
    with pytest.raises(RowError, match="one picture"):
        recompose(
            Sample((Message("user", (Part("text", "?"),)), Message("assistant", (Part("text", "3"),)))),
            np.random.default_rng(0),
        )


def test_recipes_find_it():
    assert registry.transform("composing.recompose") is composing.recompose
