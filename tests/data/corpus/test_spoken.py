"""Texts to speak: which, in which order, and that synthesis goes on where it stopped."""

import json
from importlib.util import find_spec
from itertools import islice

import numpy as np
import pytest
import soundfile

from plait.data.corpus import spoken
from plait.data.corpus.spoken import RATE, sentence, speak, texts_of
from plait.data.sources import Asset, flite
from plait.data.sources.espeak import Espeak
from plait.errors import DataError, MissingError

needs_pyav = pytest.mark.skipif(find_spec("av") is None, reason="needs PyAV")


def drawing(name):
    return Asset("emoji", "drawing", name, texts={"en": name})


def gloss(word, text):
    return Asset("glosses", "gloss", word, texts={"en": text}, facts={"word": word})


SPLITS = {
    "train": {
        "emoji:1": [drawing("red apple"), drawing("red apple")],
        "emoji:2": [drawing("né"), drawing("x" * 50)],
        "glosses:a": [gloss("run", "to move fast on foot; at a trot")],
        "scripture:b": [
            Asset("scripture", "pair", "b", texts={"en": "God said, \u201cLet there be light,\u201d and it was."})
        ],
        "quiz:c": [
            Asset(
                "quiz",
                "exchange",
                "c",
                facts={"question": "Who is there at 9?", "answer": "Nobody is there", "language": "en"},
            )
        ],
        "quiz:d": [
            Asset("quiz", "exchange", "d", facts={"question": "Wer ist denn da?", "answer": "x", "language": "de"})
        ],
    },
    "test": {"glosses:e": [gloss("fog", "a thick cloud near the ground")]},
}


def test_plain_english_is_taken_once_and_as_sentences():
    texts = {text.said: text for text in texts_of(SPLITS)}
    assert texts.pop("red apple").words == "name"
    assert 'God said, "Let there be light," and it was.' in texts
    assert "Nobody is there." in texts
    assert {text.split for text in texts.values()} == {"train", "test"}
    assert sum("move fast on foot" in text for text in texts) == 1
    assert not any(word in " ".join(texts) for word in ("9", "trot", "Wer", "né"))
    assert texts_of(SPLITS) == texts_of(SPLITS)


def test_lists_hold_each_word_once_a_round_and_nothing_that_is_held_out():
    texts = ["The cat and the dog", "a cat", "the CAT!", "dog, the dog's", "fog dog", "it's it's it's"]
    lists = list(spoken.word_lists(texts, np.random.default_rng(0)))
    words = [word for text in lists for word in text.said.lower().rstrip(".").split()]
    assert set(words) == {"the", "cat", "dog", "it's"}, "seldom words and single letters stay out"
    assert {words.count(word) for word in set(words)} == {spoken.ROUNDS}
    assert {text.split for text in lists} == {"train"}
    assert all(text.said[0].isupper() and text.said.endswith(".") for text in lists)


def test_what_is_held_out_is_spoken_first():
    assert texts_of(SPLITS)[0].split == "test"


