"""What is said is told: by the caller, by the question, or by what the model writes first."""

import numpy as np
import pytest
from worlds import SETTINGS, TINY, WORDS, text

from plait import registry
from plait.contract import Message, Part
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.infer.spoken import all_answered, answered, as_read, told
from plait.model.multimodal import MultimodalTransformer


def asking(words, to=None, **options):
    return Request((Message("user", (Part("text", words),)),), to=to, max_tokens=30, **options)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Say this for me: good morning.", "good morning."),
        ('Could you please read aloud: "Hello there."', "Hello there."),
        ("say “hello”.", "hello"),
        ('Please, say "hello" out loud, please!', "hello"),
        ("Let me hear this: Magnifying Glass", "Magnifying Glass"),
        ('Say: "hello" and "bye"', '"hello" and "bye"'),
        ('Say "hello" in French', ""),
        ("Say hello", ""),
        ("Tell me: what is rain?", ""),
        ("Say:", ""),
        ("Say: ...", ""),
        ("Essay: on rain", ""),
        ("", ""),
        ("Say it is 10:30 now", ""),
        ("Say https://example.com", ""),
        ("Say in one word: what is the capital of France?", ""),
        ("Say yes or no: is the sky blue?", ""),
        ("Read the following and answer the question: What is 2+2?", ""),
        ("Read this and summarise it: long text", ""),
        ("Say hi. Then tell me: why is the sky blue?", ""),
        ("Speak to me about dogs: what are they?", ""),
        ('Read me a story about "Bob"', ""),
        ('Say the opposite of "hot"', ""),
        ('Can you say what color is "red"?', ""),
        (f"Say: {'a ' * 3000}", ""),
    ],
)
def test_a_question_tells_what_to_say_after_a_colon_or_in_quotation_marks(question, said):
    parts = (Part("text", question),) if question else (Part("text", question), Part("image", b""))
    assert told(Request((Message("user", parts),)), "audio") == said


def test_the_caller_tells_before_the_question_does():
    assert told(asking("Say: one", options={"audio": {"say": "two"}}), "audio") == "two"


@pytest.fixture(scope="module")
def engine():
    modalities = registry.build_all({**SETTINGS, "audio": {**SETTINGS["audio"], "letters": True, "max_seconds": 1.0}})
    modalities["text"].fit([text(word) for word in WORDS])
    return Engine(MultimodalTransformer(TINY, Vocabulary(modalities), seed=0))


def opens(monkeypatch, name):
    """Answers that the model chooses the modality of begin with `name`."""
    legal = Vocabulary.legal

    def opening(vocabulary, to):
        opener = next(index for index, opened in vocabulary.openers.items() if opened == name)
        return np.array([opener]) if to is None else legal(vocabulary, to)

    monkeypatch.setattr(Vocabulary, "legal", opening)


def test_an_answer_in_sound_has_its_words_beside_it(engine):
    answer = answered(engine, asking("Say: one two.", "audio"))
    assert [part.type for part in answer.message.parts] == ["audio", "text"]
    assert answer.message.parts[1].value == "one two."
    (written,) = engine.generate([asking("what is this?", "text")])
    spoken = answered(engine, asking("what is this?", "audio"))
    assert spoken.message.parts[1].value == written.message.parts[0].value


def test_a_long_text_is_said_in_pieces_as_one_sound(engine):
    def seconds(words):
        (sound, _) = answered(engine, asking("x", "audio", options={"audio": {"say": words}})).message.parts
        return len(sound.value[0]) / sound.value[1]

    short = "a sentence that is long enough to be a piece of its own, or nearly so, I hope."
    assert seconds(f"{short} {short}") == pytest.approx(2 * seconds(short), rel=0.01)


def test_what_the_model_begins_to_say_is_written_first(engine, monkeypatch):
    (written,) = engine.generate([asking("what is this?", "text")])
    opens(monkeypatch, "audio")
    (begun,) = engine.generate([asking("what is this?")])
    assert (begun.to_say, begun.reason, begun.message.parts) == ("audio", "stop", ())
    answer = answered(engine, asking("what is this?"))
    assert [part.type for part in answer.message.parts] == ["text", "audio"]
    assert answer.message.parts[0].value == written.message.parts[0].value
    quoted = answered(engine, asking("Say: one two."))
    assert quoted.message.parts[0].value == "one two."


def test_what_cannot_be_told_is_answered_as_ever(engine, monkeypatch):
    opens(monkeypatch, "image")
    answer = answered(engine, asking("what is this?"))
    assert (answer.to_say, {part.type for part in answer.message.parts}) == ("", {"image"})


def test_many_requests_are_answered_those_to_be_said_too(engine, monkeypatch):
    opens(monkeypatch, "audio")
    asked = [
        asking("Say: one.", "audio"),
        asking("what is this?", "text"),
        asking("what is this?"),
        asking("x", "image"),
    ]
    alone = [answered(engine, request).message.parts[-1] for request in asked]
    together = all_answered(engine, asked)
    for one, answer in zip(alone, together, strict=True):
        last = answer.message.parts[-1]
        assert last.value == one.value if one.type == "text" else last.type == one.type
    types = [[part.type for part in answer.message.parts] for answer in all_answered(engine, asked)]
    assert types == [["audio", "text"], ["text"], ["text", "audio"], ["image"]]


def test_tokens_and_log_probabilities_are_those_of_the_question_and_of_all_that_was_written(engine, monkeypatch):
    length = engine.prompt_length(asking("Say: one two."))
    quoted = answered(engine, asking("Say: one two.", "audio"))
    assert sum(quoted.usage.asked.values()) == length
    opens(monkeypatch, "audio")
    written = answered(engine, asking("what is this?", "text", logprobs=2))
    begun = answered(engine, asking("what is this?", logprobs=2))
    assert len(begun.logprobs) == len(written.logprobs) > 0


def test_an_error_is_the_answers(engine):
    failed = answered(engine, asking("what is this?", "audio"), longest=1)
    assert isinstance(failed.error, ConfigError)


def test_earlier_sounds_are_read_as_their_words(engine):
    sound = Part("audio", (np.zeros(16_000, np.float32), 16_000))
    words = Part("text", "one")
    history = (Message("user", (sound, words)), Message("assistant", (sound, words)), Message("assistant", (sound,)))
    read = as_read(engine.model, history)
    assert [[part.type for part in message.parts] for message in read] == [["audio", "text"], ["text"], ["audio"]]
