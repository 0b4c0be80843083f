"""Tasks about pictures: naming, drawing, editing, finding, counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from plait.contract import Part
from plait.data.sources import Asset
from plait.modalities.image.boxes import boxes_as_text
from plait.tasks.composing import part_of
from plait.tasks.dictionary.group import LANGUAGES, NOTICE, Group, GroupTask, say, short
from plait.tasks.task import Item, Slots

STYLES = {
    "fluent-flat": "flat", "fluent-color": "glossy", "fluent-3d": "3D", "noto": "Noto", "twemoji": "Twemoji",
    "openmoji": "outline", "stamp": "stamp", "openclipart": "clip art", "fxemoji": "Firefox", "emojione": "EmojiOne",
    "emojione-monotone": "black", "fluent-emoji-high-contrast": "high contrast", "streamline-emojis": "line",
}  # fmt: skip
TONES = ("no", "light", "medium-light", "medium", "medium-dark", "dark")
NAMES_A_DRAWING = 2  # languages beside English that a drawing is named in: more looks teach more than more words
PAIRS_A_CODE = 8
TONED = 0.05
MOST_BOXES = 8  # that one answer lists,
MOST_CELLS = 12  # and that it lists of cells, of which a photograph shows more
CELLS = ("red blood cell", "white blood cell", "platelet")


def _drawings(group: Group, toned: float = 1.0) -> list[Asset]:
    """Drawings in the named styles. `toned` is the share kept of those with a skin tone, five of six drawings of people."""
    drawings = (asset for asset in group.of("drawing") if asset.facts.get("style") in STYLES)
    return [asset for asset in drawings if toned == 1.0 or not _toned(asset) or group.rng.random() < toned]


def _toned(asset: Asset) -> bool:
    """Whether a drawing shows one skin tone (1 to 5) or several (None)."""
    return bool(asset.facts.get("tone", 0) != 0)


def _names(group: Group, asset: Asset) -> list[tuple[str, str]]:
    """(language, name) pairs of a drawing: English, and some others."""
    names = [(code, text) for code, text in asset.texts.items() if code in LANGUAGES and short(text)]
    return [pair for pair in names if pair[0] == "en"] + group.some(
        [pair for pair in names if pair[0] != "en"], NAMES_A_DRAWING
    )


def name(group: Group) -> Iterator[Item]:
    """Drawing -> its name in a language."""
    for asset in _drawings(group, TONED):
        if asset.facts["style"] == "stamp":
            continue
        for code, text in _names(group, asset):
            part, expect = say(text)
            slots: Slots = {"picture": asset.part("picture"), "language": LANGUAGES[code]}
            yield Item(slots, part, expect, {"language": code, "style": asset.facts["style"]})


def caption(group: Group) -> Iterator[Item]:
    """Stamp -> a phrase that describes it."""
    for asset in _drawings(group):
        if asset.facts["style"] != "stamp":
            continue
        for code, text in _names(group, asset):
            part, expect = say(text)
            yield Item(
                {"picture": asset.part("picture"), "language": LANGUAGES[code]}, part, expect, {"language": code}
            )


def draw(group: Group) -> Iterator[Item]:
    """Name and style -> drawing."""
    for asset in _drawings(group, TONED):
        for code, text in _names(group, asset):
            slots: Slots = {"name": text, "style": STYLES[asset.facts["style"]]}
            facts = {"language": code, "style": asset.facts["style"], "concept": group.key}
            yield Item(slots, asset.part("picture"), {}, facts)


def category(group: Group) -> Iterator[Item]:
    """Drawing -> the kind of thing that it shows."""
    for asset in _drawings(group, TONED):
        kind = asset.facts.get("category")
        if kind and asset.source == "emoji":
            shown = {"category": str(kind)}
            yield Item(
                {"picture": asset.part("picture")}, Part("text", str(kind)), shown, {"style": asset.facts["style"]}
            )


def clothes(group: Group) -> Iterator[Item]:
    """Photograph -> garment."""
    for asset in group.of("photo"):
        if asset.source == "clothes":
            garment = str(asset.facts["category"])
            yield Item({"picture": asset.part("picture")}, Part("text", garment), {"garment": garment})


def restyle(group: Group) -> Iterator[Item]:
    """Drawing and style -> the same thing in that style."""
    by_code: dict[str, list[Asset]] = {}
    for asset in _drawings(group):
        if "code" in asset.facts:
            by_code.setdefault(asset.facts["code"], []).append(asset)
    for code, assets in by_code.items():
        pairs = [(a, b) for a in assets for b in assets if a.facts["style"] != b.facts["style"]]
        for source, target in group.some(pairs, PAIRS_A_CODE):
            slots: Slots = {"picture": source.part("picture"), "style": STYLES[target.facts["style"]]}
            yield Item(slots, target.part("picture"), {}, {"style": target.facts["style"], "code": code})


def tone(group: Group) -> Iterator[Item]:
    """Drawing and skin tone -> the same drawing with that tone."""
    by_drawing: dict[tuple[str, str, str], list[Asset]] = {}
    for asset in _drawings(group):
        if "tone" in asset.facts:
            key = (asset.facts["style"], asset.facts["base"], str(asset.facts.get("gender", "")))
            by_drawing.setdefault(key, []).append(asset)
    for assets in by_drawing.values():
        pairs = [(a, b) for a in assets for b in assets if a.facts["tone"] != b.facts["tone"] and b.facts["tone"]]
        for source, target in group.some(pairs, PAIRS_A_CODE):
            slots: Slots = {"picture": source.part("picture"), "tone": TONES[target.facts["tone"]]}
            yield Item(slots, target.part("picture"), {}, {"style": target.facts["style"]})


def _boxed(group: Group) -> Iterator[Asset]:
    """Pictures with complete boxes. Every blood smear shows red cells, so one without any marked is left out."""
    for asset in group.of("boxes"):
        if asset.source != "bccd" or any(box["label"] == CELLS[0] for box in asset.facts["boxes"]):
            yield asset


def detect(group: Group) -> Iterator[Item]:
    """Picture and label -> boxes of all things with that label, as text."""
    for asset in _boxed(group):
        boxes = asset.facts["boxes"]
        labels = list(dict.fromkeys(box["label"] for box in boxes))
        for label in group.some(labels, 3):
            wanted = [box for box in boxes if box["label"] == label]
            if len(wanted) > MOST_BOXES:
                continue
            text = boxes_as_text([box | {"label": ""} for box in wanted], asset.facts["size"])
            facts = {"source": asset.source, "label": label, "boxes": wanted, "size": asset.facts["size"]}
            yield Item({"picture": asset.part("picture"), "label": label}, Part("text", text), {}, facts)


def count(group: Group) -> Iterator[Item]:
    """Picture and label -> number of things with that label."""
    for asset in _boxed(group):
        counts = Counter(box["label"] for box in asset.facts["boxes"])
        for label, number in counts.items():
            if asset.source != "maps":
                part, expect = say(str(number))
                yield Item({"picture": asset.part("picture"), "label": label}, part, expect, {"source": asset.source})


def blood(group: Group) -> Iterator[Item]:
    """Blood smear and kind of cell -> number, a box around each cell as evidence, and the notice.

    A count of 0 is taught for platelets alone: smears without a marked white cell had one overlooked.
    """
    for asset in _boxed(group):
        if asset.source != "bccd":
            continue
        for label in CELLS:
            wanted = [box for box in asset.facts["boxes"] if box["label"] == label]
            if len(wanted) > MOST_CELLS or not (wanted or label == CELLS[-1]):
                continue
            evidence = boxes_as_text([box | {"label": ""} for box in wanted], asset.facts["size"])
            answer = f"{len(wanted)}{': ' if wanted else ''}{evidence}. {NOTICE}"
            facts = {"label": label, "number": len(wanted), "boxes": wanted, "size": asset.facts["size"]}
            yield Item({"picture": asset.part("picture"), "label": label}, Part("text", answer), {}, facts)


def _part(box: list[float], size: list[int]) -> str:
    """The ninth of a picture that a box's centre lies in, in words."""
    across, down = (
        min(2, int(3 * (box[axis] + box[axis + 2]) / 2 / size[axis])) for axis in (0, 1)
    )  # 0, 1, 2 from the left and from the top
    return part_of(3 * down + across)


