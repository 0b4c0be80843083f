"""What all sources share: entries, discovery, and the comparison of words."""

import pytest

from plait.data import sources
from plait.data.sources import Asset, clean, left_out
from plait.errors import ConfigError
from plait.runtime.words import plain_words


def test_words_are_compared_without_case_punctuation_and_forms():
    assert plain_words("  The CAT’s  hat! ") == plain_words("the cat's hat")
    assert plain_words("ｆｕｌｌ") == "full"
    assert plain_words("猫") != plain_words("犬")


@pytest.mark.parametrize(
    ("words", "plain"),
    [
        ("", ""),
        (" . ", ""),
        ("Ärger\u00a0\u00a0im Büro!", "ärger im büro"),
        ("A" + "\u030a", "å"),
        ("C++", "c"),
        ("3,5 %", "3 5"),
    ],
)
def test_plain_words(words, plain):
    assert plain_words(words) == plain


def test_texts_are_cleaned_and_keep_their_marks():
    assert clean("  e\u0301  \n a! ") == "é a!"
    assert clean("") == ""


def test_sources_are_discovered_and_helpers_are_not():
    assert {"emoji", "music", "quiz"} <= set(sources.names())
    assert not {"fetch", "espeak", "recordings"} & set(sources.names())
    for name in sources.names():
        assert sources.module(name).SOURCE.name == name
    with pytest.raises(ConfigError, match=r"unknown source 'espeak'; expected one of bccd, .*voices"):
        sources.module("espeak")


def test_a_medium_is_a_picture_or_sound_by_its_name():
    asset = Asset("stamps", "drawing", "cat", {"picture": "a.png", "sound": "a.ogg", "speech": "b.ogg"})
    assert [asset.part(name).type for name in asset.media] == ["image", "audio", "audio"]
    with pytest.raises(KeyError):
        asset.part("smell")


def test_what_is_left_out_says_why():
    entry = left_out("too loud", "a.wav")
    assert (entry.kind, entry.key, entry.facts["what"]) == ("left out", "too loud", "a.wav")
    assert not entry.media
    assert not entry.texts
