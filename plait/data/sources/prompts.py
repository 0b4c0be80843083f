"""Recorded telephone prompts of Asterisk in five languages with transcripts: four studio voices, 16 kHz.

Debian's `asterisk-core-sounds-LANGUAGE` has the transcripts (`core-sounds-LANGUAGE.txt.gz`, `PROMPT: WORDS` a line, `;`
before comments), `asterisk-core-sounds-LANGUAGE-g722` the recordings (`PROMPT.g722`, ITU-T G.722 at 64 kbit/s). One voice,
Allison Smith's, speaks English and Spanish. Most Spanish transcripts are written without accents.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from plait.data.sources import Entry, Source, clean, left_out
from plait.data.sources.espeak import trim
from plait.data.sources.fetch import Package, unpacked
from plait.data.sources.recordings import MOST_SECONDS, hurried, words_of
from plait.errors import DataError, MissingError

RATE = 16_000
BYTES_A_SECOND = 8_000
VERSION = "1.6.1-1"
HASHES = {  # of the transcripts, of the recordings
    "en": ("973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50", "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806"),
    "es": ("9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74", "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8"),
    "fr": ("04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056", "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0"),
    "it": ("3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b", "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016"),
    "ru": ("28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab", "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b"),
}  # fmt: skip
LANGUAGES = tuple(HASHES)
TEXTS = {
    language: Package("apt", f"asterisk-core-sounds-{language}", VERSION, HASHES[language][0]) for language in LANGUAGES
}
CLIPS = {
    language: Package("apt", f"asterisk-core-sounds-{language}-g722", VERSION, HASHES[language][1])
    for language in LANGUAGES
}

SOURCE = Source(
    name="prompts",
    what="recorded telephone prompts with transcripts in English, Spanish, French, Italian and Russian",
    packages=(*TEXTS.values(), *CLIPS.values()),
    licence="CC BY-SA 3.0 (en, es, fr), CC BY 3.0 (it, ru)",
    attribution=(
        "Asterisk core sounds, by Digium: spoken by Allison Smith (English, Spanish), June Wallack (French), Carlo Flora "
        "(Italian), and the voice of Maxim Topal's IvrvoiceRU (Russian)"
    ),
    public="https://downloads.asterisk.org/pub/telephony/sounds/",
    size=70,
    share_alike=True,
)

# prompts that are no speech, besides those in silence/
SOUNDS = ("ascending-2tone", "beep", "beeperr", "confbridge-join", "confbridge-leave", "descending-2tone", "tt-monkeys")
SPELLING = ("letters/", "phonetic/")  # names of letters are no translations of each other

# reasons to leave out
NO_SPEECH = "a tone, noise or silence"
NO_TEXT = "a recording without a transcript"
NO_RECORDING = "a transcript without a recording"
IN_DOUBT = "a transcript with a note amid its words, which may be spoken"
TOO_LONG = f"a recording of more than {MOST_SECONDS:.0f} s"
HURRIED = "a recording too short for its transcript"

_NOTE = re.compile(r"[\[(<][^\])>]*[\])>]\.?")


def is_speech(prompt: str) -> bool:
    """Whether a prompt is speech rather than a tone, noise or silence."""
    return prompt not in SOUNDS and not prompt.startswith("silence/")


def _decoder() -> Callable[[bytes], np.ndarray]:
    """A decoder from G.722 to [n] float32 samples at 16 kHz. Raises MissingError."""
    try:
        from G722 import G722
    except ImportError as error:
        raise MissingError(
            "the recorded prompts are G.722; to decode them: python -m pip install 'plait[recorded]'"
        ) from error
    return lambda data: np.asarray(G722(RATE, 8 * BYTES_A_SECOND).decode(data), np.float32) / 32768.0


def digits(language: str, cache: Path) -> dict[int, np.ndarray]:
    """Digit -> [n] float32 samples at 16 kHz, downloaded. Raises MissingError or DataError when that fails."""
    decode, folder = _decoder(), unpacked(CLIPS[language], cache)
    samples = {}
    for digit in range(10):
        paths = sorted(folder.glob(f"usr/share/asterisk/sounds/*/digits/{digit}.g722"))
        if not paths:
            raise DataError(
                f"{folder.name} holds no digits/{digit}.g722; expected the prompts of Asterisk's core sounds"
            )
        samples[digit] = trim(decode(paths[0].read_bytes()))
    return samples


def _transcripts(folder: Path, language: str) -> dict[str, str]:
    """The written words of each prompt. Raises DataError."""
    package = TEXTS[language]
    path = folder / package.folder / "usr" / "share" / "doc" / package.name / f"core-sounds-{language}.txt.gz"
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete its package and fetch it again") from error
    transcripts: dict[str, str] = {}
    for prompt, colon, text in (line.partition(":") for line in lines if not line.startswith(";")):
        if colon and clean(text):
            # the first one counts: the Spanish list has digits/0 again where it means digits/10
            transcripts.setdefault(prompt.strip(), clean(text))
    return transcripts


def _spoken(prompt: str, written: str) -> str:
    """A transcript without notes and unpaired quotation marks; empty where a note stands amid the words."""
    text = written.removeprefix(f"{prompt}:")
    notes = [(note, text[note.end() :]) for note in _NOTE.finditer(text)]
    if any(words_of(note.group()) and words_of(_NOTE.sub("", after)) for note, after in notes):
        return ""
    text = _NOTE.sub("", text)
    return clean(text if text.count('"') % 2 == 0 else text.replace('"', ""))


def _keys(spoken: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """For each prompt the first prompt with the same words in some language, so that splits keep them together."""
    leader: dict[str, str] = {}

    def first_of(prompt: str) -> str:
        while leader.setdefault(prompt, prompt) != prompt:
            prompt = leader[prompt]
        return prompt

    for texts in spoken.values():
        seen: dict[str, str] = {}
        for prompt, text in sorted(texts.items()):
            first, later = sorted((first_of(prompt), first_of(seen.setdefault(words_of(text), prompt))))
            leader[later] = first
    return {prompt: first_of(prompt) for prompt in leader}


def _clips(folder: Path, language: str) -> tuple[str, dict[str, Path]]:
    """The speaker, after the voice's folder (es_MX_f_Allison), and recordings by prompt. Raises DataError."""
    sounds = folder / CLIPS[language].folder / "usr" / "share" / "asterisk" / "sounds"
    paths = sorted(sounds.glob("*/**/*.g722"))
    if not paths:
        raise DataError(f"{sounds} holds no .g722 files; expected Asterisk's core sounds: delete it and fetch it again")
    voice = paths[0].relative_to(sounds).parts[0]
    clips = {path.relative_to(sounds / voice).with_suffix("").as_posix(): path for path in paths}
    return f"prompts-{voice.rpartition('_')[2].lower()}", clips


