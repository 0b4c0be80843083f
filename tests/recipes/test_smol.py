"""What the recipe smol may learn from, and what it is only tested on."""

from dataclasses import replace

import numpy as np
import pytest

from plait.data import sources
from plait.data.corpus import build
from plait.data.sources import Asset
from plait.data.sources.syllables import LICENCES
from plait.eval.runner import RECORDED
from plait.recipes import smol
from plait.tasks.dictionary import Group
from plait.tasks.smol import ASKED, TASKS
from plait.tasks.task import REWORDED

RECIPE = smol.RECIPE


def drawing(source="emoji", **facts):
    return Asset(source, "drawing", "apple", {"picture": "a.png"}, {"en": "apple", "de": "Apfel"}, facts)


def prompt(language="en", text="Please wait."):
    facts = {"language": language, "speaker": "allison"}
    return Asset("prompts", "speech", "wait", {"speech": "a.flac"}, {language: text}, facts)


def test_share_alike_and_what_is_tested_on_are_not_taught():
    free, bound = drawing(licence="MIT"), drawing(licence="CC-BY-SA-4.0")
    (kept,) = smol.taught([free, bound, prompt(), drawing(licence="MIT", tone="dark")])
    assert kept.facts == {"licence": "MIT"}
    assert kept.texts == {"en": "apple"}


@pytest.mark.parametrize("name", smol.SOURCES)
def test_sources_that_are_taught_name_their_licence_and_who_made_them(name):
    source = sources.module(name).SOURCE
    assert source.licence
    assert source.attribution
    some_stay_out = name in ("emoji", "syllables")  # OpenMoji and one speaker, by the licence of each medium
    assert not source.share_alike or some_stay_out
    assert "GPL" not in source.licence or some_stay_out


def test_of_people_who_speak_those_are_taught_whose_licence_allows_it():
    def syllable(licence):
        return Asset(
            "syllables",
            "speech",
            "ma",
            {"speech": "a.ogg"},
            {},
            {"language": "zh", "speaker": licence, "licence": licence},
        )

    free = syllable("CC-BY-3.0")
    kept = list(
        smol.taught([prompt(), prompt("fr", "Attendez."), prompt("it", "Attendere."), free, syllable(LICENCES["3"])])
    )
    assert [asset.facts["language"] for asset in kept] == ["it", "zh"]
    group = Group("wait", kept, np.random.default_rng(0))
    answers = {
        task.name: [row.messages[1].parts[0].value for row in task.samples(group, task.phrasings[:1])] for task in TASKS
    }
    assert {name: given for name, given in answers.items() if given} == {
        "speaker": ["allison", "CC-BY-3.0"], "spoken-language": ["Italian", "Chinese"],
    }  # fmt: skip


def test_of_the_voice_that_speaks_most_a_few_recordings_are_asked_about():
    speaker = next(task for task in TASKS if task.name == "speaker")
    spoken = [
        Asset("spoken", "speech", str(n), {"speech": "a"}, {"en": "a"}, {"language": "en", "speaker": "joe"})
        for n in range(2000)
    ]
    rows = [
        row
        for clip in spoken
        for row in speaker.samples(Group(clip.key, [clip], np.random.default_rng(0)), speaker.phrasings[:1])
    ]
    assert 40 < len(rows) < 140


def test_recorded_english_is_tested_on_and_nothing_else():
    rows = list(smol.recorded([prompt(), prompt("it", "Attendere."), drawing(licence="MIT")]))
    (row,) = rows
    assert row.task == "transcribe"
    assert [part.type for part in row.messages[0].parts] == ["audio", "text"]
    assert row.messages[1].parts[0].value == "Please wait."
    assert row.meta["expect"] == {"exact": "Please wait."}


def test_its_settings_name_tasks_that_there_are():
    names = {task.name for task in TASKS}
    for settings in (RECIPE, RECIPE.stage("align")):
        assert set(settings.weights) <= names
        assert set(settings.augment) <= set(settings.weights)
        assert set(settings.alignment) <= set(settings.weights)
    assert set(RECIPE.weights) == names


