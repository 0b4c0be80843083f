"""What the recipe smol may learn from, and what it is only tested on."""

import pytest

from plait.data import sources
from plait.data.sources import Asset
from plait.recipes import smol
from plait.tasks.smol import TASKS

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
    parts_that_stay_out = name == "emoji"  # OpenMoji, by the licence of each drawing
    assert not source.share_alike or parts_that_stay_out
    assert "GPL" not in source.licence


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
