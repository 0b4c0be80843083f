"""Sources of recorded things, from tiny packages laid out as the real ones."""

import gzip
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
from PIL import Image

from plait.data.sources import clean, letters, music, nouns, prompts, stamps, syllables, voices
from plait.data.sources.recordings import hurried, seconds_of, words_of
from plait.errors import DataError, MissingError

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="60pt" height="30pt"><rect width="40" height="20" fill="red"/></svg>'
)


def written(path, content="", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def tone(path, seconds=0.5, rate=8000, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(round(seconds * rate)) / 3), rate, **settings)
    return path


def left(entries):
    return Counter(entry.key for entry in entries if entry.kind == "left out")


def of_kind(entries, kind):
    return [entry for entry in entries if entry.kind == kind]


def seen(entries):
    """What must be the same each time."""
    return [(entry.kind, entry.key, *sorted(entry.texts.items()), str(entry.facts)) for entry in entries]


def test_words_are_compared_without_case_punctuation_and_composition():
    assert clean("  Une\u00a0e\u0301toile \n") == "Une \u00e9toile"
    assert words_of("A T-Shirt!") == words_of("a t shirt") == "a t shirt"
    assert hurried("abcdefghijkl", 0.5)
    assert not hurried("abcdefghijkl ...   !", 0.6), "only letters take time"


# --- stamps ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stamped(tmp_path):
    root = tmp_path / stamps.PACKAGE.folder / "usr/share/tuxpaint/stamps"
    picture = Image.new("RGBA", (9, 9), (200, 0, 0, 255))
    for name in ("animals/birds/cartoon/crow", "animals/birds/crow_mirror", "symbols/math/7"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / f"{name}.png")
    crow = root / "animals/birds/cartoon"
    written(
        crow / "crow.txt", "A Crow!\nfr.utf8=Une  corneille e\u0301tonne\u0301e.\nsr@latin.utf8=Vrana.\npt_BR.utf8=\n"
    )
    written(crow / "crow.svg", SVG)  # a PNG goes before
    for name in ("crow", "crow_desc", "crow_desc_ca", "crow_desc_fr", "crow_desc_ru"):
        tone(crow / f"{name}.ogg", 2.0 if name.endswith("fr") else 0.2)
    written(root / "symbols/math/7.txt", "Seven.\nfr.utf8=Sept, et rien que sept.\n")
    for name in ("7", "7_fr", "7_desc_fr"):
        tone(root / f"symbols/math/{name}.ogg", 0.2)
    tone(root / "animals/insects/mosquito.ogg", 0.2)
    return root


def test_stamps_are_drawings_recorded_captions_and_sounds(stamped, tmp_path):
    entries = list(stamps.entries(tmp_path))
    crow, seven = of_kind(entries, "drawing")
    assert crow.key == "a crow"
    assert crow.texts == {"en": "A Crow!", "fr": "Une corneille \u00e9tonn\u00e9e.", "sr-Latn": "Vrana."}
    assert crow.media["picture"].suffix == ".png"
    assert crow.facts["category"] == "birds", "a folder that says how it is drawn is no category"
    assert crow.facts["top"] == "animals"
    assert seven.facts["category"] == "numbers"
    (speech,) = of_kind(entries, "speech")
    assert speech.key == crow.key
    assert speech.texts == {"fr": crow.texts["fr"]}
    assert speech.media["speech"].name == "crow_desc_fr.ogg"
    assert (speech.facts["speaker"], speech.facts["language"]) == ("stamps-fr", "fr")
    assert speech.facts["picture"] == crow.facts["picture"] == "animals/birds/cartoon/crow.png"
    (sound,) = of_kind(entries, "sound")
    assert sound.texts == {"en": "A Crow!"}
    assert sound.media == {"sound": stamped / "animals/birds/cartoon/crow.ogg", "picture": crow.media["picture"]}


def test_stamps_that_are_left_out_say_why(stamped, tmp_path):
    assert left(stamps.entries(tmp_path)) == {
        stamps.NO_CAPTION: 1,
        stamps.NO_PICTURE: 1,  # the mosquito
        stamps.NO_TEXT: 1,  # Russian
        stamps.NOT_TRUSTED: 2,  # English, Catalan
        stamps.HURRIED: 1,  # seven in French
        stamps.WORDS: 2,  # 7.ogg and 7_fr.ogg say "seven"
    }


