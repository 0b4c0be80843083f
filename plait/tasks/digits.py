"""The `digits` grid: handwritten digits, spoken number words in five languages, and number words to 99.

Every cell of the 3 x 3 grid has at least one task, and four tasks mix two inputs. Held out from training:

- a fifth of the pictures
- (voice, rate, pitch) settings of the speech
- a fifth of the (number, source, target) translation triples
- a fifth of the operand pairs, the same for every task that adds
- one phrasing a task
- two (digit, voice) combinations a language, for synthesis
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from plait.contract import Part
from plait.tasks.task import Item, Task

LANGUAGES = {"en": "English", "es": "Spanish", "fr": "French", "de": "German", "zh": "Chinese"}
SPOKEN_AS = {"en": "en", "es": "es", "fr": "fr", "de": "de", "zh": "cmn"}  # espeak-ng's names
VOICES = ("m1", "m3", "m7", "f1", "f2", "f4", "croak", "whisper", "klatt2", "Andy")
DIGITS = range(10)
CHINESE = "零一二三四五六七八九"
HELD_OUT_SHARE = 0.2
OPERATIONS = {"plus": lambda a, b: a + b, "minus": lambda a, b: a - b}


@cache
def word(number: int, language: str) -> str:
    """The number word for 0 to 99 in a language. Chinese, which num2words lacks, follows one rule."""
    if language == "zh":
        tens, ones = divmod(number, 10)
        if number < 10:
            return CHINESE[number]
        return ("" if tens == 1 else CHINESE[tens]) + "十" + (CHINESE[ones] if ones else "")
    from num2words import num2words

    return str(num2words(number, lang=language))


def _held_out(items: Sequence[Any], salt: int) -> frozenset[Any]:
    """A fixed fifth of `items`; it belongs to the task's definition and does not depend on a run's seed."""
    order = np.random.default_rng([2026, salt]).permutation(len(items))
    return frozenset(items[i] for i in order[: round(HELD_OUT_SHARE * len(items))])


TRIPLES = [(n, s, t) for n in range(100) for s in LANGUAGES for t in LANGUAGES if s != t]
HELD_OUT_TRIPLES = _held_out(TRIPLES, 1)
SUMS = [(a, op, b) for op in OPERATIONS for a in DIGITS for b in DIGITS if op == "plus" or a >= b]
# one set for every task that adds, in words or with a picture; never "plus one", which is what the next digit is
HELD_OUT_SUMS = _held_out([pair for pair in SUMS if pair[1:] != ("plus", 1)], 2)
STEPS = [(a, op, b) for a, op, b in SUMS if b and OPERATIONS[op](a, b) <= 9]


@cache
def held_out_combinations() -> frozenset[tuple[str, int, str]]:
    """(language, digit, voice) combinations that training never writes, two a language."""
    rng = np.random.default_rng([2026, 4])
    return frozenset(
        (language, int(digit), VOICES[voice])
        for language in LANGUAGES
        for digit, voice in zip(
            rng.choice(10, 2, replace=False), rng.choice(len(VOICES), 2, replace=False), strict=True
        )
    )


@dataclass(frozen=True)
class Picture:
    path: str
    digit: int


@dataclass(frozen=True)
class Clip:
    path: str
    digit: int
    language: str
    voice: str


class Pool:
    """Pictures and clips of one split, by their labels, and the random generator of the rows made from them.

    `varied` pictures are distorted copies: inputs only, never targets.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        clips: Sequence[Clip],
        split: str,
        rng: np.random.Generator,
        varied: Sequence[Picture] = (),
    ) -> None:
        self.split, self.rng = split, rng
        self.pictures: dict[int, list[Picture]] = {}
        self.shown: dict[int, list[Picture]] = {}
        self.clips: dict[tuple[str, int, str], list[Clip]] = {}
        for picture in pictures:
            self.pictures.setdefault(picture.digit, []).append(picture)
        for picture in (*pictures, *varied):
            self.shown.setdefault(picture.digit, []).append(picture)
        for clip in clips:
            self.clips.setdefault((clip.language, clip.digit, clip.voice), []).append(clip)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def digit(self) -> int:
        return int(self.rng.integers(10))

    def language(self) -> str:
        return str(self.pick(list(LANGUAGES)))

    def picture(self, digit: int) -> Part:
        """A picture as input; `drawing` gives targets."""
        return Part("image", self.pick(self.shown[digit]).path)

    def drawing(self, digit: int) -> Part:
        """A picture as it was scanned, as target."""
        return Part("image", self.pick(self.pictures[digit]).path)

    def clip(self, digit: int, language: str, voice: str) -> Part:
        return Part("audio", self.pick(self.clips[language, digit, voice]).path)

    def heard(self) -> tuple[Part, int, str, str]:
        """A random clip with its digit, language and voice."""
        digit, language, voice = self.digit(), self.language(), self.pick(VOICES)
        return self.clip(digit, language, voice), digit, language, voice

    def to_write(self) -> tuple[int, str, str]:
        """A (digit, language, voice) to synthesise; held-out combinations come in their own split alone."""
        held_out = sorted(held_out_combinations())
        if self.split == "combination":
            language, digit, voice = self.pick(held_out)
            return digit, language, voice
        while True:
            digit, language, voice = self.digit(), self.language(), self.pick(VOICES)
            if (language, digit, voice) not in held_out_combinations():
                return digit, language, voice

    def pick_known(self, items: Sequence[Any], held_out: frozenset[Any], held_out_split: str) -> Any:
        """One of `items`: a held-out one in `held_out_split`, another one elsewhere."""
        while True:
            item = self.pick(items)
            if (item in held_out) == (self.split == held_out_split):
                return item


