"""Tasks of the recipe `smol`: English, asked in many ways, answered as a helpful model would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from plait.contract import Message, Part, Sample
from plait.data.sources import Asset
from plait.tasks.dictionary.group import LANGUAGES, Group, GroupTask, say, short
from plait.tasks.dictionary.pictures import (
    STYLES,
    TONED,
    _drawings,
    category,
    colour,
    draw,
    name,
    restyle,
)  # fmt: skip
from plait.tasks.dictionary.pictures import (
    TASKS as PICTURES,
)
from plait.tasks.dictionary.speech import (
    TASKS as SPEECH,
)
from plait.tasks.task import Item, Slots

VOICE = "joe"  # that it learns to speak in
SPOKEN = "spoken"  # the source of synthesised clips
OF_SPOKEN = 0.04  # of synthesised clips, whose speaker or language is asked
PAIRS = 3  # of recordings and drawings of one thing


def _spoken(group: Group, kind: str = "") -> list[Asset]:
    """Recordings with known English words; of a `kind` (sentence, name) if one is given."""
    return [
        asset for asset in group.of("speech")
        if asset.facts["language"] == "en" and short(asset.texts.get("en", ""))
        if not kind or asset.facts.get("words") == kind
    ]  # fmt: skip


def transcribe(group: Group) -> Iterator[Item]:
    """Speech -> its words."""
    for asset in _spoken(group):
        part, expect = say(asset.texts["en"])
        yield Item({"speech": asset.part("speech")}, part, expect, {"source": asset.source})


def answer_aloud(group: Group) -> Iterator[Item]:
    """A spoken question -> what the language model answers when it reads the question."""
    for asset in _spoken(group, "question"):
        part, expect = say(asset.facts["answer"])
        yield Item({"speech": asset.part("speech")}, part, expect, {"question": asset.texts["en"]})


def speak(group: Group) -> Iterator[Item]:
    """Text -> speech, in the voice that was learned."""
    for asset in _spoken(group):
        if asset.facts["speaker"] != VOICE:
            continue
        facts = {"language": "en", "speaker": asset.facts["speaker"], "text": asset.texts["en"]}
        yield Item({"text": asset.texts["en"]}, asset.part("speech"), {}, facts)


def repeat(group: Group) -> Iterator[Item]:
    """Speech -> the same words, spoken."""
    spoken = [asset for asset in _spoken(group, "sentence") if asset.facts["speaker"] == VOICE]
    for asset in group.some(spoken, 1):
        if group.fraction("repeat") < 0.25 or not group.seen:
            facts = {"language": "en", "speaker": asset.facts["speaker"], "text": asset.texts["en"]}
            yield Item({"speech": asset.part("speech")}, asset.part("speech"), {}, facts)


def _voices(group: Group, task_name: str) -> Iterator[Asset]:
    """Recordings of people; of synthesisers, which speak most, a few."""
    for asset in group.of("speech"):
        if asset.source != SPOKEN or group.fraction(task_name) < OF_SPOKEN:
            yield asset


def speaker(group: Group) -> Iterator[Item]:
    """Speech -> the speaker's name."""
    for asset in _voices(group, "speaker"):
        if who := asset.facts.get("speaker"):
            yield Item({"speech": asset.part("speech")}, Part("text", who), {"speaker": who}, {"source": asset.source})


def spoken_language(group: Group) -> Iterator[Item]:
    """Speech -> its language."""
    for asset in _voices(group, "spoken-language"):
        if language := LANGUAGES.get(asset.facts["language"]):
            part, expect = say(language)
            yield Item({"speech": asset.part("speech")}, part, expect, {"source": asset.source})


def _drawn_and_spoken(group: Group) -> Iterator[tuple[Asset, Asset]]:
    """Drawings, each with a recording of its name."""
    by_name = {asset.texts["en"]: asset for asset in _spoken(group, "name")}
    for drawing in _drawings(group, TONED):
        heard = by_name.get(drawing.texts.get("en", ""))
        if heard is not None:
            yield drawing, heard


def say_picture(group: Group) -> Iterator[Item]:
    """Drawing -> its name, spoken."""
    for drawing, heard in group.some(list(_drawn_and_spoken(group)), PAIRS):
        facts = {"language": "en", "speaker": heard.facts["speaker"], "text": heard.texts["en"]}
        yield Item({"picture": drawing.part("picture")}, heard.part("speech"), {}, facts)