def test_its_floors_are_of_tasks_and_splits_that_there_are():
    splits = {task.name: (*task.splits, RECORDED) for task in TASKS}
    for task, split, _ in smol.FLOORS:
        assert split in splits[task]


def test_questions_in_other_words_are_not_those_of_training():
    for task in TASKS:
        assert not set(task.reworded) & set(task.phrasings)
        assert (REWORDED in task.splits) == bool(task.reworded)
        asked = {question for questions in ASKED.values() for question in questions}
        assert not asked & {phrasing.replace("{picture}", "").strip() for phrasing in task.reworded}
    assert sum(len(task.reworded) for task in TASKS) == 20


def test_questions_in_other_words_are_asked_of_things_that_are_held_out():
    held = [replace(drawing(style="twemoji", category="food", tone=0), key=str(n)) for n in range(3)]
    taught = replace(held[0], key="taught")
    corpus = build.Corpus({"train": {"taught": [taught]}, "test": {asset.key: [asset] for asset in held}}, joined=0)
    category = next(task for task in TASKS if task.name == "category")
    rows = build.held_out(corpus, category, REWORDED)
    assert len(rows) == 3
    assert {row.meta["phrasing"] for row in rows} <= set(category.reworded)


def conversations(count=60):
    """Talks about drawings of a red apple, of which some facts are unknown."""
    talk = next(task for task in TASKS if task.name == "talk")
    known = {"colour": "red", "category": "food-drink", "style": "twemoji", "tone": 0}
    for number in range(count):
        facts = {**known, "colour": known["colour"] if number % 2 else None}
        group = Group(str(number), [drawing(**facts)], np.random.default_rng(number))
        yield from talk.samples(group, talk.trained_phrasings[:1])


def test_a_talk_asks_what_is_known_in_any_order():
    answers = {
        "apple", "red", "food and drink",
        "The picture shows apple, drawn mostly in red. It belongs to food and drink.",
        "The picture shows apple. It belongs to food and drink.",
    }  # fmt: skip
    first = set()
    for number, row in enumerate(conversations()):
        given = [message.parts[0].value for message in row.messages[1::2]]
        assert len(given) == (4 if number % 2 else 3)
        assert set(given) <= answers
        assert ("red" in given) == bool(number % 2)
        assert all(part.type == "text" for message in row.messages[1:] for part in message.parts)
        first.add(given[0])
    assert first == answers


def test_a_talk_keeps_the_held_out_questions_and_begins_with_no_later_one():
    held_out = {questions[-1] for questions in ASKED.values()}
    for row in conversations():
        questions = [part.value for message in row.messages[::2] for part in message.parts if part.type == "text"]
        assert not held_out & set(questions)
        assert not any(question.startswith("And ") for question in questions[:1])


def test_kinds_are_written_as_people_write_them():
    category = next(task for task in TASKS if task.name == "category")
    group = Group("a", [drawing(category="food-drink", style="twemoji", tone=0)], np.random.default_rng(0))
    (row,) = category.samples(group, category.phrasings[:1])
    assert row.messages[1].parts[0].value == row.meta["expect"]["category"] == "food and drink"


def test_the_judge_of_drawings_learns_from_styles_that_are_never_drawn():
    def of_style(style, licence="MIT", **more):
        return replace(drawing(style=style, licence=licence, **more), media={"picture": f"{style}.png"})

    drawn, held, bound = of_style("twemoji"), of_style("noto"), of_style("openmoji", "CC-BY-SA-4.0")
    unknown = replace(bound, key="of no group")
    corpus = build.Corpus({"train": {}, "test": {"emoji:apple": [drawn, held]}}, joined=0)
    rows = smol.for_judges([drawn, held, bound, unknown, of_style("noto", tone="dark")], corpus)
    pictures = {split: [row.messages[0].parts[0].value for row in of_split] for split, of_split in rows.items()}
    assert pictures == {"judge": ["noto.png", "openmoji.png"], "test": ["twemoji.png"]}
    assert {row.meta["labels"]["concept"] for row in (*rows["judge"], *rows["test"])} == {"emoji:apple"}
