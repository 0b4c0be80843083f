"""Transcripts of sounds that are longer than a model reads at once, and when their words are said."""

import io

import numpy as np
import pytest
import soundfile
from conftest import serving, small_model

from plait.data.letters import AlignmentError
from plait.infer import timing
from plait.serve.openai import transcripts


def wav_of(samples):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format="WAV")
    return buffer.getvalue()


@pytest.fixture
def halves(monkeypatch):
    """A server whose model reads a second at once."""
    model = small_model()
    model.network.vocabulary.modalities["audio"].max_seconds = 1.0
    with serving({"tiny": model}) as (url, _):
        yield url, model, monkeypatch


def speech(seconds):
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal(int(seconds * 16_000))
    for start in np.arange(0.7, seconds, 0.8):
        samples[int(start * 16_000) : int((start + 0.3) * 16_000)] = 0.0
    return wav_of(samples)


def test_a_long_sound_is_heard_in_pieces(halves):
    import openai

    url, _model, monkeypatch = halves
    monkeypatch.setattr(transcripts, "hears_letters", lambda network, kind: True)
    asked = []

    def words(network, encoder, part, text):
        asked.append(text)
        if len(asked) == 2:
            raise AlignmentError("no words")
        return [("one", 0.1, 0.2), ("two", 0.3, 0.4)], -0.1

    monkeypatch.setattr(transcripts, "word_times", words)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

    def ask(**options):
        return client.audio.transcriptions.create(model="tiny", file=("a.wav", speech(2.3)), **options)

    verbose = ask(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert verbose.duration == 2.3
    assert len(verbose.segments) == 3
    starts = [segment.start for segment in verbose.segments]
    assert starts == sorted(starts)
    assert [word.word for word in verbose.words] == ["one", "two"] * 2
    assert verbose.words[0].start == 0.1
    assert verbose.words[2].start > 1.5
    assert verbose.segments[0].avg_logprob == -0.1
    assert verbose.segments[0].end == 0.4, "a piece lasts as long as its words"
    assert verbose.text == " ".join(segment.text for segment in verbose.segments)
    events = list(ask(stream=True))
    assert "".join(event.delta for event in events[:-1]) == verbose.text == events[-1].text
    assert ask(response_format="vtt").count("-->") == 3
    monkeypatch.setattr(transcripts, "LONGEST", 2)
    with pytest.raises(openai.BadRequestError, match="2 seconds; expected at most 2"):
        ask()
    monkeypatch.setattr(transcripts, "LONGEST", 600)
    monkeypatch.setattr(transcripts, "PIECES", 2)
    with pytest.raises(openai.BadRequestError, match="3 pieces between pauses"):
        ask()


def test_subtitles_number_what_is_said_alone():
    heard = [
        transcripts.Heard(None, 0.0, 2.0, "one", [("one", 0.5, 1.0)]),
        transcripts.Heard(None, 2.0, 3.0, " "),
        transcripts.Heard(None, 3.0, 3661.5, "two"),
    ]
    response = transcripts.transcript(heard, "srt", [], ["segment"])
    assert response.body.decode() == (
        "1\n00:00:00,500 --> 00:00:01,000\none\n\n2\n00:00:03,000 --> 01:01:01,500\ntwo\n"
    )


def test_a_model_without_letters_tells_no_times():
    assert not timing.hears_letters(small_model().network, "audio")