def draw_heard(group: Group) -> Iterator[Item]:
    """A spoken name -> a drawing of it."""
    for drawing, heard in group.some(list(_drawn_and_spoken(group)), PAIRS):
        style = drawing.facts["style"]
        slots: Slots = {"speech": heard.part("speech"), "style": STYLES[style]}
        yield Item(slots, drawing.part("picture"), {}, {"concept": group.key, "style": style})


def describe(group: Group) -> Iterator[Item]:
    """Drawing -> a sentence about it: what it shows, its colour, its kind, as far as they are known."""
    for asset in _drawings(group, TONED):
        if asset.facts["style"] == "stamp" or not short(asset.texts.get("en", "")):
            continue
        title, hue, kind = asset.texts["en"], asset.facts.get("colour"), asset.facts.get("category")
        sentence = f"The picture shows {title}"
        sentence += f", drawn mostly in {hue}" if hue else ""
        sentence += f". It belongs to {kind}." if kind and asset.source == "emoji" else "."
        yield Item({"picture": asset.part("picture")}, Part("text", sentence), {"exact": sentence}, {"name": title})


class Talk(GroupTask):
    """A conversation about a drawing: its name first, then questions in turn that refer back to it."""

    FOLLOW = (
        ("And what colour is it?", "What is its main colour?", "Which colour is it mostly?", "What colour?"),
        ("What kind of thing is that?", "What does it belong to?", "Which category is it in?", "What sort of thing?"),
    )

    def sample(self, phrasing: str, item: Item) -> Sample:
        """The first question and answer, then those of `facts["turns"]`."""
        row = super().sample(phrasing, item)
        messages = list(row.messages)
        for question, answer in item.facts["turns"]:
            messages += [Message("user", (Part("text", question),)), Message("assistant", (Part("text", answer),))]
        return replace(row, messages=tuple(messages), meta={k: v for k, v in row.meta.items() if k != "turns"})


def talk(group: Group) -> Iterator[Item]:
    """Drawing -> its name; then its colour, its kind."""
    for asset in _drawings(group, TONED):
        title = asset.texts.get("en", "")
        if asset.source != "emoji" or not short(title):
            continue
        known = [asset.facts.get("colour"), asset.facts.get("category")]
        turns = [
            (ways[int(group.rng.integers(len(ways)))], str(answer))
            for ways, answer in zip(Talk.FOLLOW, known, strict=True)
            if answer
        ]
        if turns:
            order = group.rng.permutation(len(turns))
            part, _ = say(title)
            yield Item({"picture": asset.part("picture")}, part, {}, {"turns": [turns[i] for i in order]})


_OF_PICTURES = {task.name: task for task in PICTURES}
_OF_SPEECH = {task.name: task for task in SPEECH}
_ENGLISH = {
    "name": (
        "{picture} What is this?", "{picture} Name this.", "{picture} What do you see?", "{picture} What is the name of this?",
        "{picture} Name it, please.", "{picture} Which thing is this?", "{picture} Tell me what this is called.",
        "{picture} What is in the picture?", "What is this? {picture}", "{picture} What can you see here?",
        "What do you see in this picture? {picture}", "{picture} Give me its name.",
        "{picture} How is this called?",
    ),
    "draw": (
        "Draw {name} ({style}).", "{name} as a {style} drawing", "A {style} picture of: {name}",
        "Paint {name} in {style} style.", "Please draw {name} as {style}.", "{name}, {style}",
        "I would like a picture of {name} ({style} style).", "Show me {name}. Style: {style}.",
        "Can you draw {name}? Make it {style}.", "Make a {style} picture that shows {name}.",
        "Please paint {name}, {style} style.",
    ),
}  # fmt: skip
_REWORDED = {
    "colour": (
        "Look at this: {picture} If you had to buy one pot of paint for it, which colour would you take?",
        "{picture} My friend cannot see it. What colour should I tell her it is?", "{picture} So which colour dominates here?",
        "{picture} Colour of this thing?", "Which colour strikes you first? {picture}", "{picture} Is it red, or what else?",
        "{picture} I need the predominant colour, in one word.", "What hue is that? {picture}",
        "{picture} Please help: which colour did the artist use the most?", "{picture} It is mainly coloured how?",
    ),
    "category": (
        "{picture} In which drawer would you file that?", "{picture} Under which heading does this come?",
        "I am tidying my stickers. Which group does this go in? {picture}", "{picture} What sort of picture do we have here?",
        "{picture} Classify it for me.", "Is this an animal, food, or what? {picture}", "{picture} Give me the class of it.",
        "{picture} Which of the emoji groups would list this?", "What family of things is that from? {picture}",
        "{picture} One word for the kind of thing shown, please.",
    ),
}  # fmt: skip
_MORE_SCORES = {"name": ("listed",), "draw": ("depicted",)}
_MAKE = {"name": name, "draw": draw, "category": category, "colour": colour, "restyle": restyle}


