"""When words are said in clips: kept, and only where the clip says them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from plait.data.letters import AlignmentError
from plait.data.sources import Asset
from plait.recipes import smol
from plait.recipes import times as timing
from plait.recipes.times import times_of
from plait.tasks.dictionary.group import Group
from plait.tasks.smol import TASKS


@pytest.fixture
def heard(monkeypatch):
    """Files that were listened to; a clip says its text unless that is mumbled."""
    files = []

    def letter_times(model, encoder, part, text):
        files.append(part.value)
        if not text:
            raise AlignmentError("no words")
        return [
            (word, number, number + 0.5) for number, word in enumerate(text.split())
        ], -5.0 if text == "mumbled" else -0.1

    monkeypatch.setattr("plait.infer.timing.letter_times", letter_times)
    monkeypatch.setattr(timing, "_engine", lambda features: SimpleNamespace(model=None, encoder=None))
    return files


def test_times_are_kept_and_new_clips_alone_are_heard(tmp_path, heard):
    file, features = tmp_path / "times.json", tmp_path / "features"
    texts = {"a/1.opus": "one two", "a/2.opus": "mumbled", "a/3.opus": ""}
    known = times_of(texts, file, features, print)
    assert known == {"a/1.opus": [("one", 0, 0.5), ("two", 1, 1.5)]}
    assert heard == ["a/1.opus", "a/2.opus", "a/3.opus"]
    again = times_of({**texts, "elsewhere/4.opus": "three"}, file, features, print)
    assert set(again) == {"a/1.opus", "elsewhere/4.opus"}
    assert heard[3:] == ["elsewhere/4.opus"], "what does not say its text is not heard again"
    file.write_text(json.dumps({"by": "another", "times": {"1.opus": []}}))
    assert times_of(texts, file, features, print) == known


def clip(speaker, text):
    facts = {"language": "en", "speaker": speaker, "words": "sentence", "split": "train"}
    return Asset("spoken", "speech", text, {"speech": f"{text}.opus"}, {"en": text}, facts)


def test_what_is_said_has_the_times_of_its_words(tmp_path, heard):
    clips = smol.timed([clip("joe", "one two"), clip("slt", "three"), clip("joe", "mumbled")], tmp_path, print)
    assert heard == ["mumbled.opus", "one two.opus"]
    assert ["times" in one.facts for one in clips] == [True, False, False]
    say = next(task for task in TASKS if task.name == "say")
    samples = say.samples(Group("one two", clips[:1], np.random.default_rng(0)), say.phrasings[:1])
    (part,) = next(iter(samples)).messages[-1].parts
    assert part.options == {"words": [("one", 0, 0.5), ("two", 1, 1.5)]}
    transcribe = next(task for task in TASKS if task.name == "transcribe")
    samples = transcribe.samples(Group("one two", clips[:1], np.random.default_rng(0)), transcribe.phrasings[:1])
    assert not next(iter(samples)).messages[0].parts[0].options
