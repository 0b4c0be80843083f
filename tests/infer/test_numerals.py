"""Numerals become the words that people say."""

import pytest

from plait.infer import numerals
from plait.infer.numerals import in_words

pytest.importorskip("inflect")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no number", "no number"),
        ("7 of 12", "seven of twelve"),
        ("in 1969.", "in nineteen sixty-nine."),
        ("1905, 1900 and 2024", "nineteen oh five, nineteen hundred and twenty twenty-four"),
        ("2001 and 1,969", "two thousand one and one thousand nine hundred sixty-nine"),
        ("3.14", "three point one four"),
        ("1969.5 m", "one thousand nine hundred sixty-nine point five m"),
        ("2,100,000 people", "two million one hundred thousand people"),
        ("$5, $1, $2.50 and €3.00", "five dollars, one dollar, two dollars fifty and three euros"),
        ("42% or 0.5 %", "forty-two percent or zero point five percent"),
        ("the 1st, 22nd and 103rd", "the first, twenty-second and one hundred third"),
        ("at 10:30, 9:05 and 8:00", "at ten thirty, nine oh five and eight o'clock"),
        ("$1.50, $0.99 and £0.01", "one dollar fifty, ninety-nine cents and one pence"),
        ("$5 million and €1.2 billion", "five million dollars and one point two billion euros"),
        ("12:30pm, 8:00 a.m. and 15:00", "twelve thirty p m, eight a m and fifteen hundred"),
        ("MP3, 5km, B2B and 3D", "MP three, five km, B two B and three D"),
        ("007", "zero zero seven"),
        ("1" * 16, " ".join(["one"] * 16)),
        ("٣", "three"),
        (
            "Dr. Smith of St. Ives, e.g. cats vs. dogs etc.",
            "Doctor Smith of Saint Ives, for example cats versus dogs et cetera.",
        ),
        ("Elm St. is long. MS. 3", "Elm St. is long. MS. three"),
        ("I live on Main St. The house", "I live on Main Street. The house"),
        ("MR. Smith and DR. Who", "Mister Smith and Doctor Who"),
        ("E.g. this, pears etc. Then", "For example this, pears et cetera. Then"),
    ],
)
def test_numerals_are_said(text, said):
    assert in_words(text) == said


def test_without_the_package_they_stay(monkeypatch):
    monkeypatch.setattr(numerals, "_engine", lambda: None)
    assert in_words("7 of 12") == "7 of 12"