def test_svg_stamps_are_drawn_at_one_size_whatever_their_unit(stamped, tmp_path):
    pytest.importorskip("resvg_py")
    written(stamped / "animals/fish.svg", SVG)
    written(stamped / "animals/fish.txt", "A fish.")
    drawing = next(entry for entry in stamps.entries(tmp_path) if entry.key == "a fish")
    assert drawing.media["picture"].size == (stamps.SIDE, stamps.SIDE // 2)
    assert drawing.facts["picture"] == "animals/fish.svg"
    assert seen(stamps.entries(tmp_path)) == seen(stamps.entries(tmp_path))
    written(stamped / "animals/fish.svg", "<svg")
    with pytest.raises(DataError, match=r"fish\.svg is no SVG"):
        list(stamps.entries(tmp_path))


def test_stamps_without_what_draws_svg_say_how_to_get_it(stamped, tmp_path, monkeypatch):
    written(stamped / "animals/fish.svg", SVG)
    written(stamped / "animals/fish.txt", "A fish.")
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingError, match=r"plait\[drawings\]"):
        list(stamps.entries(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("crow.txt", b"A crow.\nfr.utf8=\xff\xfe", "crow.txt is not UTF-8"),
        ("crow_desc_fr.ogg", b"noise", "crow_desc_fr.ogg is no sound file"),
    ],
)
def test_damaged_stamps_are_named(stamped, tmp_path, name, content, message):
    (stamped / "animals/birds/cartoon" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(stamps.entries(tmp_path))


def test_a_stamp_without_an_english_caption_is_left_out(stamped, tmp_path):
    written(stamped / "symbols/math/7.txt", "\nfr.utf8=Sept.\n")
    assert [entry.key for entry in of_kind(stamps.entries(tmp_path), "drawing")] == ["a crow"]


# --- prompts ---------------------------------------------------------------------------------------------------------

SAID = {
    "en": "; Core sounds: English\n\nhello: Hello there.\nagain: HELLO there!\nsilence/1: (1 second of silence)\nletters/at: at [@]\n"
    "long: A long one.\ngone: Gone.\nbeep: [a beep]\nfast: " + "very " * 20 + "\n",
    "es": "hello: Hola\ndigits/0: cero\ndigits/0: diez\n",
    "fr": 'hello: hello: Bonjour..."\nfor: Pour (emphase)\n',
    "it": "\ufeffat: a\nhello: Il [suo] ciao\nletters/at: a [@]\n",
    "ru": "hello:\nletters/at: at [@]\n",
}
VOICE = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_Ivr",
}
SECOND = bytes(8000)


@pytest.fixture
def prompted(tmp_path):
    pytest.importorskip("G722")
    for language, text in SAID.items():
        doc = tmp_path / f"asterisk-core-sounds-{language}/usr/share/doc/asterisk-core-sounds-{language}"
        written(doc / f"core-sounds-{language}.txt.gz", gzip.compress(text.encode()))
        lines = text.removeprefix("\ufeff").splitlines()
        names = {line.split(":")[0] for line in lines if line and line[0] != ";"} - {"gone"}
        for name in names | {"unlisted"}:
            written(recorded(tmp_path, language, name), SECOND * 9 if name == "long" else SECOND)
    return tmp_path


def recorded(folder, language, name):
    package = folder / f"asterisk-core-sounds-{language}-g722"
    return package / "usr/share/asterisk/sounds" / VOICE[language] / f"{name}.g722"


def test_prompts_are_recordings_with_transcripts(prompted):
    entries = list(prompts.entries(prompted))
    speech = {(entry.facts["language"], entry.facts["prompt"]): entry for entry in of_kind(entries, "speech")}
    texts = {key: entry.texts[key[0]] for key, entry in speech.items()}
    assert texts == {
        ("en", "again"): "HELLO there!",
        ("en", "hello"): "Hello there.",
        ("en", "letters/at"): "at",
        ("es", "digits/0"): "cero",
        ("es", "hello"): "Hola",
        ("fr", "for"): "Pour",
        ("fr", "hello"): "Bonjour...",
        ("it", "at"): "a",
        ("it", "letters/at"): "a",
        ("ru", "letters/at"): "at",
    }
    samples, rate = speech["en", "hello"].media["speech"]
    assert (samples.dtype, len(samples), rate) == (np.float32, 16_000, 16_000)
    assert speech["en", "hello"].facts["speaker"] == speech["es", "hello"].facts["speaker"] == "prompts-allison"
    assert [speech["en", name].facts["translatable"] for name in ("hello", "letters/at")] == [True, False]
    assert seen(entries) == seen(prompts.entries(prompted))


