"""Label Studio's labelling configuration, tasks, results and predictions (labelstud.io/guide/predictions, /guide/export).

A *control* asks, an *object* shows. Boxes are in percent of the sides; ours are in thousandths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from plait.annotate.formats.response import Response, id_of, only
from plait.annotate.kinds import CHOICES, SCALE, Json, Question
from plait.contract import WORDS, Part
from plait.errors import ConfigError, DataError

PERCENT = SCALE / 100
MOST_STARS = 100
LONGEST = 200_000  # characters of a configuration
CONTROLS = {
    "Choices": "label",
    "TextArea": "transcribe",
    "RectangleLabels": "box",
    "Rating": "rate",
    "Pairwise": "choose",
}
OBJECTS = {
    "Image": "image",
    "Audio": "audio",
    "AudioPlus": "audio",
    "Text": WORDS,
    "Paragraphs": WORDS,
    "HyperText": WORDS,
}
TYPES = {
    "label": "choices",
    "transcribe": "textarea",
    "correct": "textarea",
    "box": "rectanglelabels",
    "rate": "rating",
    "choose": "pairwise",
}
SIDES = ("left", "right")
SAID_BY = "said_by"  # in the meta of a task that comes from here: persons in the order of its annotations


@dataclass(frozen=True)
class Control:
    """A tag that asks, about an object that shows what a task holds under `key`."""

    name: str
    shows: str  # the name of the object
    kind: str  # of part
    key: str
    question: Question


def controls(config: str) -> list[Control]:
    """The controls of a configuration that Plait can answer. Raises ConfigError for one that is no XML, or without any."""
    try:
        if len(config) > LONGEST or "<!DOCTYPE" in config or "<!ENTITY" in config:
            raise ConfigError(
                f"got a labelling configuration of {len(config)} characters; expected plain XML of at most {LONGEST}"
            )
        tree = ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise ConfigError(f"got a labelling configuration that is no XML: {error}") from error
    objects = {
        tag.get("name"): (OBJECTS[tag.tag], str(tag.get("value", "")).lstrip("$"))
        for tag in tree.iter()
        if tag.tag in OBJECTS
    }
    usable = []
    for tag in tree.iter():
        shows = str(tag.get("toName", "")).split(",")[0]
        if tag.tag in CONTROLS and shows in objects and tag.get("name"):
            kind, key = objects[shows]
            usable.append(
                Control(str(tag.get("name")), shows, kind, key, _question(tag, str(tree.findtext(".//Header") or "")))
            )
    if not usable:
        raise ConfigError(
            f"got a labelling configuration of {sorted({tag.tag for tag in tree.iter()})}; expected one of {', '.join(CONTROLS)} "
            f"about one of {', '.join(OBJECTS)}"
        )
    return usable


def _question(tag: ElementTree.Element, header: str) -> Question:
    kind = CONTROLS[tag.tag]
    header = next(
        (str(each.get("value")) for each in [tag] if each.get("value") and not str(each.get("value")).startswith("$")),
        header,
    )
    if kind == "rate":
        stars = int(tag.get("maxRating", "5")) if str(tag.get("maxRating", "5")).isdecimal() else 0
        if not 2 <= stars <= MOST_STARS:
            raise ConfigError(f"got maxRating={tag.get('maxRating')!r:.20}; expected 2 to {MOST_STARS}")
        return Question(kind, header, tuple(map(str, range(1, stars + 1))))
    values = tuple(str(each.get("value") or each.get("alias") or "") for each in tag if each.tag in ("Choice", "Label"))
    return Question(kind, header, values if kind in ("label", "box") else ())


def config_of(question: Question, kind: str) -> str:
    """The configuration that asks a question about parts of a kind."""
    shown = {"image": '<Image name="shown" value="$image"/>', "audio": '<Audio name="shown" value="$audio"/>'}.get(
        kind, '<Text name="shown" value="$text"/>'
    )
    options = "".join(
        f"<{'Label' if question.kind == 'box' else 'Choice'} value={quoteattr(option)}/>" for option in question.options
    )
    control = {
        "label": f'<Choices name="asked" toName="shown">{options}</Choices>',
        "box": f'<RectangleLabels name="asked" toName="shown">{options}</RectangleLabels>',
        "rate": f'<Rating name="asked" toName="shown" maxRating="{len(question.options)}"/>',
    }.get(question.kind, '<TextArea name="asked" toName="shown"/>')
    return f"<View><Header value={quoteattr(question.words)}/>{shown}{control}</View>"


def results(value: Json, control: Control) -> list[dict[str, Any]]:
    """An answer as Label Studio has it."""
    kind = control.question.kind
    head = {"from_name": control.name, "to_name": control.shows, "type": TYPES[kind]}
    if kind == "box":
        return [
            head
            | {
                "id": f"box-{number}",
                "value": _percent(box["box"]) | {"rotation": 0, "rectanglelabels": [box["label"]]},
            }
            for number, box in enumerate(value)
        ]
    shapes: dict[str, Any] = {"label": {"choices": [value]}, "rate": {"rating": value}}
    if kind == "choose":
        shapes["choose"] = {"selected": SIDES[CHOICES.index(value)]} if value in CHOICES[:2] else {}
    return [head | {"id": "answer", "value": shapes.get(kind, {"text": [value]})}]


def _percent(box: Sequence[float]) -> dict[str, float]:
    x1, y1, x2, y2 = (corner / PERCENT for corner in box)
    return {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}


def value_of(listed: Sequence[Mapping[str, Any]], kind: str) -> Json:
    """The answer that results say; None where they say none. Raises DataError for a result that is broken."""
    try:
        if kind == "box":
            return [_box(each["value"]) for each in listed if each.get("type") == TYPES["box"]]
        for each in listed:
            if each.get("type") != TYPES[kind]:
                continue
            value = each["value"]
            if kind == "label":
                return only(value["choices"])
            if kind == "rate":
                return value["rating"]
            if kind == "choose":
                return CHOICES[SIDES.index(value["selected"])]
            text = value["text"]
            return "\n".join(text) if isinstance(text, list) else text
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            f"got the results {listed!r:.200}; expected {TYPES[kind]} as Label Studio exports them"
        ) from error
    return None


def _box(value: Mapping[str, Any]) -> dict[str, Any]:
    """A box in thousandths; one that is turned is enclosed."""
    x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
    angle = math.radians(float(value.get("rotation") or 0))
    turned = [
        (x + a * math.cos(angle) - b * math.sin(angle), y + a * math.sin(angle) + b * math.cos(angle))
        for a, b in ((0, 0), (width, 0), (0, height), (width, height))
    ]  # about the corner that x and y are of
    xs, ys = zip(*turned, strict=True)
    corners = [min(xs), min(ys), max(xs), max(ys)]
    return {
        "label": value["rectanglelabels"][0],
        "box": [min(max(round(PERCENT * each), 0), SCALE) for each in corners],
    }


def fits(raw: Any) -> bool:
    """Whether a JSON file is a list of tasks with annotations."""
    return (
        isinstance(raw, list)
        and bool(raw)
        and all(isinstance(task, dict) and "data" in task and "annotations" in task for task in raw)
    )


def responses(tasks: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Response]:
    """What people say in tasks to a kind of question; cancelled annotations pass over their task. Raises DataError."""
    for number, task in enumerate(tasks):
        shown = _shown(task["data"], f"task {task.get('id', number)}")
        name = task.get("id", (task.get("meta") or {}).get("item", number))
        names = (task.get("meta") or {}).get(SAID_BY) or []
        for place, annotation in enumerate(task["annotations"]):
            person = _person(annotation.get("completed_by", names[place] if place < len(names) else "somebody"))
            value = None if annotation.get("was_cancelled") else value_of(annotation.get("result", ()), kind)
            id = id_of("label-studio", name, annotation.get("id"), person, value)
            yield Response(shown, person, value, id, annotation.get("lead_time"))


def _person(who: Any) -> str:
    """The name of a user of Label Studio: an object, a number, or a name of ours."""
    if isinstance(who, dict):
        return str(who.get("email") or who.get("id"))
    return who if isinstance(who, str) else f"user {who}"


def _shown(data: Mapping[str, Any], where: str) -> tuple[Part, ...]:
    """The parts that a task shows: media by what its keys or the endings of its values say. Raises DataError."""
    parts = []
    for key, value in data.items():
        if not isinstance(value, str) or not value:
            continue
        kind = next((name for name in ("image", "audio") if key.lower().startswith(name)), "")
        parts.append(Part(kind or WORDS, value))
    media = [part for part in parts if part.type != WORDS]
    if not parts:
        raise DataError(f"{where}: got {data!r:.100}; expected a task that shows an image, audio or text")
    return tuple(media or parts[:1])