@pytest.mark.parametrize("length", [1601, 1794, 15_810, 3 * RATE + 7])  # the second and third fail as a single page
@pytest.mark.parametrize("with_pyav", [pytest.param(True, marks=needs_pyav), False])
def test_clips_are_opus_of_the_same_length(tmp_path, monkeypatch, with_pyav, length):
    if not with_pyav:
        monkeypatch.setitem(__import__("sys").modules, "av", None)
    time = np.arange(length)
    samples = 0.4 * np.sin(time / 20 * (1 + time / 1e5)).astype(np.float32)
    spoken.write_opus(tmp_path / "clip.opus", samples)
    read, rate = soundfile.read(tmp_path / "clip.opus", dtype="float32")
    assert (rate, len(read)) == (RATE, len(samples))
    middle = slice(length // 8, -length // 8)
    assert np.corrcoef(samples[middle], read[middle])[0, 1] > 0.95, "neither late nor another sound"
    seconds = length / RATE
    assert 8 * (tmp_path / "clip.opus").stat().st_size < spoken.BITS_A_SECOND * (1.5 * seconds + 0.5), (
        "with its headers"
    )


def test_sentences_begin_and_end_as_such():
    assert [sentence(text) for text in ("who?", "a thing;", "Done.")] == ["Who?", "A thing.", "Done."]


@pytest.fixture
def voice(monkeypatch):
    said = []

    def synthesise(text, slowness):
        said.append(text)
        return np.sin(np.arange(int(RATE * 0.5 * slowness)) / 20).astype(np.float32), [("A", 0.1), (".", 0.2)]

    monkeypatch.setattr(spoken, "_voice", lambda sources: synthesise)

    def no_flite(sources):
        raise MissingError("more voices need Flite")

    monkeypatch.setattr(spoken, "Flite", no_flite)
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    return said


def test_synthesis_stops_at_the_hours_and_goes_on(tmp_path, voice):
    texts = texts_of(SPLITS)
    some = speak(texts, tmp_path, tmp_path, 0.9 / 3600)
    assert 1 <= len(some) < len(texts)
    before = len(voice)
    every = speak(texts, tmp_path, tmp_path, 1.0)
    assert len(every) == len(texts) == len(voice)
    assert voice[:before] == [asset.texts["en"] for asset in some]
    speak(texts, tmp_path, tmp_path, 1.0)
    assert len(voice) == len(texts)
    assert all(
        (tmp_path / json.loads(line)["file"]).is_file() for line in (tmp_path / "spoken.jsonl").read_text().splitlines()
    )
    assert all(asset.signatures["speech"] and asset.facts["speaker"] == "joe" for asset in every)
    for asset in every:
        assert [(sounds, seconds) for *_, seconds, sounds in asset.facts["sounds"]] == [("A.", [0.1, 0.2])]


def test_one_text_in_two_cases_is_spoken_once():
    splits = {"train": {"a": [drawing("warning")]}, "test": {"b": [drawing("Warning")]}}
    assert [(text.said, text.split) for text in texts_of(splits)] == [("warning", "train")]


def test_clips_of_texts_that_are_no_longer_wanted_are_left_out(tmp_path, voice):
    texts = texts_of(SPLITS)
    speak(texts, tmp_path, tmp_path, 1.0)
    moved = [spoken.Text(t.words, t.said, "dev", "elsewhere") for t in texts[1:]]
    clips = speak(moved, tmp_path, tmp_path, 1.0)
    assert [clip.texts["en"] for clip in clips] == [text.said for text in moved]
    assert {clip.facts["split"] for clip in clips} == {"dev"}, "a text's split is that of today"
    assert len(voice) == len(texts)


def test_what_espeak_spoke_and_is_held_out_now_is_spoken_by_piper(tmp_path, voice, monkeypatch):
    (text,) = robotic(1)
    (clip,) = speak([text], tmp_path, tmp_path, 1.0)
    assert clip.facts["speaker"] == "joe", "there is no espeak-ng here"
    listed = tmp_path / "spoken.jsonl"
    listed.write_text(listed.read_text().replace('"joe"', f'"{spoken.ROBOT}"'))
    (kept,) = speak([text], tmp_path, tmp_path, 1.0)
    (anew,) = speak([spoken.Text("sentence", text.said, "test", "g")], tmp_path, tmp_path, 1.0)
    assert (kept.facts["speaker"], anew.facts["speaker"]) == (spoken.ROBOT, "joe")
    assert len(voice) == 2


def test_a_clip_of_training_that_sounds_like_a_held_out_one_is_dropped():
    def clip(split, signature):
        facts = {"split": split}
        return Asset("spoken", "speech", "key", facts=facts, signatures={"speech": f"{signature:x}"})

    far = (1 << 300) - 1
    clips = [clip("train", 0), clip("train", far), clip("test", 0b111), clip("dev", 1 << 400)]
    assert spoken.without_copies(clips) == [clips[2], clips[3], clips[1]]
    assert spoken.without_copies(clips[:2]) == clips[:2]


@pytest.fixture
def other_voices(monkeypatch):
    """Stand-ins for espeak-ng and Flite; what they were asked for."""
    asked = []

    class Statistical:
        def __init__(self, sources):
            pass

        def say(self, text, name, stretch, pitch):
            asked.append((text, name))
            return np.sin(np.arange(RATE) / 9).astype(np.float32) / 100

    class Robot:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            asked.append("closed")

        def say(self, text, name, rate, pitch):
            asked.append((text, name))
            return np.sin(np.arange(RATE) / 9).astype(np.float32) / 100

    monkeypatch.setattr(spoken, "Espeak", Robot)
    monkeypatch.setattr(spoken, "Flite", Statistical)
    return asked


def test_five_eighths_of_what_is_taught_are_spoken_in_other_voices(tmp_path, voice, other_voices):
    texts = [
        spoken.Text(words, f"{words} {split} {n}.", split, "g")
        for n in range(300)
        for words in ("sentence", "name")
        for split in ("train", "test")
    ]
    every = speak(texts, tmp_path, tmp_path, 1.0)
    robotic = [asset for asset in every if asset.facts["speaker"] == spoken.ROBOT]
    statistical = [asset for asset in every if asset.facts["speaker"].startswith("flite-")]
    assert 20 < len(robotic) < 60
    assert 110 < len(statistical) < 190
    assert {asset.facts["speaker"] for asset in statistical} == {f"flite-{name}" for name in flite.VOICES}
    assert all(asset.texts["en"].startswith("sentence train") for asset in robotic + statistical)
    assert all("CC0" not in asset.facts["licence"] for asset in robotic + statistical)
    assert len({name for _, name in other_voices[:-1]}) > 10
    assert other_voices[-1] == "closed"
    assert len(voice) + len(robotic) + len(statistical) == len(every) == len(texts)
    for asset in (robotic[0], statistical[0]):
        level, _ = spoken.soundfile.read(asset.media["speech"])
        assert np.sqrt(2 * np.mean(level**2)) == pytest.approx(spoken.PEAK, rel=0.1), "a tone of that peak"


def test_what_another_voice_cannot_speak_is_said_and_spoken_by_piper(tmp_path, voice, other_voices, monkeypatch):
    def fails(self, text, *settings):
        raise DataError(f"said nothing for {text}")

    monkeypatch.setattr(spoken.Espeak, "say", fails)
    monkeypatch.setattr(spoken.Flite, "say", fails)
    lines = []
    texts = [spoken.Text("sentence", f"sentence {n}.", "train", "g") for n in range(60)]
    every = speak(texts, tmp_path, tmp_path, 1.0, lines.append)
    assert len(every) == len(voice) == 60
    assert len(lines) > 20
    assert all("spoken by Piper instead: said nothing for sentence" in line for line in lines)


def test_without_others_one_voice_speaks_everything_and_that_is_said(tmp_path, voice):
    lines = []
    texts = [spoken.Text("sentence", f"sentence {n}.", "train", "g") for n in range(30)]
    every = speak(texts, tmp_path, tmp_path, 1.0, lines.append)
    assert {asset.facts["speaker"] for asset in every} == {"joe"}
    assert sorted(lines) == [
        "fewer voices: more voices need Flite",
        "fewer voices: synthetic speech needs espeak-ng: python -m pip install espeakng-loader",
    ]


def test_without_piper_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "piper", None)
    with pytest.raises(MissingError, match=r"python -m pip install piper-tts"):
        speak(texts_of(SPLITS), tmp_path, tmp_path, 1.0)


@pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="needs espeak-ng")
@pytest.mark.parametrize("voice", [accent + timbre for accent in spoken.ACCENTS for timbre in spoken.TIMBRES[::6]])
def test_espeak_has_the_voices_that_are_named(voice):
    with Espeak() as program:
        assert len(program.say("One.", voice, 150, 50)) > RATE / 10


def robotic(number):
    """Texts that are spoken by espeak-ng, so that no voice need be fetched."""
    texts = (spoken.Text("sentence", f"The fog is number {n}.", "train", "g") for n in range(10_000))
    return list(islice((text for text in texts if spoken._turn(text) == spoken.ROBOT), number))


def test_several_processes_speak_the_same_in_the_same_order(tmp_path):
    texts = robotic(20)
    alone, together = (speak(texts, tmp_path / str(workers), tmp_path, 1.0, workers=workers) for workers in (1, 2))
    assert [asset.texts["en"] for asset in together] == [text.said for text in texts]
    for one, other in zip(alone, together, strict=True):  # espeak-ng's samples depend a little on what it said before
        assert one.texts == other.texts
        assert (one.facts, one.key) == (other.facts, other.key)
        first, second = (spoken.soundfile.read(asset.media["speech"])[0] for asset in (one, other))
        assert len(first) == pytest.approx(len(second), rel=0.05)


def test_several_processes_stop_at_the_hours_and_go_on(tmp_path):
    texts = robotic(40)
    some = speak(texts, tmp_path, tmp_path, 5 / 3600, workers=2)
    assert 1 <= len(some) < len(texts)
    every = speak(texts, tmp_path, tmp_path, 1.0, workers=2)
    assert [asset.texts["en"] for asset in every] == [text.said for text in texts]


def test_what_a_process_lacks_is_said_as_by_one(tmp_path, monkeypatch):
    hidden = tmp_path / "hidden" / "piper"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')\n")
    monkeypatch.syspath_prepend(hidden.parent)
    monkeypatch.setattr(spoken, "unpacked", lambda *package: None)
    with pytest.raises(MissingError, match="pip install piper-tts"):
        speak([spoken.Text("name", "fog", "train", "g")], tmp_path / "clips", tmp_path, 1.0, workers=2)
