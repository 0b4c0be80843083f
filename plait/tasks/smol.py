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
    """Speech -> what the language model answers when it reads the same words (plait.recipes.replies)."""
    for asset in _spoken(group):
        if reply := asset.facts.get("reply"):
            yield Item(
                {"speech": asset.part("speech")}, Part("text", reply), {"exact": reply}, {"question": asset.texts["en"]}
            )


def _said(asset: Asset) -> Part:
    """A recording that is to be said, with its words, their sounds and when each begins, where that is known."""
    part = asset.part("speech")
    return Part(part.type, part.value, {"words": sounds}) if (sounds := asset.facts.get("sounds")) else part


def speak(group: Group) -> Iterator[Item]:
    """Text -> speech, in the voice that was learned."""
    for asset in _spoken(group):
        if asset.facts["speaker"] != VOICE:
            continue
        facts = {"language": "en", "speaker": asset.facts["speaker"], "text": asset.texts["en"]}
        yield Item({"text": asset.texts["en"]}, _said(asset), {}, facts)


def repeat(group: Group) -> Iterator[Item]:
    """Speech -> the same words, spoken."""
    spoken = [asset for asset in _spoken(group, "sentence") if asset.facts["speaker"] == VOICE]
    for asset in group.some(spoken, 1):
        if group.fraction("repeat") < 0.25 or not group.seen:
            facts = {"language": "en", "speaker": asset.facts["speaker"], "text": asset.texts["en"]}
            yield Item({"speech": asset.part("speech")}, _said(asset), {}, facts)


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
        yield Item({"picture": drawing.part("picture")}, _said(heard), {}, facts)


def draw_heard(group: Group) -> Iterator[Item]:
    """A spoken name -> a drawing of it."""
    for drawing, heard in group.some(list(_drawn_and_spoken(group)), PAIRS):
        style = drawing.facts["style"]
        slots: Slots = {"speech": heard.part("speech"), "style": STYLES[style]}
        yield Item(slots, drawing.part("picture"), {}, {"concept": group.key, "style": style})


def kind_in_words(kind: str) -> str:
    """A group of emoji as people write it: food-drink is food and drink."""
    return kind.replace("-", " and ")


def kind(group: Group) -> Iterator[Item]:
    """Drawing -> the kind of thing that it shows, in words."""
    for item in category(group):
        words = kind_in_words(str(item.answer.value))
        yield replace(item, answer=Part("text", words), expect={"category": words})


def _sentence(asset: Asset) -> str:
    """A sentence about a drawing: what it shows, its colour, its kind, as far as they are known."""
    hue, of_kind = asset.facts.get("colour"), asset.facts.get("category") if asset.source == "emoji" else None
    sentence = f"The picture shows {asset.texts['en']}"
    sentence += f", drawn mostly in {hue}" if hue else ""
    return f"{sentence}. It belongs to {kind_in_words(of_kind)}." if of_kind else f"{sentence}."


def describe(group: Group) -> Iterator[Item]:
    """Drawing -> a sentence about it."""
    for asset in _drawings(group, TONED):
        if asset.facts["style"] == "stamp" or not short(asset.texts.get("en", "")):
            continue
        sentence = _sentence(asset)
        yield Item(
            {"picture": asset.part("picture")}, Part("text", sentence), {"exact": sentence}, {"name": asset.texts["en"]}
        )


class Talk(GroupTask):
    """A conversation about a drawing: questions about it in turn, in any order; later ones refer to the picture in the first."""

    def sample(self, phrasing: str, item: Item) -> Sample:
        """The first question and answer, then those of `facts["turns"]`."""
        row = super().sample(phrasing, item)
        messages = list(row.messages)
        for question, answer in item.facts["turns"]:
            messages += [Message("user", (Part("text", question),)), Message("assistant", (Part("text", answer),))]
        return replace(row, messages=tuple(messages), meta={k: v for k, v in row.meta.items() if k != "turns"})


def talk(group: Group) -> Iterator[Item]:
    """Drawing -> its name, its colour, its kind and a sentence, as far as they are known and in any order."""
    for asset in _drawings(group, TONED):
        title = asset.texts.get("en", "")
        if asset.source != "emoji" or not short(title):
            continue
        known = {
            "name": title,
            "colour": asset.facts.get("colour"),
            "category": kind_in_words(asset.facts.get("category") or ""),
            "describe": _sentence(asset),
        }
        turns: list[tuple[str, str]] = []
        for about in (list(known)[number] for number in group.rng.permutation(len(known))):
            ways = [way for way in ASKED[about][:-1] if len(turns) or way not in LATER]
            if known[about]:
                turns.append((ways[int(group.rng.integers(len(ways)))], str(known[about])))
        (question, answer), *later = turns
        yield Item({"picture": asset.part("picture"), "question": question}, Part("text", answer), {}, {"turns": later})