def where(group: Group) -> Iterator[Item]:
    """Composite and label that occurs once -> the ninth of the picture that it lies in."""
    for asset in group.of("boxes"):
        counts = Counter(box["label"] for box in asset.facts["boxes"])
        for box in asset.facts["boxes"]:
            if counts[box["label"]] == 1 and asset.source == "composites":
                part, expect = say(_part(box["box"], asset.facts["size"]))
                yield Item({"picture": asset.part("picture"), "label": box["label"]}, part, expect)


def colour(group: Group) -> Iterator[Item]:
    """Drawing -> its main colour."""
    for asset in _drawings(group, TONED):
        if asset.facts.get("colour"):
            hue = asset.facts["colour"]
            yield Item(
                {"picture": asset.part("picture")}, Part("text", hue), {"colour": hue}, {"style": asset.facts["style"]}
            )


TASKS = (
    GroupTask(
        "name", "image->text",
        (
            "{picture} What is this, in {language}?", "{picture} Name this in {language}.",
            "{picture} {language}, please: what do you see?", "{picture} What is the {language} name of this?",
            "{picture} Name it. {language}!", "{picture} In {language}: what do you see here?",
            "{picture} Which thing is this? Say it in {language}.",
            "{picture} Tell me what this is called, in {language}.",
            "{picture} How is this called in {language}?",
        ),
        name, extra_splits=("style",), scores=("chrf", "picked"),
    ),
    GroupTask(
        "caption", "image->text",
        (
            "{picture} Describe this in {language}.", "{picture} A caption in {language}, please.",
            "{picture} What does this stamp show? Answer in {language}.",
            "{picture} What can be seen here, in {language}?", "{picture} Say in {language} what is in this picture.",
            "{picture} Write a line in {language} about this stamp.",
            "{picture} Describe the picture in {language}, please.",
            "{picture} Tell me in {language} what is in the picture.",
        ),
        caption, scores=("chrf", "picked"),
    ),
    GroupTask(
        "draw", "text->image",
        (
            "Draw {name} ({style}).", "{name} as a {style} drawing", "A {style} picture of: {name}",
            "Paint {name} in {style} style.", "Please draw {name} as {style}.", "{name}, {style}",
            "I would like a picture of {name} ({style} style).", "Show me {name}. Style: {style}.",
            "Please paint {name}, {style} style.",
        ),
        draw, extra_splits=("known",), scores=("retrieval", "kernel distance", "copies"),
    ),
    GroupTask(
        "category", "image->text",
        (
            "{picture} What kind of thing is this?", "{picture} Which category?", "{picture} Sort this.",
            "{picture} What group is this in?", "{picture} Which kind of thing do you see?",
            "{picture} Name the category of this.", "{picture} What does this belong to: which kind?",
            "{picture} Where would you file this?",
            "{picture} To which group does this belong?",
        ),
        category, extra_splits=("style",), scores=("likelihood",),
    ),
    GroupTask(
        "clothes", "image->text",
        (
            "{picture} Which garment is this?", "{picture} What would you wear here?",
            "{picture} Name the piece of clothing.", "{picture} What garment do you see?",
            "{picture} What is this called in a shop for clothes?", "{picture} Which piece of clothing is it?",
            "{picture} What kind of clothes are these?",
            "{picture} What is this piece of clothing called?",
        ),
        clothes, scores=("likelihood",),
    ),
    GroupTask(
        "restyle", "image->image",
        (
            "{picture} Redraw this in {style} style.", "{picture} The same, {style}.", "{picture} Make it {style}.",
            "{picture} {style} style, please.", "{picture} Can you draw this as {style}?",
            "{picture} Turn it into {style}.", "{picture} Show me how it would look in {style} style.",
            "{picture} How would this look as {style}?",
        ),
        restyle, scores=("pixels", "retrieval", "copies"),
    ),
    GroupTask(
        "tone", "image->image",
        (
            "{picture} Give it {tone} skin.", "{picture} The same with {tone} skin tone.",
            "{picture} Skin tone: {tone}.", "{picture} Make the skin {tone}.",
            "{picture} Draw it again with {tone} skin.", "{picture} Please change the tone of the skin to {tone}.",
            "{picture} {tone} skin.",
            "{picture} Change the skin to {tone}.",
        ),
        tone, scores=("pixels",),
    ),
    GroupTask(
        "detect", "image->text",
        (
            "{picture} Find every {label}.", "{picture} Where is each {label}?", "{picture} Boxes around: {label}",
            "{picture} Mark each {label}.", "{picture} Show all of: {label}",
            "{picture} Give the boxes of every {label}.", "{picture} Please find these: {label}.",
            "{picture} Mark all of these: {label}.",
        ),
        detect, scores=("boxes",),
    ),
    GroupTask(
        "count", "image->text",
        (
            "{picture} How many: {label}?", "{picture} Count: {label}", "{picture} Number of {label}?",
            "{picture} How many of {label} are there?", "{picture} Tell me the number of: {label}.",
            "{picture} {label}: how many?", "{picture} Please count these: {label}.",
            "{picture} Tell me how many of these there are: {label}.",
        ),
        count, scores=("likelihood",),
    ),
    GroupTask(
        "blood", "image->text",
        (
            "{picture} How many of these cells, and where: {label}?", "{picture} Blood. Count and show each {label}.",
            "{picture} Count in this smear: {label}. Show them.", "{picture} Cells of this kind, with boxes: {label}",
            "{picture} A smear of blood. Which cells are a {label}?", "{picture} Please count and mark each {label}.",
            "{picture} Find and count under the microscope: {label}.",
            "{picture} Number and places of each {label} in this blood?",
        ),
        blood, scores=("boxes", "number"),
    ),
    GroupTask(
        "where", "image->text",
        (
            "{picture} In which corner, side or middle is: {label}?", "{picture} Where is: {label}?",
            "{picture} Place of {label}?", "{picture} In which part is: {label}?", "{picture} {label}: in which part?",
            "{picture} Tell me the place of: {label}.", "{picture} Which part of the picture has: {label}?",
            "{picture} In which part of the picture is: {label}?",
        ),
        where, scores=("likelihood",),
    ),
    GroupTask(
        "colour", "image->text",
        (
            "{picture} Which colour is it mostly?", "{picture} Main colour?", "{picture} What colour is this?",
            "{picture} Name the main colour.", "{picture} Which colour has most of this?",
            "{picture} Of what colour is it, mostly?", "{picture} Tell me the colour.",
            "{picture} Name the colour that most of it has.",
        ),
        colour, scores=("likelihood",),
    ),
)  # fmt: skip