def _text(value: str) -> Part:
    return Part("text", value)


def _spoken(digit: int, language: str, voice: str) -> dict[str, Any]:
    return {"digit": digit, "language": language, "speaker": voice}


def translate(pool: Pool) -> Item:
    held_out_split = "test" if pool.split != "phrasing" else "phrasing"  # unseen triples in both
    number, source, target = pool.pick_known(TRIPLES, HELD_OUT_TRIPLES, held_out_split)
    slots: dict[str, str | Part] = {
        "word": word(number, source),
        "source": LANGUAGES[source],
        "target": LANGUAGES[target],
    }
    return Item(slots, _text(word(number, target)), {"exact": word(number, target)})


def add(pool: Pool) -> Item:
    held_out = pool.split not in ("train", "dev", "seen")  # questions seen in training are a split of their own
    a, op, b = pool.pick_known(SUMS, HELD_OUT_SUMS, pool.split if held_out else "")
    result = word(OPERATIONS[op](a, b), "en")
    return Item({"a": word(a, "en"), "op": op, "b": word(b, "en")}, _text(result), {"exact": result})


def draw(pool: Pool) -> Item:
    digit = pool.digit()
    return Item({"number": word(digit, pool.language())}, pool.drawing(digit), {"digit": digit})


def say(pool: Pool) -> Item:
    digit, language, voice = pool.to_write()
    slots: dict[str, str | Part] = {"number": word(digit, "en"), "language": LANGUAGES[language], "voice": voice}
    return Item(slots, pool.clip(digit, language, voice), _spoken(digit, language, voice))


def read_digit(pool: Pool) -> Item:
    digit = pool.digit()
    return Item({"image": pool.picture(digit)}, _text(word(digit, "en")), {"digit": word(digit, "en")})


def next_digit(pool: Pool) -> Item:
    digit = pool.digit()
    after = (digit + 1) % 10
    return Item({"image": pool.picture(digit)}, pool.drawing(after), {"digit": after})


def say_picture(pool: Pool) -> Item:
    digit, language, voice = pool.to_write()
    slots: dict[str, str | Part] = {"image": pool.picture(digit), "language": LANGUAGES[language], "voice": voice}
    return Item(slots, pool.clip(digit, language, voice), _spoken(digit, language, voice))


def hear_digit(pool: Pool) -> Item:
    clip, digit, _, _ = pool.heard()
    return Item({"audio": clip}, _text(word(digit, "en")), {"digit": word(digit, "en")})


def hear_language(pool: Pool) -> Item:
    clip, _, language, _ = pool.heard()
    return Item({"audio": clip}, _text(LANGUAGES[language]), {"language": LANGUAGES[language]})


def hear_speaker(pool: Pool) -> Item:
    clip, _, _, voice = pool.heard()
    return Item({"audio": clip}, _text(voice), {"speaker": voice})


def draw_heard(pool: Pool) -> Item:
    clip, digit, _, _ = pool.heard()
    return Item({"audio": clip}, pool.drawing(digit), {"digit": digit})


def change_voice(pool: Pool) -> Item:
    digit, language, voice = pool.to_write()
    other = pool.pick([v for v in VOICES if v != voice])
    slots: dict[str, str | Part] = {"audio": pool.clip(digit, language, other), "voice": voice}
    return Item(slots, pool.clip(digit, language, voice), _spoken(digit, language, voice))


def change_language(pool: Pool) -> Item:
    digit, language, voice = pool.to_write()
    other = pool.pick([code for code in LANGUAGES if code != language])
    slots: dict[str, str | Part] = {"audio": pool.clip(digit, other, voice), "language": LANGUAGES[language]}
    return Item(slots, pool.clip(digit, language, voice), _spoken(digit, language, voice))


def step_picture(pool: Pool) -> Item:
    digit, op, by = pool.pick_known(STEPS, HELD_OUT_SUMS, "pairs")
    result = OPERATIONS[op](digit, by)
    slots: dict[str, str | Part] = {"image": pool.picture(digit), "op": op, "number": word(by, "en")}
    return Item(slots, pool.drawing(result), {"digit": result})


def name_next(pool: Pool) -> Item:
    digit = pool.digit()
    after = word((digit + 1) % 10, "en")
    return Item({"image": pool.picture(digit)}, _text(after), {"exact": after})


def name_step(pool: Pool) -> Item:
    digit, op, by = pool.pick_known(STEPS, HELD_OUT_SUMS, "pairs")
    result = word(OPERATIONS[op](digit, by), "en")
    slots: dict[str, str | Part] = {"image": pool.picture(digit), "op": op, "number": word(by, "en")}
    return Item(slots, _text(result), {"exact": result})