def _why_not(prompt: str, path: Path | None, listed: bool, text: str) -> str:
    """The reason to leave a prompt out; empty for a good one."""
    if not is_speech(prompt):
        return NO_SPEECH
    if path is None:
        return NO_RECORDING
    if not listed:
        return NO_TEXT
    if not text:
        return IN_DOUBT
    seconds = path.stat().st_size / BYTES_A_SECOND
    return TOO_LONG if seconds > MOST_SECONDS else HURRIED if hurried(text, seconds) else ""


def entries(folder: Path) -> Iterator[Entry]:
    """Recordings language by language, decoded one at a time, then the words of prompts in several languages as pairs.

    `facts["translatable"]` is false for names of letters, which make no pairs. Raises DataError for damaged data, MissingError
    without a decoder of G.722.
    """
    decode = _decoder()
    written = {language: _transcripts(folder, language) for language in LANGUAGES}
    spoken = {
        language: {
            prompt: words for prompt, text in texts.items() if is_speech(prompt) and (words := _spoken(prompt, text))
        }
        for language, texts in written.items()
    }
    keys = _keys(spoken)
    for language in LANGUAGES:
        speaker, clips = _clips(folder, language)
        for prompt in sorted({*clips, *written[language]}):
            path, text = clips.get(prompt), spoken[language].get(prompt, "")
            reason = _why_not(prompt, path, prompt in written[language], text)
            if reason or path is None:
                yield left_out(reason, f"{language} {prompt}")
                continue
            facts = {
                "speaker": speaker,
                "language": language,
                "prompt": prompt,
                "translatable": not prompt.startswith(SPELLING),
            }
            clip = (decode(path.read_bytes()), RATE)
            yield Entry("speech", keys[prompt], {"speech": clip}, {language: text}, facts)
    for prompt in sorted(keys):
        texts = {language: spoken[language][prompt] for language in LANGUAGES if prompt in spoken[language]}
        if len(texts) > 1 and not prompt.startswith(SPELLING):
            yield Entry("pair", keys[prompt], {}, texts, {"prompt": prompt})
