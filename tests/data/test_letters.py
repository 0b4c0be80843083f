"""What can be heard of a text, in bytes."""

import itertools

import numpy as np
import pytest

from plait.data.letters import BLANK, CLASSES, aligned, read, spelled


@pytest.mark.parametrize("text", ["The conference is now unlocked!", "Grüße", "四十二", "a  b\nc", ""])
def test_a_text_comes_back_as_plain_words(text):
    classes = spelled(text).tolist()
    assert all(BLANK < number < CLASSES for number in classes)
    with_blanks = [slot for number in classes for slot in (number, number, BLANK)]
    assert read(with_blanks) == " ".join(text.casefold().replace("!", "").replace("ß", "ss").split())


def test_a_letter_that_is_said_twice_needs_a_blank_between():
    a = int(spelled("a")[0])
    assert (read([a, a]), read([a, BLANK, a])) == ("a", "aa")


def test_bytes_that_are_no_text_are_left_out():
    first, second = spelled("ü").tolist()
    b = int(spelled("b")[0])
    assert read([first, BLANK, b]) == "b"
    assert read([first, second, b]) == "üb"


def by_enumeration(table, classes):
    """The likeliest path among all, written out."""
    best, first = -np.inf, None
    for path in itertools.product(range(table.shape[1]), repeat=len(table)):
        kept = [number for number, _ in itertools.groupby(path) if number != BLANK]
        if kept == list(classes):
            score = sum(table[slot, number] for slot, number in enumerate(path))
            if score > best:
                starts = [
                    slot for slot, number in enumerate(path) if number and (slot == 0 or path[slot - 1] != number)
                ]
                best, first = score, starts
    return first


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("classes", [[1], [1, 2], [1, 1], [2, 1, 1], [1, 2, 1]])
def test_letters_lie_on_the_likeliest_path(seed, classes):
    table = np.log(np.random.default_rng(seed).dirichlet(np.full(3, 0.5), 6) + 1e-9)
    assert aligned(table, np.array(classes)).tolist() == by_enumeration(table, classes)


def test_letters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="got 3 letters in 2 slots"):
        aligned(np.zeros((2, 4)), np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="got 2 letters in 2 slots"):
        aligned(np.zeros((2, 4)), np.array([1, 1]))  # a blank must lie between
