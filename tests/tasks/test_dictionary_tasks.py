"""The tasks of the picture dictionary: the items that they make of groups."""

import re
from dataclasses import replace

import numpy as np
import pytest

from plait.contract import Part
from plait.data.sources import Asset
from plait.tasks.dictionary import BY_NAME, TASKS, Group
from plait.tasks.dictionary.group import labels_of
from plait.tasks.dictionary.words import quote_of
from plait.tasks.task import Item


def test_the_same_is_asked_in_other_words():
    def row(phrasing, text, language="German"):
        task = BY_NAME["translate"]
        slots = {"text": text, "given": "English", "language": language}
        return task.sample(task.phrasings[phrasing], Item(slots, Part("text", "x"), {})).meta["asks"]

    assert row(0, "Good night!") == row(1, "good night") == row(-1, "Good night")
    assert row(0, "Good night!") != row(0, "Good night!", "French")
    assert row(0, "!") != row(0, "?"), "where there are no words the marks are told apart"
    heard = BY_NAME["transcribe"].sample(
        "{speech} What?", Item({"speech": Part("audio", "a.wav")}, Part("text", "x"), {})
    )
    assert "asks" not in heard.meta


@pytest.mark.parametrize(
    ("middle", "answer"),
    [((10, 10), "top left"), ((50, 5), "top"), ((90, 50), "right"), ((50, 50), "middle"), ((40, 99), "bottom")],
)
def test_where_things_are(middle, answer):
    box = [middle[0] - 3, 2 * middle[1] - 3, middle[0] + 3, 2 * middle[1] + 3]
    facts = {"boxes": [{"label": "bee", "box": box}], "size": [100, 200]}
    asset = Asset("composites", "boxes", "one", {"picture": "one.png"}, facts=facts)
    [item] = BY_NAME["where"].make(Group("one", [asset], np.random.default_rng(0)))
    assert item.answer.value == answer


def test_cells_are_counted_with_evidence():
    boxes = [{"label": "platelet", "box": [10, 20, 30, 40]}, {"label": "platelet", "box": [50, 60, 70, 80]}]
    boxes += [{"label": "red blood cell", "box": [n, n, n + 5, n + 5]} for n in range(13)]
    asset = Asset("bccd", "boxes", "one", {"picture": "one.png"}, facts={"boxes": boxes, "size": [100, 100]})
    items = {i.facts["label"]: i for i in BY_NAME["blood"].make(Group("one", [asset], np.random.default_rng(0)))}
    assert set(items) == {"platelet"}, (
        "thirteen are more than an answer lists, and no white cell means that none was marked"
    )
    assert items["platelet"].answer.value.startswith("2: [100, 200, 300, 400]; [500, 600, 700, 800]. No medical device")
    assert items["platelet"].facts["number"] == 2
    none = replace(asset, facts=asset.facts | {"boxes": boxes[2:4]})
    answers = {
        i.facts["label"]: i.answer.value for i in BY_NAME["blood"].make(Group("one", [none], np.random.default_rng(0)))
    }
    assert answers["platelet"].startswith("0. No medical device")
    assert answers["red blood cell"].startswith("2: ")
    unmarked = replace(asset, facts=asset.facts | {"boxes": boxes[:2]})
    group = Group("one", [unmarked], np.random.default_rng(0))
    assert not [*BY_NAME["blood"].make(group), *BY_NAME["detect"].make(group), *BY_NAME["count"].make(group)]


def test_every_cell_of_the_grid_has_a_task():
    kinds = ("text", "image", "audio")
    assert {f"{a}->{b}" for a in kinds for b in kinds} <= {task.cell for task in TASKS}
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert all(len(task.phrasings) >= 3 for task in TASKS)


def group(*assets, seen=True, key="emoji:apple"):
    return Group(key, list(assets), np.random.default_rng(0), seen)


def emoji(style="noto", code="1f34e", **facts):
    shared = {"style": style, "code": code, "base": code, "tone": 0, "category": "food", "colour": "red"}
    texts = {"en": "apple", "de": "Apfel", "fr": "pomme", "xx": "unknown"}
    return Asset("emoji", "drawing", code, {"picture": f"{style}-{code}.png"}, texts, {**shared, **facts})