_OF_PICTURES = {task.name: task for task in PICTURES}
_OF_SPEECH = {task.name: task for task in SPEECH}
# Questions about a picture, each list's last never trained.
ASKED = {
    "name": (
        "What is this?", "Name this.", "What do you see?", "What is the name of this?", "Name it, please.", "Which thing is this?",
        "Tell me what this is called.", "What is in the picture?", "What can you see here?", "What do you see in this picture?",
        "Give me its name.", "What is that?", "What would you call this?", "Do you know what this is?", "What has been drawn here?",
        "Which thing do you recognise?", "What is shown?", "Please name what you see.", "And what is it?", "What is it called?",
        "How is this called?",
    ),
    "colour": (
        "Which colour is it mostly?", "Main colour?", "What colour is this?", "Name the main colour.", "Which colour has most of this?",
        "Of what colour is it, mostly?", "Tell me the colour.", "And what colour is it?", "What is its main colour?",
        "Which colour is it?", "What colour do you see most?", "Colour, please.", "In which colour is it drawn?",
        "What would you say its colour is?", "I want to know the colour.", "Which colour covers most of it?", "What colour?",
        "Do you know its colour?", "Say the main colour, please.", "Which colour would you call it?",
        "Name the colour that most of it has.",
    ),
    "category": (
        "What kind of thing is this?", "Which category?", "Sort this.", "What group is this in?", "Which kind of thing do you see?",
        "Name the category of this.", "What does this belong to: which kind?", "Where would you file this?", "What kind of thing is that?",
        "What does it belong to?", "Which category is it in?", "What sort of thing is it?", "Which type of thing do you see?",
        "Put this into a category.", "Which group would you put it in?", "And its category?", "What is its category?",
        "Which topic does this belong to?", "Assign this to a group.", "Tell me the category, please.", "What type of thing is it?",
        "Which section would this be found in?", "Choose the category that fits.", "Say which group it is part of.",
        "Among which things would you list it?", "Of what kind is it?", "In which category should I look for it?",
        "To which group does this belong?",
    ),
    "describe": (
        "Describe this picture.", "Describe what you see.", "Tell me about this picture.", "What does this picture show?",
        "Write a sentence about this.", "Describe it.", "What can you tell me about it?", "Say something about this picture.",
        "Give me a short description.", "Please describe the picture.",
        "Put into a sentence what you see.",
    ),
}  # fmt: skip
LATER = ("And what is it?", "And what colour is it?", "And its category?")  # never the first question
_ENGLISH = {
    **{
        task: tuple(
            f"{question} {{picture}}" if number % 5 == 4 else f"{{picture}} {question}"
            for number, question in enumerate(questions)
            if question not in LATER
        )
        for task, questions in ASKED.items()
    },
    "count": (
        "{picture} How many: {label}?", "{picture} Count: {label}", "{picture} Number of {label}?",
        "{picture} How many of {label} are there?", "{picture} Tell me the number of: {label}.", "{picture} {label}: how many?",
        "{picture} Please count these: {label}.", "{picture} How many times do you see {label}?", "How many: {label}? {picture}",
        "{picture} How often is {label} drawn?", "{picture} Count every {label}.", "{picture} What is the number of {label} here?",
        "{picture} Tell me how many of these there are: {label}.",
    ),
    "where": (
        "{picture} In which corner, side or middle is: {label}?", "{picture} Where is: {label}?", "{picture} Place of {label}?",
        "{picture} In which part is: {label}?", "{picture} {label}: in which part?", "{picture} Tell me the place of: {label}.",
        "{picture} Which part of the picture has: {label}?", "{picture} Where do you see {label}?", "Where is: {label}? {picture}",
        "{picture} Where was {label} drawn?", "{picture} Find {label}: which part?",
        "{picture} In which part of the picture is: {label}?",
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
_MORE_SCORES = {"name": ("listed", "embedded"), "draw": ("depicted", "embedded"), "restyle": ("embedded",)}


def _of_pictures(task_name: str) -> GroupTask:
    task = _OF_PICTURES[task_name]
    scores = (*task.scores, *_MORE_SCORES.get(task_name, ()))
    phrasings, reworded = _ENGLISH.get(task_name, task.phrasings), _REWORDED.get(task_name, ())
    make = kind if task_name == "category" else task.make
    return replace(task, make=make, phrasings=phrasings, reworded=reworded, scores=scores)


TASKS = (
    GroupTask(
        "transcribe", "audio->text",
        (
            "{speech} Write down what is said.", "{speech} Transcribe this.", "{speech} What are the words?",
            "{speech} Write this down, please.", "{speech} What do you hear? Type it.", "Transcribe: {speech}",
            "{speech} Tell me the words that are said.", "{speech} Please write the words.", "What is said here? {speech}",
            "{speech} Please type what you hear.",
        ),
        transcribe, scores=("word errors", "character errors", "embedded", "defined"),
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
        ("{picture} {question}", "{question} {picture}", "Look at this: {picture} {question}", "Look. {picture} {question}"),
        talk,
    ),
    GroupTask(
        "describe", "image->text", _ENGLISH["describe"], describe, scores=("chrf",),
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