def test_prompts_that_say_the_same_in_a_language_have_one_key(prompted):
    keys = {entry.facts["prompt"]: entry.key for entry in prompts.entries(prompted) if entry.kind == "speech"}
    assert keys["again"] == keys["hello"] == "again"  # in English, so in all
    assert keys["at"] == keys["letters/at"] == "at"  # in Italian alone
    assert keys["for"] == "for"


def test_pairs_are_what_two_languages_say_but_no_letters(prompted):
    pairs = of_kind(prompts.entries(prompted), "pair")
    assert [(entry.key, dict(entry.texts)) for entry in pairs] == [
        ("again", {"en": "Hello there.", "es": "Hola", "fr": "Bonjour..."}),  # a note stands amid the Italian words
    ]


def test_prompts_that_are_left_out_say_why(prompted):
    assert left(prompts.entries(prompted)) == {
        prompts.NO_SPEECH: 2,
        prompts.NO_TEXT: 6,  # the unlisted ones, and an empty Russian one
        prompts.NO_RECORDING: 1,
        prompts.IN_DOUBT: 1,
        prompts.TOO_LONG: 1,
        prompts.HURRIED: 1,
    }


def test_digits_are_fetched_once_and_decoded(prompted):
    loud = bytes(range(256)) * 31
    for digit in range(10):
        written(recorded(prompted, "es", f"digits/{digit}"), loud)
    samples = prompts.digits("es", prompted)
    assert sorted(samples) == list(range(10))
    assert 0 < len(samples[3]) <= 2 * len(loud)
    assert 0 < np.abs(samples[3]).max() <= 1
    recorded(prompted, "es", "digits/4").unlink()
    with pytest.raises(DataError, match=r"no digits/4\.g722"):
        prompts.digits("es", prompted)


def test_damaged_prompts_are_named(prompted):
    path = next(prompted.glob("asterisk-core-sounds-fr/**/*.gz"))
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    with pytest.raises(DataError, match=r"core-sounds-fr\.txt\.gz cannot be read"):
        list(prompts.entries(prompted))
    path.write_bytes(data)
    for clip in prompted.glob("asterisk-core-sounds-fr-g722/**/*.g722"):
        clip.unlink()
    with pytest.raises(DataError, match=r"holds no \.g722 files"):
        list(prompts.entries(prompted))


def test_prompts_without_a_decoder_say_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "G722", None)
    with pytest.raises(MissingError, match=r"plait\[recorded\]"):
        list(prompts.entries(tmp_path))


# --- voices, letters, nouns, syllables, music ------------------------------------------------------------------------


