"""Numerals and abbreviations as people say them in English, for a voice that knows letters: `in 1969` is "in nineteen sixty-nine".

The numbers' names are those of the package `inflect`; without it numerals stay as they are.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
CURRENCIES = {"$": ("dollar", "dollars", "cents"), "€": ("euro", "euros", "cents"), "£": ("pound", "pounds", "pence")}
MONEY = re.compile(rf"([$€£])({NUMBER})(?!\d)(?:\s+(hundred|thousand|million|billion|trillion)\b)?", re.IGNORECASE)
TIME = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)(?:\s?([ap])\.?m\b\.?)?", re.IGNORECASE)
ORDINAL = re.compile(r"\b(\d+)(st|nd|rd|th)\b", re.IGNORECASE)
SHARE = re.compile(rf"({NUMBER})\s?%")
YEAR = re.compile(r"(?<![\d.,])(1[1-9]\d\d|20[1-9]\d)(?![\d,.]\d|\d)")
ANY = re.compile(NUMBER)
BETWEEN = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")  # a letter and a digit
TITLES = {  # before a name
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor", "St": "Saint", "Mt": "Mount",
}  # fmt: skip
OTHERS = {"e.g": "for example", "i.e": "that is", "vs": "versus", "etc": "et cetera"}
TITLE = re.compile(rf"\b((?i:{'|'.join(TITLES)}))\.(?=\s+[A-Z])")
OTHER = re.compile(r"\b(e\.g|i\.e|vs|etc)\.(?P<ends>$|(?=\s+[A-Z]))?", re.IGNORECASE)
LONGEST = 15  # digits that are a number; more are read one by one
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@cache
def _engine() -> Any:
    try:
        import inflect
    except ImportError:
        return None
    return inflect.engine()


def in_words(text: str) -> str:
    """A text whose abbreviations and numerals are words; numerals stay where `inflect` is not installed."""
    text = TITLE.sub(_title, text)
    text = OTHER.sub(_other, text)
    if _engine() is None or not any(map(str.isdigit, text)):
        return text
    text = MONEY.sub(_money, text)
    text = TIME.sub(_time, text)
    text = ORDINAL.sub(lambda match: str(_engine().ordinal(_cardinal(match[1]))), text)
    text = SHARE.sub(lambda match: f"{_cardinal(match[1])} percent", text)
    text = BETWEEN.sub(" ", text)
    text = YEAR.sub(lambda match: _year(match[1]), text)
    return ANY.sub(lambda match: _cardinal(match[0]), text)


def _title(match: re.Match[str]) -> str:
    """Main St. is no saint."""
    before = match.string[: match.start()].split()
    is_street = match[1] == "St" and before and before[-1][0].isupper() and before[-1][-1].isalpha()
    return "Street." if is_street else TITLES[match[1].capitalize()]


def _other(match: re.Match[str]) -> str:
    words = OTHERS[match[1].lower()]
    words = words.capitalize() if match[1][0].isupper() else words
    return f"{words}." if match[1].lower() == "etc" and match["ends"] is not None else words


def _cardinal(number: str) -> str:
    number = number.replace(",", "")
    whole, _, fraction = number.partition(".")
    if len(whole) > LONGEST or (len(whole) > 1 and whole[0] == "0"):
        whole_words = _digits(whole)
    else:
        whole_words = str(_engine().number_to_words(int(whole), andword="", comma=""))
    return f"{whole_words} point {_digits(fraction)}" if fraction else whole_words


def _digits(digits: str) -> str:
    return " ".join(DIGITS[int(digit)] for digit in digits)


def _money(match: re.Match[str]) -> str:
    one, many, small = CURRENCIES[match[1]]
    if match[3]:
        return f"{_cardinal(match[2])} {match[3]} {many}"
    whole, _, cents = match[2].partition(".")
    if len(cents) != 2:
        return f"{_cardinal(match[2])} {one if match[2] == '1' else many}"
    rest = _cardinal(str(int(cents))) if int(cents) else ""
    if whole == "0" and rest:
        return f"{rest} {small}"
    return f"{_cardinal(whole)} {one if whole == '1' else many} {rest}".strip()


def _time(match: re.Match[str]) -> str:
    hours, minutes, half = int(match[1]), int(match[2]), match[3]
    time_words = _cardinal(str(hours))
    if minutes:
        time_words += f" {'oh ' if minutes < 10 else ''}{_cardinal(str(minutes))}"
    elif not half:
        time_words += " o'clock" if 0 < hours < 13 else " hundred"
    return f"{time_words} {half.lower()} m" if half else time_words


def _year(year: str) -> str:
    century, rest = int(year[:2]), int(year[2:])
    if rest == 0:
        return f"{_cardinal(str(century))} hundred"
    return f"{_cardinal(str(century))} {'oh ' if rest < 10 else ''}{_cardinal(str(rest))}"