def spoken(language="de", source="prompts", words="Guten Tag", **facts):
    texts = {language: words} if words else {}
    shared = {"language": language, "speaker": "ann", "prompt": "hello", **facts}
    return Asset(source, "speech", "hello", {"speech": f"{source}-{language}.wav"}, texts, shared)


def items_of(task, *assets, **options):
    return list(BY_NAME[task].make(group(*assets, **options)))


def test_a_group_names_and_draws_the_same_on_every_machine():
    assert group().fraction("salt") == group().fraction("salt") != group().fraction("pepper")
    assert 0 <= group().fraction("salt") < 1
    assert group().some([1, 2], 5) == [1, 2]
    drawn = group().some(list(range(50)), 7)
    assert drawn == sorted(drawn) == group().some(list(range(50)), 7)
    assert len(set(drawn)) == 7


def test_drawings_are_named_in_english_and_in_known_languages():
    answers = {item.facts["language"]: item.answer.value for item in items_of("name", emoji())}
    assert answers.pop("en") == "apple"
    assert answers
    assert answers.items() <= {"de": "Apfel", "fr": "pomme"}.items()


def test_stamps_are_captioned_and_emoji_named():
    stamp = emoji("stamp")
    assert items_of("name", stamp) == []
    assert items_of("caption", emoji()) == []
    assert {item.answer.value for item in items_of("caption", stamp)} <= {"apple", "Apfel", "pomme"}


def test_a_style_without_a_name_is_not_asked_for():
    assert items_of("draw", emoji("woodcut")) == []
    (item, *_) = items_of("draw", emoji("fluent-flat"))
    assert item.slots["style"] == "flat"
    assert item.answer.value == "fluent-flat-1f34e.png"


def test_a_drawing_is_redrawn_in_another_style_of_the_same_code():
    flat, noto, other = emoji("fluent-flat"), emoji("noto"), emoji("twemoji", code="1f34f")
    pairs = {(item.slots["picture"].value, item.answer.value) for item in items_of("restyle", flat, noto, other)}
    assert pairs == {("fluent-flat-1f34e.png", "noto-1f34e.png"), ("noto-1f34e.png", "fluent-flat-1f34e.png")}


def test_a_skin_tone_is_changed_to_a_named_one():
    plain, light, dark = (emoji(code=f"1f44d-{tone}", base="1f44d", tone=tone) for tone in (0, 1, 5))
    asked = {(item.slots["picture"].value, item.slots["tone"]) for item in items_of("tone", plain, light, dark)}
    assert ("noto-1f44d-0.png", "light") in asked
    assert {tone for _, tone in asked} == {"light", "dark"}, "nobody asks for no tone"


def test_sounds_have_kinds_and_speech_is_one_of_them():
    sound = Asset("stamps", "sound", "lion", {"sound": "lion.ogg"}, {}, {"category": "cats"})
    unknown = Asset("stamps", "sound", "car", {"sound": "car.ogg"}, {}, {"category": "cars"})
    assert [item.answer.value for item in items_of("sound", sound, unknown)] == ["mammal"]
    answers = {
        item.answer.value
        for n in range(400)
        for item in BY_NAME["sound"].make(Group("a", [spoken()], np.random.default_rng(n)))
    }
    assert answers == {"speech"}


def test_what_is_said_is_written_where_words_and_speaker_are_known():
    (item,) = items_of("transcribe", spoken())
    assert (item.answer.value, item.expect) == ("Guten Tag", {"exact": "Guten Tag"})
    nobody = spoken()
    del nobody.facts["speaker"]
    assert items_of("transcribe", nobody) == items_of("transcribe", spoken(words="")) == []
    assert items_of("transcribe", spoken(words="x" * 201)) == [], "too long for an answer"


def test_speech_is_translated_into_another_language_alone():
    items = items_of("translate-speech", spoken("de"), spoken("en", words="Good day"))
    assert {(item.facts["from"], item.facts["language"], item.answer.value) for item in items} == {
        ("de", "en", "Good day"), ("en", "de", "Guten Tag"),
    }  # fmt: skip
    letters = [spoken(language, translatable=False) for language in ("de", "en")]
    assert items_of("translate-speech", *letters) == items_of("respeak", *letters) == []


