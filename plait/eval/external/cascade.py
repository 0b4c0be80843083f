"""The baseline that a user would build instead of one model: a recogniser, a language model and a voice in a row.

The last message's modalities choose the route:

    text -> text     SmolLM2 answers                audio -> text         Whisper transcribes
    text -> audio    Piper reads the text aloud     audio + text -> text  Whisper, SmolLM2
                                                    audio -> audio        Whisper, SmolLM2, Piper
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plait.contract import Message, Part
from plait.errors import DataError
from plait.eval.external.recogniser import EnglishRecogniser
from plait.eval.external.speaker import Piper
from plait.eval.external.words import SmallLanguageModel
from plait.modalities.audio.measure import waveform
from plait.modalities.audio.mel import RATE

MAX_TOKENS = 64


@dataclass
class Seconds:
    """Seconds of each stage; 0 for a stage that did not run."""

    hear: float = 0.0
    think: float = 0.0
    speak: float = 0.0

    @property
    def total(self) -> float:
        return self.hear + self.think + self.speak


class Cascade:
    """The three models with their weights, fetched into `folder` when the object is made.

    `seconds` are those of the last answer. Raises MissingError without one of their packages, otherwise as `unpacked` does.
    """

    def __init__(self, folder: Path, max_tokens: int = MAX_TOKENS, threads: int = 1) -> None:
        self.recogniser = EnglishRecogniser(folder, threads)
        self.model = SmallLanguageModel(folder)
        self.voice = Piper(folder, threads)
        self.max_tokens = max_tokens
        self.seconds = Seconds()

    def answer(self, question: tuple[Message, ...], to: str) -> Part | None:
        """Answers in the modality `to`; None for what the cascade cannot do: pictures, and speech without words.

        If the last message is audio alone it is transcribed; if it is text alone and `to` is audio it is read aloud. Everything
        else goes to the language model as written and transcribed words. Raises RowError for a recording that cannot be read.
        """
        self.seconds = Seconds()
        kinds = {part.type for message in question for part in message.parts}
        if not kinds or not kinds | {to} <= {"text", "audio"}:
            return None
        last = question[-1].parts
        recordings = tuple(part for part in last if part.type == "audio")
        if to == "text":
            return Part("text", self._words(last) if len(recordings) == len(last) else self._think(question))
        return self._speak(self._think(question) if recordings else self._words(last))

    def _words(self, parts: Sequence[Part]) -> str:
        """The written words and the transcripts of some parts, in order."""
        return " ".join(str(part.value) if part.type == "text" else self._hear(part) for part in parts).strip()

    def _hear(self, part: Part) -> str:
        with self._timed("hear"):
            return self.recogniser.transcribe([(waveform(part), RATE)])[0]

    def _think(self, question: tuple[Message, ...]) -> str:
        messages = [{"role": message.role or "user", "content": self._words(message.parts)} for message in question]
        with self._timed("think"):
            return self.model.reply(messages, self.max_tokens)

    def _speak(self, text: str) -> Part | None:
        with self._timed("speak"):
            try:
                return Part("audio", self.voice.say(text))
            except DataError:  # there is nothing in it to say
                return None

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        setattr(self.seconds, stage, getattr(self.seconds, stage) + time.perf_counter() - begin)
