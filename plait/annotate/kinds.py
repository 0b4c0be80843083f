"""Kinds of questions to people: which answers fit, how far two lie apart, what several come to, what a row of it says.

An answer is JSON: text for `label`, `transcribe` and `correct`; a whole number for `rate`; `first`, `second` or `same` for
`choose`; a list of {label, box: [x1, y1, x2, y2]} for `box`, corners in thousandths of the sides of what is seen.
"""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein

from plait.annotate import consensus
from plait.annotate.agreement import Distance, Rating
from plait.annotate.consensus import Consensus
from plait.errors import ConfigError
from plait.modalities import Places

SCALE = 1000  # of a side
LONGEST = 20_000  # characters of an answer
MOST_BOXES = 500
CHOICES = ("first", "second", "same")
NO_BOXES = "none"  # the answer of a row in whose picture there is nothing (plait.tasks.boxes)
SAME_BOX = 0.5  # intersection over union from which two boxes are of one thing
MAJORITY = "majority"
LEAST_CROWD = 3  # persons from which Dawid and Skene's model has something to tell apart

Json = Any


@dataclass(frozen=True)
class Question:
    """What people are asked about every item: its kind, the words, and what may be answered, where that is a list.

    `options`: labels of `label` and `box`; `rate` has the numbers from 1 to the length of its options, which say what each
    means. Raises ConfigError.
    """

    kind: str
    words: str
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kind = known(self.kind)
        options = tuple(tidy(option) for option in self.options)
        if kind.least_options and len(options) < kind.least_options:
            raise ConfigError(
                f"--ask {self.kind} got {len(options)} options; expected at least {kind.least_options}: --options 'cat,dog,bird'"
            )
        if not kind.least_options and options:
            raise ConfigError(f"--ask {self.kind} got options; expected none: its answers are free or fixed")
        if len(set(options)) < len(options) or "" in options:
            raise ConfigError(f"got the options {list(options)}; expected texts that differ and are not empty")
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "words", tidy(self.words) or kind.words)

    def checked(self, value: Json) -> Json:
        """An answer in its one form. Raises ConfigError for one that does not fit."""
        return known(self.kind).check(value, self)

    def as_json(self) -> dict[str, Any]:
        """The question as the store and the pages have it."""
        return {"kind": self.kind, "words": self.words, "options": list(self.options)}


def _as_it_is(value: Json, question: Question, places: Places | None) -> Json:
    return value


@dataclass(frozen=True)
class Kind:
    """One kind of question."""

    words: str  # that are asked where no others are given
    check: Callable[[Json, Question], Json]
    distance: str | Distance  # between two answers, for Krippendorff's alpha
    settle: Callable[[Mapping[str, Mapping[str, Json]]], dict[str, Consensus]]  # answers by item and person
    method: str  # how `settle` does it, without a crowd
    parse: Callable[[str, Question, Places | None], Json] = _as_it_is  # what a row's words say; `places`: of its medium
    write: Callable[[Json, Question, Places | None], str] = _as_it_is  # the words of a row
    least_options: int = 0
    is_categorical: bool = False  # answers are one of a few texts
    shows_answer: bool = False  # people see the answer that a row has
    needs_answer: bool = False  # and it must have one
    needs_two: bool = False  # and about two of them
    judges: bool = False  # says something of an answer that stays as it is
    needs_media: bool = False  # asked about places in a medium


def known(name: str) -> Kind:
    """The kind of a name. Raises ConfigError."""
    if name not in KINDS:
        raise ConfigError(f"--ask {name}: expected one of {', '.join(KINDS)}")
    return KINDS[name]


def tidy(text: str) -> str:
    """A text as it is kept: one spelling of each letter (NFC), no blanks around it."""
    return unicodedata.normalize("NFC", text).strip()


