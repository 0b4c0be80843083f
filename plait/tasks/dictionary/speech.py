"""Tasks about sound: transcribing, speaking, translating and drawing what is heard."""

from __future__ import annotations

from collections.abc import Iterator

from plait.contract import Part
from plait.data.sources import Asset
from plait.tasks.dictionary.group import LANGUAGES, SOUNDS, Group, GroupTask, say, short
from plait.tasks.task import Item, Slots

PAIRS = 6  # of recordings of one thing
# Of recordings, and of pieces of music, of which there are more than of all other sounds: the share that is asked for its kind.
SPEECH_SHARE, MUSIC_SHARE = 0.02, 0.3
# Share of the training recordings of named voices that are asked for their language: or voices give it away.
KNOWN_VOICES = 0.35


def _spoken(group: Group, *sources: str) -> list[Asset]:
    """Recordings with known words and speaker (recordings of letters have no speaker)."""
    of_speakers = (asset for asset in group.of("speech") if "speaker" in asset.facts)
    recordings = (asset for asset in of_speakers if not sources or asset.source in sources)
    return [asset for asset in recordings if short(asset.texts.get(asset.facts["language"], ""))]


def _facts(asset: Asset) -> dict[str, str]:
    return {"language": asset.facts["language"], "source": asset.source}


def transcribe(group: Group) -> Iterator[Item]:
    """Speech -> its words."""
    for asset in _spoken(group):
        part, expect = say(asset.texts[asset.facts["language"]])
        yield Item({"speech": asset.part("speech")}, part, expect, _facts(asset))


def speak(group: Group) -> Iterator[Item]:
    """Text, language and voice -> speech."""
    for asset in _spoken(group):
        language = asset.facts["language"]
        slots: Slots = {
            "text": asset.texts[language],
            "language": LANGUAGES.get(language, language),
            "voice": asset.facts["speaker"],
        }
        facts = {**_facts(asset), "speaker": asset.facts["speaker"], "text": asset.texts[language]}
        yield Item(slots, asset.part("speech"), {}, facts)


def speaker(group: Group) -> Iterator[Item]:
    """Speech -> the speaker's name."""
    for asset in group.of("speech"):
        if asset.source in ("prompts", "voices"):
            who = asset.facts["speaker"]
            yield Item({"speech": asset.part("speech")}, Part("text", who), {"speaker": who}, _facts(asset))


def spoken_language(group: Group) -> Iterator[Item]:
    """Speech -> its language."""
    for asset in group.of("speech"):
        language = asset.facts["language"]
        thinned = group.seen and "speaker" in asset.facts and group.rng.random() > KNOWN_VOICES
        if language in LANGUAGES and not thinned:
            part, expect = say(LANGUAGES[language])
            voice = {"speaker": asset.facts["speaker"]} if "speaker" in asset.facts else {}
            yield Item({"speech": asset.part("speech")}, part, expect, _facts(asset) | voice)


def sound(group: Group) -> Iterator[Item]:
    """Sound -> its kind."""
    for asset in group.of("sound", "speech"):
        kind = SOUNDS.get(str(asset.facts.get("category"))) if asset.kind == "sound" else "speech"
        share = {"speech": SPEECH_SHARE, "music": MUSIC_SHARE}.get(str(kind), 1.0)
        if kind and group.rng.random() < share:
            yield Item({"sound": asset.part(asset.kind)}, Part("text", kind), {"sound": kind}, {"source": asset.source})


def translate_speech(group: Group) -> Iterator[Item]:
    """Speech and language -> its translation, written."""
    pairs = [
        (heard, code, text)
        for heard in _spoken(group, "prompts")
        for other in _spoken(group, "prompts")
        for code, text in other.texts.items()
        if code == other.facts["language"] != heard.facts["language"] and heard.facts.get("translatable", True)
    ]
    for heard, code, text in group.some(pairs, PAIRS):
        part, expect = say(text)
        facts = {"from": heard.facts["language"], "language": code}
        yield Item({"speech": heard.part("speech"), "language": LANGUAGES[code]}, part, expect, facts)


def respeak(group: Group) -> Iterator[Item]:
    """Speech and language -> the same in that language, spoken by the same speaker."""
    spoken = [asset for asset in _spoken(group, "prompts") if asset.facts.get("translatable", True)]
    pairs = [(a, b) for a in spoken for b in spoken if a.facts["language"] != b.facts["language"]]
    for heard, wanted in group.some(pairs, PAIRS):
        language = wanted.facts["language"]
        slots: Slots = {"speech": heard.part("speech"), "language": LANGUAGES[language]}
        details = {"from": heard.facts["language"], "speaker": wanted.facts["speaker"], "text": wanted.texts[language]}
        facts = {**_facts(wanted), **details}
        yield Item(slots, wanted.part("speech"), {}, facts)


def _drawn_and_spoken(group: Group) -> Iterator[tuple[Asset, Asset]]:
    drawings = [asset for asset in group.of("drawing") if asset.facts.get("style") == "stamp"]
    for asset in _spoken(group, "stamps"):
        if drawings and asset.facts["language"] in LANGUAGES:
            yield drawings[int(group.rng.integers(len(drawings)))], asset


