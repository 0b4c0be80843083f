"""What is asked aloud is answered as the language model answers it in writing."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from plait.contract import Message, Part
from plait.data.sources import Asset
from plait.errors import ConfigError, MissingError
from plait.recipes import replies as answering
from plait.recipes import smol
from plait.recipes.replies import replies, whole_sentences
from plait.tasks.dictionary import Group
from plait.tasks.smol import TASKS


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Paris. It is", "Paris."),
        ("Is it? Yes! And then", "Is it? Yes!"),
        ("One line.\nAnother.", "One line."),
        ("no end", ""),
        ("", ""),
        ("Pi is about 3.14159 and more", ""),
        ("Dr. Smith went to Mr. Jones", ""),
        ("1. Paris\n2. Rome", ""),
        ('He said "Yes." and left', 'He said "Yes."'),
        ("It is by J. R. Smith. And", "It is by J. R. Smith."),
        ("There are 3. And", "There are 3."),
    ],
)
def test_answers_end_with_a_whole_sentence(text, kept):
    assert whole_sentences(text) == kept


@dataclass
class Reply:
    message: Message
    error: Exception | None = None


class Parrot:
    """A model that says what it was asked, and counts."""

    def __init__(self):
        self.asked = []

    def generate(self, requests):
        texts = [request.messages[0].parts[0].value for request in requests]
        self.asked += texts
        return [Reply(Message("assistant", (Part("text", f"You said {text}. And"),))) for text in texts]


@pytest.fixture
def parrot(monkeypatch, tmp_path):
    parrot = Parrot()
    monkeypatch.setattr(answering, "_engine_of", lambda init: parrot)
    return parrot


def test_answers_are_kept_and_asked_for_once(parrot, tmp_path):
    model, file = "a-model", tmp_path / "replies.json"
    assert replies(model, ["one", "two", "one"], file) == {"one": "You said one.", "two": "You said two."}
    assert replies(model, ["two", "three"], file) == {"two": "You said two.", "three": "You said three."}
    assert parrot.asked == ["one", "two", "three"]
    assert json.loads(file.read_text())["replies"]["one"] == "You said one."


def test_answers_of_another_model_are_not_used(parrot, tmp_path):
    file = tmp_path / "replies.json"
    replies("a-model", ["a"], file, print)
    replies("another-model", ["a"], file, print)
    assert parrot.asked == ["a", "a"]


def test_an_answer_that_failed_is_told_and_not_kept(parrot, tmp_path, monkeypatch):
    file = tmp_path / "replies.json"
    monkeypatch.setattr(parrot, "generate", lambda requests: [Reply(Message("assistant", ()), ConfigError("no room"))])
    with pytest.raises(ConfigError, match="no room"):
        replies("a-model", ["a"], file, print)
    assert not file.exists()


def clip(text, words):
    return Asset(
        "spoken", "speech", text, {"speech": "a"}, {"en": text}, {"language": "en", "speaker": "joe", "words": words}
    )


def test_questions_and_some_sentences_are_answered(monkeypatch, tmp_path):
    monkeypatch.setattr(smol, "replies", lambda init, texts, file, say: {text: f"About {text}" for text in texts})
    clips = [clip("Why?", "question"), *(clip(f"It is {n}.", "sentence") for n in range(200)), clip("a b", "list")]
    answered = smol.answered(clips, tmp_path / "replies.json", print)
    assert [one.key for one in answered] == [one.key for one in clips]
    assert answered[0].facts["reply"] == "About Why?"
    assert "reply" not in answered[-1].facts
    assert 10 < sum("reply" in one.facts for one in answered[1:-1]) < 60
    listen = next(task for task in TASKS if task.name == "listen")
    (row,) = listen.samples(Group("Why?", answered[:1], np.random.default_rng(0)), listen.phrasings[:1])
    assert [part.type for part in row.messages[0].parts] == ["audio"]
    assert row.messages[1].parts[0].value == "About Why?"


def test_without_the_language_model_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_SOURCES", str(tmp_path / "nothing"))
    with pytest.raises(MissingError, match="fetch it first: plait import smollm2-135m-instruct"):
        answering.replies("smollm2-135m-instruct", ["a"], tmp_path / "replies.json", print)