def _text(value: Json, question: Question) -> str:
    if not isinstance(value, str) or not tidy(value):
        raise ConfigError(f"got {value!r:.60} as the answer; expected a text that is not empty")
    if len(value) > LONGEST:
        raise ConfigError(f"got {len(value)} characters as the answer; expected at most {LONGEST}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError("got half of a surrogate pair in the answer; expected whole Unicode characters") from error
    return tidy(value)


def _option(value: Json, question: Question) -> str:
    text = _text(value, question)
    if text not in question.options:
        raise ConfigError(f"got {text!r:.60} as the answer; expected one of {', '.join(question.options)}")
    return text


def _rating(value: Json, question: Question) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= len(question.options):
        raise ConfigError(f"got {value!r:.60} as the answer; expected a whole number from 1 to {len(question.options)}")
    return value


def _choice(value: Json, question: Question) -> str:
    if value not in CHOICES:
        raise ConfigError(f"got {value!r:.60} as the answer; expected one of {', '.join(CHOICES)}")
    return str(value)


def _boxes(value: Json, question: Question) -> list[dict[str, Any]]:
    """Boxes from the top left; an empty list says that there is nothing. Raises ConfigError."""
    if not isinstance(value, list) or len(value) > MOST_BOXES:
        raise ConfigError(f"got {value!r:.60} as the answer; expected a list of at most {MOST_BOXES} boxes")
    boxes = [_box(each, question) for each in value]
    return sorted(boxes, key=lambda each: (each["box"][1], each["box"][0], each["label"], each["box"]))


def _box(value: Json, question: Question) -> dict[str, Any]:
    corners = value.get("box") if isinstance(value, dict) else None
    if not isinstance(corners, list) or len(corners) != 4 or not all(_is_number(each) for each in corners):
        raise ConfigError(f"got the box {value!r:.80}; expected {{'label': ..., 'box': [x1, y1, x2, y2]}}")
    x1, y1, x2, y2 = (min(max(round(each), 0), SCALE) for each in corners)
    if x1 >= x2 or y1 >= y2:
        raise ConfigError(f"got the corners {corners} of a box; expected x1 < x2 and y1 < y2, from 0 to {SCALE}")
    return {"label": _option(value.get("label"), question), "box": [x1, y1, x2, y2]}


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes [x1, y1, x2, y2]."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _matches(first: Sequence[Json], second: Sequence[Json]) -> list[tuple[float, int, int]]:
    """Pairs (overlap, index, index) of boxes of one label, the best first, each box in one pair at most."""
    pairs = sorted(
        (
            (overlap(a["box"], b["box"]), i, j)
            for i, a in enumerate(first)
            for j, b in enumerate(second)
            if a["label"] == b["label"]
        ),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    taken: tuple[set[int], set[int]] = (set(), set())
    best = []
    for shared, i, j in pairs:
        if shared > 0 and i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            best.append((shared, i, j))
    return best


def _box_distance(first: Sequence[Json], second: Sequence[Json]) -> float:
    """1 less the overlap of matched boxes over the larger number of boxes."""
    most = max(len(first), len(second))
    return 1 - sum(shared for shared, *_ in _matches(first, second)) / most if most else 0.0


def _text_distance(first: str, second: str) -> float:
    return Levenshtein.normalized_distance(first, second)


def ratings(answers: Mapping[str, Mapping[str, Json]]) -> list[Rating]:
    """(item, person, answer) of answers by item and person."""
    return [(item, person, value) for item, by_person in answers.items() for person, value in by_person.items()]


def _by_crowd(answers: Mapping[str, Mapping[str, Json]]) -> dict[str, Consensus]:
    """By Dawid and Skene's model where there is a crowd, by the most votes otherwise."""
    votes = ratings(answers)
    if not votes:
        return {}
    persons = {person for _, person, _ in votes}
    return consensus.dawid_skene(votes)[0] if len(persons) >= LEAST_CROWD else consensus.majority(votes)


def _by_median(answers: Mapping[str, Mapping[str, Json]]) -> dict[str, Consensus]:
    """The lower median, which somebody by_person; the confidence is the share of those who by_person it."""
    settled = {}
    for item, by_person in answers.items():
        middle = statistics.median_low(by_person.values())
        shares = {
            value: list(by_person.values()).count(value) / len(by_person) for value in sorted(set(by_person.values()))
        }
        settled[item] = Consensus(middle, shares[middle], shares)
    return settled


def _by_nearest(answers: Mapping[str, Mapping[str, Json]]) -> dict[str, Consensus]:
    """The text that lies nearest to all others (the medoid); the confidence is 1 less its mean distance to them."""
    settled = {}
    for item, by_person in answers.items():
        texts = [by_person[person] for person in sorted(by_person)]
        far = {text: sum(_text_distance(text, other) for other in texts) for text in dict.fromkeys(texts)}
        best = min(far, key=lambda text: far[text])
        confidence = 1 - far[best] / max(len(texts) - 1, 1)
        settled[item] = Consensus(best, confidence, {best: confidence})
    return settled


def _by_boxes(answers: Mapping[str, Mapping[str, Json]]) -> dict[str, Consensus]:
    """Boxes that at least half of the persons drew, corners averaged; the confidence is 1 less the mean distance to it."""
    settled = {}
    for item, by_person in answers.items():
        groups: list[list[Json]] = []
        for person in sorted(by_person):
            means = [_mean(group) for group in groups]
            matched = {j: i for shared, i, j in _matches(means, by_person[person]) if shared >= SAME_BOX}
            for j, box in enumerate(by_person[person]):
                if j in matched:
                    groups[matched[j]].append(box)
                else:
                    groups.append([box])
        boxes = [_mean(group) for group in groups if 2 * len(group) >= len(by_person)]
        boxes.sort(key=lambda each: (each["box"][1], each["box"][0]))
        far = [_box_distance(boxes, each) for each in by_person.values()]
        settled[item] = Consensus(boxes, 1 - sum(far) / len(far), {})
    return settled


def _mean(group: Sequence[Json]) -> Json:
    corners = zip(*(box["box"] for box in group), strict=True)
    return {"label": group[0]["label"], "box": [round(sum(each) / len(group)) for each in corners]}


def _read_rating(text: str, question: Question, places: Places | None) -> Json:
    return int(text) if text.strip().isdecimal() else text


def _write_rating(value: Json, question: Question, places: Places | None) -> str:
    return str(value)


def _read_boxes(text: str, question: Question, places: Places | None) -> Json:
    if places is None or text == NO_BOXES:
        return []
    only = question.options[0] if len(question.options) == 1 else ""
    boxes = places.boxes_in_text(text, (SCALE, SCALE))
    return [{"label": box["label"] or only, "box": box["box"]} for box in boxes]


def _write_boxes(value: Json, question: Question, places: Places | None) -> str:
    if places is None or not value:
        return NO_BOXES
    return places.boxes_as_text(value, (SCALE, SCALE))


KINDS = {
    "label": Kind("What is this?", _option, "nominal", _by_crowd, MAJORITY, least_options=2, is_categorical=True),
    "transcribe": Kind("What is said?", _text, _text_distance, _by_nearest, "nearest"),
    "box": Kind(
        "Where is everything?",
        _boxes,
        _box_distance,
        _by_boxes,
        "mean of boxes",
        _read_boxes,
        _write_boxes,
        least_options=1,
        needs_media=True,
    ),
    "rate": Kind(
        "How good is this answer?",
        _rating,
        "interval",
        _by_median,
        "median",
        _read_rating,
        _write_rating,
        least_options=2,
        shows_answer=True,
        needs_answer=True,
        judges=True,
    ),
    "choose": Kind(
        "Which answer is better?",
        _choice,
        "nominal",
        _by_crowd,
        MAJORITY,
        is_categorical=True,
        shows_answer=True,
        needs_answer=True,
        needs_two=True,
    ),
    "correct": Kind("What should the answer be?", _text, _text_distance, _by_nearest, "nearest", shows_answer=True),
}