def say_picture(group: Group) -> Iterator[Item]:
    """Stamp and language -> its caption, spoken."""
    for drawing, asset in _drawn_and_spoken(group):
        language = asset.facts["language"]
        slots: Slots = {"picture": drawing.part("picture"), "language": LANGUAGES[language]}
        yield Item(
            slots,
            asset.part("speech"),
            {},
            {**_facts(asset), "speaker": asset.facts["speaker"], "text": asset.texts[language]},
        )


def draw_heard(group: Group) -> Iterator[Item]:
    """Spoken caption -> stamp."""
    for drawing, asset in _drawn_and_spoken(group):
        yield Item(
            {"speech": asset.part("speech")}, drawing.part("picture"), {}, {"concept": group.key, "style": "stamp"}
        )


TASKS = (
    GroupTask(
        "transcribe", "audio->text",
        (
            "{speech} Write down what is said.", "{speech} Transcribe this.", "{speech} What are the words?",
            "{speech} Write this down, please.", "{speech} What do you hear? Type it.",
            "{speech} Tell me the words that are said.", "{speech} Please write the words.",
            "{speech} Please type what you hear.",
        ),
        transcribe, extra_splits=("known",), scores=("word errors", "character errors"),
    ),
    GroupTask(
        "say", "text->audio",
        (
            "Say in {language} with the voice {voice}: {text}", "{voice} speaks {language}: {text}",
            "Read aloud, {language}, {voice}: {text}", "Say this in {language} as {voice}: {text}",
            "Let {voice} read, in {language}: {text}", "{language}, spoken by {voice}: {text}",
            "Voice {voice}, language {language}. Say: {text}",
            "Let {voice} say this in {language}: {text}",
        ),
        speak, extra_splits=("known",), scores=("recognised", "voice"),
    ),
    GroupTask(
        "speaker", "audio->text",
        (
            "{speech} Whose voice is this?", "{speech} Who speaks?", "{speech} Name the speaker.",
            "{speech} Whose voice do you hear?", "{speech} Which speaker is this?", "{speech} Tell me who is speaking.",
            "{speech} Do you know this voice?",
            "{speech} Which voice do you hear?",
        ),
        speaker, scores=("likelihood",),
    ),
    GroupTask(
        "spoken-language", "audio->text",
        (
            "{speech} Which language is this?", "{speech} In which language?", "{speech} Name the language.",
            "{speech} What language do you hear?", "{speech} Which language is spoken?",
            "{speech} Tell me the language.", "{speech} They speak which language?",
            "{speech} What language do they speak?",
        ),
        spoken_language, extra_splits=("speakers",), scores=("likelihood",),
    ),
    GroupTask(
        "sound", "audio->text",
        (
            "{sound} What kind of sound is this?", "{sound} Which sound?", "{sound} Sort this sound.",
            "{sound} Name this sound.", "{sound} What do you hear?", "{sound} Which kind of sound do you hear?",
            "{sound} Tell me what makes this sound.",
            "{sound} What do you hear here?",
        ),
        sound, scores=("likelihood",),
    ),
    GroupTask(
        "translate-speech", "audio->text",
        (
            "{speech} What is that in {language}?", "{speech} Translate into {language}.",
            "{speech} Write it in {language}.", "{speech} How do you write that in {language}?",
            "{speech} In {language}, please.", "{speech} Say in {language} what was said.",
            "{speech} What would that be in {language}?",
            "{speech} How would that be written in {language}?",
        ),
        translate_speech, scores=("chrf",),
    ),
    GroupTask(
        "respeak", "audio->audio",
        (
            "{speech} Say that in {language}.", "{speech} The same in {language}.",
            "{speech} Repeat it, in {language}.", "{speech} How do you say that in {language}?",
            "{speech} In {language}, aloud.", "{speech} Now in {language}, please.",
            "{speech} What does that sound like in {language}?",
            "{speech} How does that sound in {language}?",
        ),
        respeak, scores=("recognised", "voice"),
    ),
    GroupTask(
        "say-picture", "image->audio",
        (
            "{picture} Say in {language} what this is.", "{picture} Tell me aloud, in {language}.",
            "{picture} {language}, spoken: what is this?", "{picture} What is this? Say it aloud in {language}.",
            "{picture} Speak: what do you see, in {language}?", "{picture} In {language}, aloud: name this.",
            "{picture} Tell me what you see. Speak {language}.",
            "{picture} Speak {language}: what do you see?",
        ),
        say_picture, scores=("recognised", "voice"),
    ),
    GroupTask(
        "draw-heard", "audio->image",
        (
            "{speech} Draw that.", "{speech} A picture of this, please.", "{speech} Paint what is said.",
            "{speech} Show me this.", "{speech} Please draw what you hear.", "{speech} Make a drawing of that.",
            "{speech} What was said, as a picture.",
            "{speech} Show me that as a drawing.",
        ),
        draw_heard, extra_splits=("known",), scores=("retrieval", "kernel distance", "copies"),
    ),
)  # fmt: skip
