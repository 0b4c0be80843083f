"""Tasks about words: translating, naming the language, answering, defining, and quoting medical texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from plait.tasks.dictionary.group import LANGUAGES, LONGEST, NOTICE, Group, GroupTask, say, short
from plait.tasks.task import Item, Slots

PAIRS = 8  # of languages a thing is translated between
# Of verses, English and Spanish, which would outweigh all else: the share that is translated, and that is asked for its language.
SCRIPTURE_TRANSLATED, SCRIPTURE_TOLD = 0.2, 0.05
# Of the diseases of training: those whose answers are taught, in every phrasing. About the others the model learns to say that it
# does not know, which is the likelier answer to a name that it has not met again and again. A larger model can hold more.
KNOWN_SHARE = 0.03
ABSTAINS = f"I do not know this. {NOTICE}"
LONGEST_QUOTE = 160  # characters
# Sentences that MedQuAD repeats for every disease and that answer nothing: lists follow them, of links or of signs.
SAYS_NOTHING = (
    "These resources address", "These resources from", "The Human Phenotype Ontology provides",
    "Certain factors affect prognosis", "There are different types of treatment", "Signs and symptoms depend on",
)  # fmt: skip
TOPICS = ("symptoms", "treatment", "information", "causes", "outlook", "inheritance", "frequency")


def _translated(group: Group, kinds: tuple[str, ...], sources: tuple[str, ...]) -> Iterator[Item]:
    for asset in group.of(*kinds):
        if asset.source not in sources or not asset.facts.get("translatable", True):
            continue
        sentences = [(code, text) for code, text in asset.texts.items() if code in LANGUAGES and short(text)]
        pairs = [(a, b) for a in sentences for b in sentences if a[0] != b[0] and a[1] != b[1]]
        for (source, text), (target, translation) in group.some(pairs, PAIRS):
            part, expect = say(translation)
            slots: Slots = {"text": text, "given": LANGUAGES[source], "language": LANGUAGES[target]}
            yield Item(slots, part, expect, {"from": source, "language": target, "source": asset.source})


def translate_name(group: Group) -> Iterator[Item]:
    """Name of a thing and language -> its name in that language."""
    seen = set()
    for asset in group.of("drawing"):
        if asset.facts.get("code") in seen:
            continue  # six drawings of one thing have one name
        seen.add(asset.facts.get("code"))
        yield from _translated(Group(group.key, [asset], group.rng), ("drawing",), ("emoji", "stamps"))


def translate(group: Group) -> Iterator[Item]:
    """Verse, prompt, article or phrase of an interface, and language -> its translation."""
    taken = [a for a in group.of("pair") if a.source != "scripture" or group.rng.random() < SCRIPTURE_TRANSLATED]
    sources = ("scripture", "prompts", "declaration", "interface")
    yield from _translated(replace(group, assets=taken), ("pair",), sources)


def written_language(group: Group) -> Iterator[Item]:
    """Text -> its language."""
    for asset in group.of("pair"):
        if asset.source == "scripture" and group.rng.random() >= SCRIPTURE_TOLD:
            continue
        sentences = [
            (code, text) for code, text in asset.texts.items() if code in LANGUAGES and short(text) and len(text) >= 12
        ]
        for code, text in group.some(sentences, PAIRS):
            part, expect = say(LANGUAGES[code])
            yield Item({"text": text}, part, expect, {"language": code})


def answer(group: Group) -> Iterator[Item]:
    """Question of general knowledge -> answer."""
    for asset in group.of("exchange"):
        question, reply = asset.facts["question"], asset.facts["answer"]
        if short(question) and short(reply) and asset.source == "quiz":
            part, expect = say(reply)
            yield Item({"text": question}, part, expect, {"topic": asset.facts["topic"]})


def chat(group: Group) -> Iterator[Item]:
    """Utterance -> reply."""
    for asset in group.of("exchange"):
        question, reply = asset.facts["question"], asset.facts["answer"]
        spoken = asset.facts.get("language") in LANGUAGES
        if short(question) and short(reply) and spoken and asset.source == "conversations":
            part, expect = say(reply)
            yield Item({"text": question}, part, expect, {"language": asset.facts["language"]})


def define(group: Group) -> Iterator[Item]:
    """Definition -> the word it defines."""
    for asset in group.of("gloss"):
        if short(asset.texts["en"]):
            part, expect = say(asset.facts["word"])
            yield Item({"text": asset.texts["en"]}, part, expect)


def quote_of(text: str, most: int = LONGEST_QUOTE) -> str:
    """A quotation of at most `most` characters: the first sentences that fit, else the first words and an ellipsis.

    Empty for a text without information. Skips a question that the text repeats, and a heading before it.
    """
    sentences = re.split(r"(?<=[.!?])\s+", re.sub(r"^(Key Points|Summary)\s*[-:]\s*", "", text.strip()))
    while sentences and sentences[0].endswith("?"):
        sentences = sentences[1:]
    if not sentences or not sentences[0] or sentences[0].startswith(SAYS_NOTHING):
        return ""
    quote = ""
    for sentence in sentences:
        if len(quote) + len(sentence) + 1 > most or sentence.endswith("?"):
            break
        quote = f"{quote} {sentence}".strip()
    return quote or f"{sentences[0][:most].rsplit(' ', 1)[0]}…"


def medical(group: Group) -> Iterator[Item]:
    """Medical question -> a quotation of a named source and the notice, or the sentence that abstains."""
    unknown = not group.seen or group.fraction("medical") >= KNOWN_SHARE
    asked = {
        asset.facts["question"]: asset  # some are asked twice, with different answers
        for asset in group.of("medical")
        if asset.facts["question_type"] in TOPICS
        and len(asset.facts["question"]) <= LONGEST
        and quote_of(asset.facts["answer"])
    }
    for asset in group.some(list(asked.values()), 1 if unknown else len(asked)):
        quote = quote_of(asset.facts["answer"])
        response = ABSTAINS if unknown else f"“{quote}” ({asset.facts['source']}) {NOTICE}"
        part, expect = say(response)
        yield Item(
            {"text": asset.facts["question"]},
            part,
            expect,
            {"topic": asset.facts["question_type"], "known": not unknown},
            ways=1 if unknown else None,
        )


TASKS = (
    GroupTask(
        "translate-name", "text->text",
        (
            "{text} in {language}", "{given} to {language}: {text}", "Translate into {language}: {text}",
            "What is {text} in {language}?", "{text}: how do you say it in {language}?", "Say in {language}: {text}",
            "{language} for {text}, please",
            "How do you say {text} in {language}?",
        ),
        translate_name, scores=("chrf",),
    ),
    GroupTask(
        "translate", "text->text",
        (
            "Translate into {language}: {text}", "{given} to {language}: {text}", "In {language}, please: {text}",
            "{language}: {text}", "Please write this in {language}: {text}",
            "How do you say this in {language}? {text}", "{text} Translate that into {language}.",
            "How would you write this in {language}? {text}",
        ),
        translate, scores=("chrf", "bleu"),
    ),
    GroupTask(
        "written-language", "text->text",
        (
            "Which language is this? {text}", "Language of: {text}", "Name the language: {text}",
            "What language is this? {text}", "{text} - which language?", "{text} Name the language, please.",
            "In which language is that written? {text}",
            "{text} - what language is that?",
        ),
        written_language, scores=("likelihood", "language"),
    ),
    GroupTask(
        "answer", "text->text",
        (
            "{text}", "Question: {text}", "Answer this: {text}", "I have a question: {text}", "{text} Do you know it?",
            "Please answer: {text}", "Tell me: {text}",
            "Do you know? {text}",
        ),
        answer, scores=("chrf",),
    ),
    GroupTask(
        "chat", "text->text",
        (
            "{text}", "Somebody says: {text}", "A friend says: {text}", "Reply to this: {text}", "Chat. {text}",
            "{text} What do you say?", "I say: {text}",
            "Someone tells you: {text}",
        ),
        chat, scores=("chrf",),
    ),
    GroupTask(
        "define", "text->text",
        (
            "Which word means: {text}", "The word for: {text}", "What is this called? {text}", "Name the word: {text}",
            "Which word is this about? {text}", "{text} What is the word?", "I am looking for a word: {text}",
            "Find the word. {text}",
        ),
        define,
    ),
    GroupTask(
        "medical", "text->text",
        (
            "{text}", "A medical question: {text}", "Please look up: {text}", "I have a question: {text}",
            "Please tell me: {text}", "A question about health: {text}", "What is known? {text}",
            "I would like to know: {text}",
        ),
        medical, extra_splits=("known",), scores=("chrf", "abstention"),
    ),
)  # fmt: skip