def test_voices_are_clips_without_words(tmp_path):
    roots = [tmp_path / voice.package.folder / "usr/share/asterisk/sounds" / voice.folder for voice in voices.VOICES]
    tone(roots[0] / "digits/1.wav")
    tone(roots[0] / "long.wav", 8.1)
    for root in roots[1:]:
        tone(root / "digits/1.gsm", 1.0, format="RAW", subtype="GSM610")
        tone(root / "silence/1.gsm", 0.1, format="RAW", subtype="GSM610")
    entries = list(voices.entries(tmp_path))
    clips = of_kind(entries, "speech")
    assert [(entry.facts["speaker"], entry.facts["language"], entry.key) for entry in clips] == [
        ("voices-menardi", "it", "digits/1"),
        ("voices-armelle", "fr", "digits/1"),
        ("voices-jimenez", "es", "digits/1"),
    ]
    assert not any(entry.texts for entry in clips)
    assert clips[0].media["speech"] == roots[0] / "digits/1.wav"
    samples, rate = clips[1].media["speech"]
    assert rate == 8000
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(8000, abs=160)
    assert left(entries) == {voices.TOO_LONG: 1, voices.NO_SPEECH: 2}
    (roots[0] / "long.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"long\.wav is no sound file"):
        list(voices.entries(tmp_path))


def test_letters_are_what_the_lists_name(tmp_path):
    root = tmp_path / letters.PACKAGE.folder / "usr/share/klettres"
    listed = (
        "<klettres><language code='pt_BR'><menuitem><label>Portuguese</label></menuitem>"
        "<alphabet><sound name='A' file='pt_BR/alpha/a.ogg'/><sound name='B' file='pt_BR/alpha/b.ogg'/></alphabet>"
        "<syllables><sound name='ÇA' file='pt_BR/syllab/ca.ogg'/><sound name='CE' file='pt_BR/syllab/ca.ogg'/></syllables>"
        "</language></klettres>"
    )
    written(root / "pt_BR/sounds.xml", listed)
    for name in ("alpha/a", "alpha/spare", "syllab/ca"):
        written(root / f"pt_BR/{name}.ogg")
    entries = list(letters.entries(tmp_path))
    assert [(entry.key, dict(entry.texts), entry.facts["category"]) for entry in of_kind(entries, "speech")] == [
        ("pt-BR/a", {"pt-BR": "A"}, "letter"),
        ("pt-BR/ça", {"pt-BR": "ça"}, "syllable"),
    ]
    assert left(entries) == {letters.NO_FILE: 1, letters.TWICE: 1, letters.NO_NAME: 1}
    written(root / "pt_BR/sounds.xml", listed[:-5])
    with pytest.raises(DataError, match=r"sounds\.xml is no XML"):
        list(letters.entries(tmp_path))


def test_nouns_are_named_in_english_and_kept_once(tmp_path):
    root = tmp_path / nouns.PACKAGE.folder / "usr/share/ktuberling/sounds"
    names = (
        "bow",
        "tux-bow",
        "robot_workshop_eye",
        "egypt_palmtree",
        "prince-tux",
        "tux-huh",
        "pizzeria_olive2",
        "gone",
    )
    for theme in ("sr", "sr@latin"):
        sounds = "".join(f"<sound name='{name}' file='{theme}/{name}.ogg'/>" for name in names)
        written(root / f"{theme}.soundtheme", f"<language code='{theme}'>{sounds}</language>")
        for name in names[:-1]:
            written(root / theme / f"{name}.ogg", name)
    written(root / "sr/spare.ogg")
    written(root / "sr@latin/tux-bow.ogg", "another voice")
    entries = list(nouns.entries(tmp_path))
    assert [(entry.key, dict(entry.texts), entry.facts["language"]) for entry in of_kind(entries, "speech")] == [
        ("bow tie", {"en": "bow tie"}, "sr"),
        ("bow", {"en": "bow"}, "sr"),
        ("eye", {"en": "eye"}, "sr"),
        ("palm tree", {"en": "palm tree"}, "sr"),
        ("bow", {"en": "bow"}, "sr"),
    ]
    assert left(entries) == {nouns.NO_FILE: 2, nouns.NO_THING: 6, nouns.TWICE: 3, nouns.NO_NAME: 1}


def test_syllables_are_written_with_their_tone(tmp_path):
    root = tmp_path / syllables.PACKAGE.folder / "usr/share/gcin-voice/ogg"
    for name in ("ㄅㄚ/3", "ㄅㄚ/5", "ㄅㄚ1/3", "ㄅㄚ2/5", "ㄅㄚ3/5", "ㄅㄚ4/5"):
        written(root / f"{name}.ogg")
    entries = list(syllables.entries(tmp_path))
    assert [entry.texts["zh-Bopo"] for entry in entries] == ["ㄅㄚ", "ㄅㄚ", "˙ㄅㄚ", "ㄅㄚˊ", "ㄅㄚˇ", "ㄅㄚˋ"]
    assert [entry.facts["speaker"][-1] for entry in entries] == ["3", "5", "3", "5", "5", "5"]
    assert {entry.facts["licence"] for entry in entries if entry.facts["speaker"] == "syllables-5"} == {"CC-BY-3.0"}


def test_music_is_cut_into_pieces_of_a_tune(tmp_path):
    path = tone(tmp_path / music.PACKAGE.folder / "usr/share/asterisk/moh/tune.wav", 2.5 * music.PIECE)
    entries = list(music.entries(tmp_path))
    assert [(entry.key, entry.facts["start"]) for entry in entries] == [("tune", 0), ("tune", music.PIECE)]
    samples, rate = entries[1].media["sound"]
    tune, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(samples, tune[len(samples) : 2 * len(samples)])
    assert len(samples) == music.PIECE * rate
    path.write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"tune\.wav is no sound file"):
        list(music.entries(tmp_path))


@pytest.mark.parametrize("module", [letters, music, nouns, prompts, stamps, syllables, voices])
def test_an_empty_folder_is_no_source(module, tmp_path):
    if module is prompts:
        pytest.importorskip("G722")
    with pytest.raises(DataError, match="fetch it again"):
        list(module.entries(tmp_path))


def test_seconds_of_a_file(tmp_path):
    assert seconds_of(tone(tmp_path / "a.wav", 0.5)) == 0.5