def same(pool: Pool) -> Item:
    clip, heard, _, _ = pool.heard()
    shown = heard if pool.rng.random() < 0.5 else pool.pick([d for d in DIGITS if d != heard])
    answer = "yes" if shown == heard else "no"
    return Item({"image": pool.picture(shown), "audio": clip}, _text(answer), {"same": answer})


def larger(pool: Pool) -> Item:
    clip, heard, _, _ = pool.heard()
    shown = pool.pick([d for d in DIGITS if d != heard])
    answer = word(max(shown, heard), "en")
    return Item({"image": pool.picture(shown), "audio": clip}, _text(answer), {"larger": answer})


TASKS = (
    Task("translate", "text->text",
         ("Translate {word} from {source} to {target}.", "{source} {word} in {target}?", "From {source} to {target}: {word}",
          "What is {word}, from {source}, in {target}?"), translate, {"exact": 0.90}),
    Task("sum", "text->text",
         ("{a} {op} {b}?", "What is {a} {op} {b}?", "{a} {op} {b} =", "Please: {a} {op} {b}."), add, extra_splits=("seen",)),
    Task("draw", "text->image",
         ("Draw {number}.", "Draw the digit {number}.", "A picture of {number}.", "A picture of the digit {number}."),
         draw, {"digit": 0.90}),
    Task("say", "text->audio",
         ("Say {number} in {language} with voice {voice}.", "{voice} says {number} in {language}.",
          "Voice {voice}, {language}: {number}", "In {language}, with voice {voice}: {number}"),
         say, {"digit": 0.85}, ("combination",)),
    Task("read", "image->text",
         ("{image} Which digit is this?", "Which digit? {image}", "{image} Read the digit.", "Read this: {image}"),
         read_digit, {"digit": 0.95}),
    Task("next", "image->image",
         ("{image} Draw the next digit.", "The next digit: {image}", "{image} What comes next?", "Draw what comes next: {image}"),
         next_digit, {"digit": 0.85}),
    Task("say-picture", "image->audio",
         ("{image} Say it in {language} with voice {voice}.", "{voice} says it in {language}: {image}",
          "{image} Voice {voice}, {language}.", "In {language}, with voice {voice}: {image}"),
         say_picture, {"digit": 0.80}, ("combination",)),
    Task("hear-digit", "audio->text",
         ("{audio} Which digit is this?", "Which digit? {audio}", "{audio} What was said?", "Read this: {audio}"),
         hear_digit, {"digit": 0.95}),
    Task("hear-language", "audio->text",
         ("{audio} Which language is this?", "Which language? {audio}", "{audio} Name the language.", "Name this language: {audio}"),
         hear_language, {"language": 0.95}),
    Task("hear-speaker", "audio->text",
         ("{audio} Which voice is this?", "Which voice? {audio}", "{audio} Who says it?", "Name this voice: {audio}"),
         hear_speaker, {"speaker": 0.95}, relative=True),
    Task("draw-heard", "audio->image",
         ("{audio} Draw it.", "Draw what was said: {audio}", "{audio} A picture of it.", "A picture of what was said: {audio}"),
         draw_heard, {"digit": 0.85}),
    Task("change-voice", "audio->audio",
         ("{audio} Say it with voice {voice}.", "{voice} says it: {audio}", "{audio} Now with voice {voice}.", "Voice {voice}: {audio}"),
         change_voice, {"digit": 0.80, "language": 0.80, "speaker": 0.80}, ("combination",)),
    Task("change-language", "audio->audio",
         ("{audio} Say it in {language}.", "In {language}: {audio}", "{audio} Now in {language}.", "The same in {language}: {audio}"),
         change_language, {"digit": 0.80, "language": 0.80, "speaker": 0.80}, ("combination",)),
    Task("step", "image+text->image",
         ("{image} {op} {number}: draw it.", "Draw {op} {number}: {image}", "{image} Draw the digit {op} {number}.",
          "{image} What is it {op} {number}?"), step_picture, {"digit": 0.85}, ("pairs",)),
    Task("name-next", "image->text",
         ("{image} Which digit is next?", "Name the next digit: {image}", "{image} In words, what comes next?",
          "Name what comes next: {image}"), name_next),
    Task("name-step", "image+text->text",
         ("{image} {op} {number} in words?", "Name {op} {number}: {image}", "{image} Which digit is it {op} {number}?",
          "{image} Name the digit {op} {number}."), name_step, extra_splits=("pairs",)),
    Task("same", "image+audio->text",
         ("{image} {audio} Is it the same digit?", "The same digit? {image} {audio}", "{audio} {image} Is it the same?",
          "Is {image} the same digit as {audio}?"), same, {"same": 0.85}),
    Task("larger", "image+audio->text",
         ("{image} {audio} Which is larger?", "Which digit is larger? {image} {audio}", "{audio} {image} The larger digit?",
          "Which is larger, {image} or {audio}?"), larger, {"larger": 0.85}),
)  # fmt: skip

BY_NAME: Mapping[str, Task] = {task.name: task for task in TASKS}
