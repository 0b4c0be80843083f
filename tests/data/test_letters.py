"""What can be heard of a text, in bytes."""

import pytest

from plait.data.letters import BLANK, CLASSES, read, spelled


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