def _of_pictures(task_name: str) -> GroupTask:
    task = _OF_PICTURES[task_name]
    scores = (*task.scores, *_MORE_SCORES.get(task_name, ()))
    phrasings, reworded = _ENGLISH.get(task_name, task.phrasings), _REWORDED.get(task_name, ())
    return replace(task, phrasings=phrasings, reworded=reworded, scores=scores)


TASKS = (
    GroupTask(
        "transcribe", "audio->text",
        (
            "{speech} Write down what is said.", "{speech} Transcribe this.", "{speech} What are the words?",
            "{speech} Write this down, please.", "{speech} What do you hear? Type it.", "Transcribe: {speech}",
            "{speech} Tell me the words that are said.", "{speech} Please write the words.", "What is said here? {speech}",
            "{speech} Please type what you hear.",
        ),
        transcribe, scores=("word errors", "character errors"),
    ),
    replace(_OF_SPEECH["speaker"], make=speaker),
    replace(_OF_SPEECH["spoken-language"], make=spoken_language, extra_splits=()),
    GroupTask("listen", "audio->text", ("{speech}", "{speech}"), answer_aloud, scores=("chrf",)),
    GroupTask(
        "say", "text->audio",
        (
            "Say: {text}", "Read aloud: {text}", "Please say this: {text}", "Speak: {text}", "Say aloud: {text}",
            "Say this for me: {text}", "Read this out: {text}", "Can you say this? {text}", "Pronounce this: {text}",
            "Let me hear this: {text}",
        ),
        speak, scores=("recognised otherwise", "recognised", "voice"),
    ),
    GroupTask(
        "repeat", "audio->audio",
        (
            "{speech} Repeat that.", "{speech} Say it again.", "{speech} Say that in your voice.", "Repeat: {speech}",
            "{speech} Say the same.", "{speech} Please repeat what was said.",
            "{speech} Could you say that again?",
        ),
        repeat, scores=("recognised otherwise", "recognised", "voice"),
    ),
    *(_of_pictures(task_name) for task_name in ("name", "category", "colour", "count", "where", "detect", "clothes")),
    Talk(
        "talk", "image->text",
        ("{picture} What is this?", "{picture} What do you see?", "{picture} Name this.", "{picture} Tell me what this is."),
        talk,
    ),
    GroupTask(
        "describe", "image->text",
        (
            "{picture} Describe this picture.", "{picture} Describe what you see.", "{picture} Tell me about this picture.",
            "{picture} What does this picture show?", "Describe: {picture}", "{picture} Write a sentence about this.",
            "{picture} Put into a sentence what you see.",
        ),
        describe, scores=("chrf",),
    ),
    _of_pictures("draw"),
    _of_pictures("restyle"),
    GroupTask(
        "say-picture", "image->audio",
        (
            "{picture} Say aloud what this is.", "{picture} Tell me aloud what you see.", "{picture} Speak: what is this?",
            "{picture} Say its name.", "{picture} What is this? Say it aloud.", "{picture} Aloud, please: name this.",
            "{picture} Speak its name.",
        ),
        say_picture, scores=("recognised otherwise", "recognised", "voice"),
    ),
    GroupTask(
        "draw-heard", "audio->image",
        (
            "{speech} Draw that ({style}).", "{speech} A {style} picture of this, please.", "{speech} Paint what is said, {style}.",
            "{speech} Show me this as {style}.", "{speech} Please draw what you hear. Style: {style}.",
            "{speech} Make a {style} drawing of that.",
            "{speech} Show me that as a {style} drawing.",
        ),
        draw_heard, scores=("depicted", "retrieval", "kernel distance", "copies"),
    ),
)  # fmt: skip
