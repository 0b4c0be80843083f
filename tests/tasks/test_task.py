"""A task: phrasings with slots, conversations, blanked questions."""

from dataclasses import replace

import pytest

from plait.contract import Message, Part
from plait.tasks.task import Item, Task

PICTURE, CLIP = Part("image", "a.png"), Part("audio", "b.wav")


def text(value):
    return Part("text", value)


TASK = Task(
    "compare",
    "image+audio->text",
    ("{image} {audio} Same {what}?", "Is {image} {what} {audio}?", "held {out}"),
    lambda pool: None,
)


def test_a_cell_says_what_goes_in_and_what_comes_out():
    assert TASK.gives == {"image", "audio"}
    assert TASK.answers_in == "text"
    assert Task("a", "text->image", ("x", "y"), None).gives == {"text"}


def test_the_last_phrasing_is_held_out():
    assert TASK.trained_phrasings == TASK.phrasings[:2]
    assert TASK.held_out_phrasing == "held {out}"
    assert Task("a", "text->text", ("x",), None, extra_splits=("known",)).splits == ("test", "phrasing", "known")


@pytest.mark.parametrize(
    ("phrasing", "slots", "parts"),
    [
        ("Draw {number}.", {"number": "seven"}, [text("Draw seven.")]),
        ("{image} What is it?", {"image": PICTURE}, [PICTURE, text("What is it?")]),
        ("Is {image} {what}?", {"image": PICTURE, "what": "a cat"}, [text("Is"), PICTURE, text("a cat?")]),
        ("{image} {audio}", {"image": PICTURE, "audio": CLIP}, [PICTURE, CLIP]),
        ("{a}{b}", {"a": "x", "b": "y"}, [text("xy")]),
        ("{a}", {"a": "  "}, []),
        ("{a} {b}", {"a": "", "b": "y"}, [text("y")]),
        ("3 {op} 4 = {{", {"op": "+"}, [text("3 + 4 = {{")]),
    ],
)
def test_slots_are_filled_and_blanks_beside_media_go(phrasing, slots, parts):
    assert TASK.question(phrasing, slots) == Message("user", tuple(parts))


def test_a_slot_without_a_filling_is_an_error():
    with pytest.raises(KeyError, match="what"):
        TASK.question("Is {image} {what}?", {"image": PICTURE})


def item():
    return Item({"image": PICTURE, "audio": CLIP, "what": "digit"}, text("yes"), {"same": "yes"}, {"source": "here"})


def test_a_sample_is_the_question_its_answer_and_what_is_expected():
    sample = TASK.sample(TASK.phrasings[0], item())
    assert sample.messages == (
        Message("user", (PICTURE, CLIP, text("Same digit?"))),
        Message("assistant", (text("yes"),)),
    )
    assert sample.task == "compare"
    assert sample.meta == {"expect": {"same": "yes"}, "phrasing": TASK.phrasings[0], "source": "here"}


def test_a_blanked_question_has_empty_media_and_no_word_in_its_slots():
    sample = TASK.sample(TASK.phrasings[1], item())
    blank = {kind: lambda part: Part(part.type, "empty") for kind in ("image", "audio")}
    (message,) = TASK.blanked(sample, blank)
    assert message.parts == (text("Is"), Part("image", "empty"), Part("audio", "empty"), text("?"))


@pytest.mark.parametrize(
    ("phrasing", "words"),
    [
        ("{picture} How many: {label}?", "How many: ?"),
        ("How many {label}? {picture}", "How many ?"),
        ("{label} {picture}", ""),
        ("{picture}", ""),
    ],
)
def test_a_medium_is_emptied_whatever_its_slot_is_called(phrasing, words):
    task = replace(TASK, phrasings=(phrasing, phrasing))
    picture = Part("image", "a carrot")
    sample = task.sample(phrasing, Item({"picture": picture, "label": "wheel"}, text("2"), {}))
    (message,) = task.blanked(sample, {"image": lambda part: Part("image", "nothing")})
    assert {part.value for part in message.parts if part.type == "image"} == {"nothing"}
    assert "".join(part.value for part in message.parts if part.type == "text") == words


def test_two_media_are_emptied_in_their_slots():
    phrasing = "{speech} Draw it like {picture}."
    task = replace(TASK, phrasings=(phrasing, phrasing))
    sample = task.sample(phrasing, Item({"speech": Part("audio", "a"), "picture": Part("image", "b")}, text("2"), {}))
    (message,) = task.blanked(sample, {"image": lambda p: Part("image", "c"), "audio": lambda p: Part("audio", "d")})
    assert [(part.type, part.value) for part in message.parts] == [
        ("audio", "d"),
        ("text", "Draw it like"),
        ("image", "c"),
        ("text", "."),
    ]


def test_a_task_of_words_is_blanked_to_its_phrasing():
    spoken = Task("draw", "text->image", ("Draw {number}.", "x"), None)
    sample = spoken.sample("Draw {number}.", Item({"number": "seven"}, PICTURE, {}))
    assert spoken.blanked(sample, {})[0].parts == (text("Draw ."),)
    bare = spoken.sample("{number}", Item({"number": "seven"}, PICTURE, {}))
    assert spoken.blanked(bare, {})[0].parts == (), "where the words are the whole question nothing is left"


def test_another_medium_is_asked_about_in_the_first_phrasing():
    read = Task("read", "image->text", ("{image} Which digit?", "Digit: {image}"), None)
    assert read.ask_about(PICTURE) == (Message("user", (PICTURE, text("Which digit?"))),)
    transcribe = replace(read, phrasings=("{speech} Transcribe this.", "x"))
    assert transcribe.ask_about(CLIP) == (Message("user", (CLIP, text("Transcribe this."))),)


def test_an_item_is_not_shared_between_samples():
    shared = item()
    first, second = (TASK.sample(phrasing, shared) for phrasing in TASK.phrasings[:2])
    first.meta["expect"]["same"] = "no"
    assert second.meta["expect"] == shared.expect == {"same": "yes"}