def test_a_speaker_repeats_in_another_language():
    (first, second) = items_of("respeak", spoken("de"), spoken("en", words="Good day"))
    assert {first.answer.value, second.answer.value} == {"prompts-de.wav", "prompts-en.wav"}
    assert first.slots["speech"].value != first.answer.value


def test_stamps_are_said_and_drawn_where_there_are_both():
    stamp, caption = emoji("stamp"), spoken("en", "stamps", "An apple.")
    (caption_item,) = items_of("say-picture", stamp, caption)
    assert (caption_item.slots["picture"].value, caption_item.answer.value) == ("stamp-1f34e.png", "stamps-en.wav")
    (drawn,) = items_of("draw-heard", stamp, caption)
    assert (drawn.slots["speech"].value, drawn.answer.value) == ("stamps-en.wav", "stamp-1f34e.png")
    assert items_of("say-picture", caption) == items_of("say-picture", emoji(), caption) == []


@pytest.mark.parametrize(("source", "task", "other"), [("quiz", "answer", "chat"), ("conversations", "chat", "answer")])
def test_questions_of_knowledge_and_small_talk_are_two_tasks(source, task, other):
    facts = {"question": "Who?", "answer": "Me.", "topic": "people", "language": "en"}
    asset = Asset(source, "exchange", "who", facts=facts)
    assert [item.answer.value for item in items_of(task, asset)] == ["Me."]
    assert items_of(other, asset) == []
    assert items_of(task, replace(asset, facts={**facts, "answer": "x" * 201})) == []


def test_translations_are_of_known_languages_and_differ():
    pair = Asset("interface", "pair", "yes", texts={"en": "Yes", "de": "Ja", "fr": "Yes", "tlh": "HIja'"})
    pairs = {(item.facts["from"], item.facts["language"]) for item in items_of("translate", pair)}
    assert pairs == {("en", "de"), ("de", "en"), ("de", "fr"), ("fr", "de")}, "equal texts are no translation"


def test_a_short_text_does_not_tell_its_language():
    pair = Asset("interface", "pair", "x", texts={"en": "Yes", "de": "Das ist ein langer Satz."})
    assert [item.answer.value for item in items_of("written-language", pair)] == ["German"]


def test_a_word_is_asked_for_by_its_gloss():
    gloss = Asset("glosses", "gloss", "cat", texts={"en": "a small animal"}, facts={"word": "cat"})
    (item,) = items_of("define", gloss)
    assert (item.slots["text"], item.answer.value) == ("a small animal", "cat")


@pytest.mark.parametrize(
    ("asset", "labels"),
    [
        (emoji(), {"category": "food", "colour": "red", "style": "noto"}),
        (emoji("stamp", colour=None), {"category": "food", "style": "stamp"}),
        (Asset("clothes", "photo", "a", facts={"category": "coat"}), {"garment": "coat"}),
        (spoken("de"), {"speaker": "ann", "language": "German", "sound": "speech"}),
        (spoken("xx"), {"speaker": "ann", "sound": "speech"}),
        (Asset("stamps", "sound", "a", facts={"category": "birds"}), {"sound": "bird"}),
        (Asset("stamps", "sound", "a", facts={"category": "cars"}), {}),
    ],
)
def test_labels_for_classifiers_are_what_tasks_ask_for(asset, labels):
    assert labels_of(asset) == labels


def test_every_task_has_phrasings_that_name_its_slots_alike():
    """All phrasings of a task can be filled by the same items: each names slots that the others know."""
    for task in TASKS:
        slots = [set(re.findall(r"\{(\w+)\}", phrasing)) for phrasing in task.phrasings]
        always = set.intersection(*slots)
        assert always, task.name
        assert all(extra <= {"given", "voice", "language"} for extra in (s - always for s in slots)), task.name


def test_quotes_end_with_a_sentence():
    assert quote_of("One. Two is longer. Three.", most=20) == "One. Two is longer."
    assert quote_of("a very long sentence without an end", most=12) == "a very long…", "what is cut says so"
    assert quote_of("What are the signs of this? Fever, mostly. And?") == "Fever, mostly."
    assert quote_of("Key Points - Cells divide too fast.") == "Cells divide too fast."
    assert quote_of("What are its signs? The Human Phenotype Ontology provides a list. Signs - Fever 90 %") == ""
    assert quote_of("These resources address the diagnosis of this: - A registry") == quote_of("Why?") == ""
