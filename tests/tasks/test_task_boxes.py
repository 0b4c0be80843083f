"""Boxes under an affine map: arithmetic of their corners, and labels that a mirror makes false."""

import numpy as np
import pytest
from PIL import Image

from plait.contract import Message, Part, Sample
from plait.errors import RowError
from plait.tasks import boxes

SIZE = (100, 80)
UNMOVED = (np.eye(2), np.zeros(2))


@pytest.mark.parametrize(
    ("box", "matrix", "shift", "moved"),
    [
        ((10, 10, 30, 40), *UNMOVED, [10, 10, 30, 40]),
        ((10, 10, 30, 40), np.eye(2), np.array([5.0, -5.0]), [15, 5, 35, 35]),
        ((10, 10, 30, 40), 2 * np.eye(2), np.zeros(2), [20, 20, 60, 80]),
        ((10, 10, 30, 40), np.diag([-1.0, 1.0]), np.array([100.0, 0.0]), [70, 10, 90, 40]),
        ((-10, 10, 30, 40), *UNMOVED, [0, 10, 30, 40]),  # three quarters are inside
        ((-30, 10, 30, 40), *UNMOVED, [0, 10, 30, 40]),  # exactly half
        ((-31, 10, 30, 40), *UNMOVED, None),
        ((200, 200, 240, 240), *UNMOVED, None),
    ],
)
def test_a_moved_box_is_what_is_left_of_it(box, matrix, shift, moved):
    assert boxes._moved(box, matrix, shift, SIZE) == moved


def test_a_turned_box_is_enclosed():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    assert boxes._moved((10, 20, 30, 60), turn, np.array([80.0, 0.0]), SIZE) == [20, 10, 60, 30]


def test_the_middle_of_a_picture_moves_by_the_shift_alone():
    for seed in range(20):
        matrix, shift = boxes._affine(np.array(SIZE), np.random.default_rng(seed), flip=True)
        middle = np.array(SIZE) / 2
        apart = matrix @ middle + shift - middle
        assert (np.abs(apart) <= boxes.SHIFT * np.array(SIZE) + 1e-9).all()
        zoom = np.sqrt(abs(np.linalg.det(matrix)))
        assert boxes.ZOOM[0] - 1e-9 <= zoom <= boxes.ZOOM[1] + 1e-9


def test_half_of_the_moves_mirror_and_without_flip_none_does():
    mirrored = [np.linalg.det(boxes._affine(np.array(SIZE), np.random.default_rng(s), True)[0]) < 0 for s in range(200)]
    assert 70 < sum(mirrored) < 130
    plain = [np.linalg.det(boxes._affine(np.array(SIZE), np.random.default_rng(s), False)[0]) > 0 for s in range(50)]
    assert all(plain)


@pytest.mark.parametrize(
    ("label", "sided"),
    [("left arrow", True), ("Leftwards", True), ("three o’clock", True), ("one-thirty", True), ("clockwise arrows", True),
     ("cat", False), ("leftover pizza", False), ("bright star", False), ("", False)],
)  # fmt: skip
def test_labels_that_tell_left_from_right_are_not_mirrored(label, sided, monkeypatch):
    flips = []
    monkeypatch.setattr(boxes, "move", lambda sample, rng, flip: flips.append(flip))
    boxes.move_and_mirror(Sample((), meta={"label": label}), np.random.default_rng(0))
    assert flips == [not sided]


def test_several_pictures_cannot_move():
    picture = Part("image", Image.new("RGB", (8, 8)))
    sample = Sample((Message("user", (picture, picture)), Message("assistant", (Part("text", "none"),))), "spot")
    with pytest.raises(RowError, match="spot: got 2 pictures; expected one"):
        boxes.move(sample, np.random.default_rng(0))


def test_every_transform_is_a_function_of_this_module():
    assert {name: function.__name__ for name, function in boxes.TRANSFORMS.items()} == {
        "move": "move", "move_and_mirror": "move_and_mirror",
    }  # fmt: skip


def test_a_grey_picture_is_filled_with_its_border():
    canvas = Image.new("L", (40, 40), 200)
    question = Message("user", (Part("image", canvas), Part("text", "Where?")))
    sample = Sample((question, Message("assistant", (Part("text", "none"),))))
    moved = boxes.move(sample, np.random.default_rng(1)).messages[0].parts[0].value
    assert np.asarray(moved).min() == 200
