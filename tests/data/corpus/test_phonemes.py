"""Piper's phonemes as sounds with times, and as the words of a clip."""

import pytest

from plait.data.corpus.phonemes import sounds_of, with_durations, words_of
from plait.errors import DataError
from plait.modalities.audio.sounds import sound


def timed(phonemes, step=0.1):
    return [(phoneme, round(number * step, 3)) for number, phoneme in enumerate(phonemes)]


def arpabet(*names):
    return "".join(name if name in " ,.?" else sound(name) for name in names)


def test_stress_and_length_belong_to_their_vowels_and_pairs_are_one_sound():
    sounds = sounds_of(timed("^ðoʊ ɪts tˈʌf, tʃˈiːz.$"))
    assert "".join(name for name, _ in sounds) == arpabet(
        "DH", "OW0", " ", "IH0", "T", "S", " ", "T", "AH1", "F", ",", " ", "CH", "IY1", "Z", "."
    )
    assert sounds[:4] == [
        (sound("DH"), 0.1), (sound("OW0"), 0.2), (" ", 0.4), (sound("IH0"), 0.5)
    ], "a pair begins where its first half does"  # fmt: skip
    assert sounds[8] == (sound("AH1"), 1.0), "a stressed vowel begins where its mark does"


def test_a_phoneme_that_is_not_english_is_refused():
    with pytest.raises(DataError, match="got the phoneme 'ø'"):
        sounds_of(timed("^ø$"))


def test_words_have_their_sounds_and_the_pause_behind_them():
    words = words_of("Tough, though.", sounds_of(timed("^tˈʌf, ðˈoʊ.$")), seconds=1.15)
    assert words == [
        ["Tough,", 0.1, 0.7, [0.1, 0.2, 0.4, 0.5], arpabet("T", "AH1", "F", ",")],
        ["though.", 0.7, 1.15, [0.7, 0.8, 1.1], arpabet("DH", "OW1", ".")],
    ]


def test_words_that_are_spoken_as_one_have_no_text_and_no_time_lies_outside_the_clip():
    words = words_of("Of the.", sounds_of(timed("^əvðə .$")), seconds=0.3)
    assert [word[0] for word in words] == [""]
    assert words[0][3][-1] == 0.3
    assert words[0][4][-1] == ".", "a blank before a mark is no pause of its own"


def test_a_network_without_durations_is_refused_and_one_with_them_gets_an_output_more():
    with pytest.raises(DataError, match="0 outputs"):
        with_durations(b"network")
    model = b"..\n\x0e/Ceil_output_0\x12.."
    assert with_durations(model) == model + b"\x3a\x12\x62\x10\x0a\x0e/Ceil_output_0"
