"""The recipes of docs/fine-tuning.md, from nothing to their figures: twenty words and one voice for the demo, thirty pictures for smol.

python benchmarks/make_it_yours.py words runs/demo --to work/words
python benchmarks/make_it_yours.py voice runs/demo --to work/voice
python benchmarks/make_it_yours.py pictures smol --to work/pictures --drawings data/smol

Makes the rows (espeak-ng, Flite's slt, or drawings of smol's held-out things under names of products), fine-tunes as `plait finetune`
does, measures before and after on rows of their own, and runs the guard. What stands behind the names is passed on:
`--choices '{"full": true}' steps=400`. Judges that had no part in it: PocketSphinx that listens for the twenty words alone, Whisper
tiny.en, the GE2E encoder of voices.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plait import api
from plait.contract import Message, Part
from plait.errors import ConfigError
from plait.eval.external import needed
from plait.eval.external.recogniser import EnglishRecogniser
from plait.infer.request import Request
from plait.modalities.audio.measure import waveform
from plait.modalities.audio.mel import RATE
from plait.modalities.audio.voices import direction

WORDS = [
    "apple",
    "basket",
    "candle",
    "dolphin",
    "elephant",
    "feather",
    "garden",
    "hammer",
    "island",
    "jacket",
    "kitchen",
    "lemon",
    "mountain",
    "needle",
    "orange",
    "pencil",
    "rabbit",
    "saddle",
    "tiger",
    "window",
]
VOICES = ("en-us+m2", "en-us+m5", "en-us+m6", "en-us+f1", "en-us+f3", "en-us+f4")
OTHER_VOICES = ("en-us+f5", "en-us+m7")
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
STRETCHES, OTHER_STRETCH = (1.0, 1.2), 1.1  # lengths of Flite's clips
PRODUCTS = [
    "Aurora",
    "Bolt",
    "Cosmo",
    "Delta",
    "Ember",
    "Fable",
    "Gusto",
    "Halo",
    "Indigo",
    "Jumbo",
]  # names which say nothing of what is drawn
STYLES = ("fluent-color", "noto", "twemoji")
OTHER_STYLES = ("fluent-flat", "openmoji", "fluent-3d")
WHICH_WORD, SAY_WORD = "Which word is this?", "Say the word {}."
SAY_DIGIT = "Say {} in English with voice slt."
WHICH_PRODUCT = "Which of our products is this?"


def row(task: str, *parts: Any, answer: Any) -> dict[str, Any]:
    """A row of one question and its answer; a path is a picture or a clip."""
    return {
        "task": task,
        "messages": [
            {"role": "user", "content": [_part(part) for part in parts]},
            {"role": "assistant", "content": [_part(answer)]},
        ],
    }


def _part(value: Any) -> dict[str, str]:
    kind = "text" if isinstance(value, str) else "audio" if value.suffix == ".wav" else "image"
    return {"type": kind, kind: str(value)}


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(one)}\n" for one in rows), encoding="utf-8")


def make_words(folder: Path, drawings: Path | None) -> None:
    """A hundred and twenty clips, heard and said; forty of two more voices to test."""
    rows: dict[str, list[Any]] = {"train": [], "test": []}
    for split, voices in (("train", VOICES), ("test", OTHER_VOICES)):
        for voice in voices:
            for word in WORDS:
                clip = Path("media") / f"{voice}-{word}.wav"
                (folder / "media").mkdir(parents=True, exist_ok=True)
                subprocess.run(["espeak-ng", "-v", voice, "-w", str(folder / clip), word], check=True)
                rows[split].append(row("hear-word", clip, WHICH_WORD, answer=word))
                if split == "train":
                    rows[split].append(row("say-word", SAY_WORD.format(word), answer=clip))
    for split, of_split in rows.items():
        write(of_split, folder / f"{split}.jsonl")


def make_voice(folder: Path, drawings: Path | None) -> None:
    """Twenty clips of slt, ten of another length to test."""
    for split, stretches in (("train", STRETCHES), ("test", (OTHER_STRETCH,))):
        rows = []
        for stretch in stretches:
            for digit in DIGITS:
                clip = Path("media") / f"{digit}-{stretch}.wav"
                (folder / "media").mkdir(parents=True, exist_ok=True)
                told = ["-voice", "slt", "--setf", f"duration_stretch={stretch}", "-t", digit, "-o", str(folder / clip)]
                subprocess.run(["flite", *told], check=True)
                rows.append(row("say-digit", SAY_DIGIT.format(digit), answer=clip))
        write(rows, folder / f"{split}.jsonl")


def make_pictures(folder: Path, drawings: Path | None) -> None:
    """Ten products in three drawings each, all other styles of them to test. No drawing of these things is in smol's training rows."""
    if drawings is None:
        raise ConfigError("got no --drawings; expected the folder that plait data build smol wrote")
    lines = (drawings / "labelled-test.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = {json.loads(line)["meta"]["labels"]["concept"] for line in lines}
    collected = drawings / "collected" / "emoji"
    of_concept: dict[str, dict[str, str]] = defaultdict(dict)
    for line in (collected / "assets.jsonl").read_text(encoding="utf-8").splitlines():
        asset = json.loads(line)
        concept = f"emoji:{asset['facts'].get('code')}"
        if asset["kind"] == "drawing" and concept in held_out and not asset["facts"].get("tone"):
            of_concept[concept].setdefault(asset["facts"]["style"], asset["media"]["picture"])
    whole = [styles for _, styles in sorted(of_concept.items()) if {*STYLES, *OTHER_STYLES} <= set(styles)]
    chosen = np.random.default_rng(1).permutation(len(whole))[: len(PRODUCTS)]
    (folder / "media").mkdir(parents=True, exist_ok=True)
    for split, styles in (("train", STYLES), ("test", OTHER_STYLES)):
        rows = []
        for product, number in zip(PRODUCTS, chosen, strict=True):
            for style in styles:
                picture = Path("media") / f"{product}-{style}.png"
                (folder / picture).write_bytes((collected / whole[int(number)][style]).read_bytes())
                rows.append(row("product", picture, WHICH_PRODUCT, answer=f"{product}."))
        write(rows, folder / f"{split}.jsonl")


def answers(model: api.Model, questions: Sequence[Sequence[Part]], to: str, **settings: Any) -> list[Part | None]:
    """What the model answers to each question, in one modality; None where it fails."""
    asked = model.usual | settings
    requests = [
        Request((Message("user", tuple(parts)),), to=to, seed=number, **asked) for number, parts in enumerate(questions)
    ]
    return [
        answer.message.parts[-1] if answer.error is None and answer.message.parts else None
        for answer in model.generate_all(requests)
    ]


def tests_of(folder: Path) -> list[tuple[list[Part], str]]:
    """Questions and what is to be answered of the rows to test."""
    pairs = []
    for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines():
        question, answer = json.loads(line)["messages"]
        parts = [
            Part(part["type"], part["text"] if part["type"] == "text" else str(folder / part[part["type"]]))
            for part in question["content"]
        ]
        [said] = answer["content"]
        pairs.append((parts, said[said["type"]]))
    return pairs


def named(model: api.Model, folder: Path) -> dict[str, str]:
    """Answers in words that are right, to the letter."""
    pairs = tests_of(folder)
    given = answers(model, [parts for parts, _ in pairs], "text", temperature=0.0)
    right = sum(part is not None and part.value == wanted for part, (_, wanted) in zip(given, pairs, strict=True))
    return {"named right": f"{right} of {len(pairs)}"}


class WordSpotter:
    """PocketSphinx that knows the twenty words and nothing else."""

    def __init__(self) -> None:
        library = needed("pocketsphinx")
        with tempfile.TemporaryDirectory() as folder:
            grammar = Path(folder) / "words.gram"
            grammar.write_text(f"#JSGF V1.0;\ngrammar words;\npublic <word> = {' | '.join(WORDS)};\n")
            self._decoder = library.Decoder(samprate=RATE, loglevel="FATAL", cmn="batch", lm=None, jsgf=str(grammar))

    def heard(self, samples: np.ndarray) -> str:
        """The word that it hears in [n] samples of RATE; "" if none."""
        padded = np.pad(samples, RATE // 4)
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw((np.clip(padded, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis is not None else ""


def measure_words(model: api.Model, folder: Path) -> dict[str, str]:
    """Heard right; said, then heard by the model itself and by PocketSphinx, beside real clips."""
    said = answers(model, [[Part("text", SAY_WORD.format(word))] for word in WORDS for _ in range(2)], "audio")
    wanted = [word for word in WORDS for _ in range(2)]
    again = answers(
        model,
        [[part, Part("text", WHICH_WORD)] if part else [Part("text", "")] for part in said],
        "text",
        temperature=0.0,
    )
    spotter = WordSpotter()
    by_sphinx = sum(
        part is not None and spotter.heard(waveform(part)) == word for part, word in zip(said, wanted, strict=True)
    )
    by_itself = sum(part is not None and part.value == word for part, word in zip(again, wanted, strict=True))
    real = [(waveform(parts[0]), word) for parts, word in tests_of(folder)]
    ceiling = sum(spotter.heard(samples) == word for samples, word in real)
    return {
        "heard right": named(model, folder)["named right"],
        "said, heard by itself": f"{by_itself} of {len(said)}",
        "said, heard by PocketSphinx": f"{by_sphinx} of {len(said)} (real clips: {ceiling} of {len(real)})",
    }


def measure_voice(model: api.Model, folder: Path) -> dict[str, str]:
    """Likeness to clips to test, and what Whisper understands, beside real clips."""
    real = {parts[0].value.split()[1]: waveform(Part("audio", str(folder / clip))) for parts, clip in tests_of(folder)}
    digits = [digit for digit in DIGITS for _ in range(2)]
    said = answers(model, [[Part("text", SAY_DIGIT.format(digit))] for digit in digits], "audio")
    clips = [waveform(part) if part else np.zeros(RATE, np.float32) for part in said]
    ear = EnglishRecogniser(Path("data/sources"))

    def understood(samples: Sequence[np.ndarray], words: Sequence[str]) -> int:
        heard = ear.transcribe([(clip, RATE) for clip in samples])
        return sum(
            word in text.lower() or str(DIGITS.index(word)) in text for text, word in zip(heard, words, strict=True)
        )

    # a digit is shorter than a voice is told from: three after each other, different ones
    def voices(samples: Sequence[np.ndarray]) -> np.ndarray:
        joined = zip(samples, [*samples[3:], *samples[:3]], [*samples[6:], *samples[:6]], strict=True)
        return np.stack([direction(Part("audio", (np.concatenate(three), RATE))) for three in joined])

    of_real = voices(list(real.values()))
    among = of_real @ of_real.T
    ceiling = among[np.triu_indices(len(among), 1)].mean()
    return {
        "likeness": f"{float((voices(clips) @ of_real.T).mean()):.2f} (real clips among each other {ceiling:.2f})",
        "understood by Whisper": f"{understood(clips, digits)} of {len(clips)} (real clips: {understood(list(real.values()), list(real))} of {len(real)})",
    }


MAKERS = {"words": make_words, "voice": make_voice, "pictures": make_pictures}
MEASURES: dict[str, Callable[[api.Model, Path], dict[str, str]]] = {
    "words": measure_words,
    "voice": measure_voice,
    "pictures": named,
}


def main() -> None:
    """Make rows, measure, fine-tune, measure, guard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=MEASURES)
    parser.add_argument("checkpoint")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--to", type=Path, required=True, help="folder for rows and run")
    parser.add_argument("--drawings", type=Path, help="folder of smol's data, for pictures")
    parser.add_argument("--choices", default="{}", help="fields of plait.recipes.finetuning.Choices, JSON")
    parser.add_argument("--earlier", type=Path, help="rows that the checkpoint learned from, if they are elsewhere")
    parser.add_argument("--run", default="run", help="name of the run folder in --to")
    args = parser.parse_intermixed_args()
    rows, run = args.to / "rows", args.to / args.run
    if not (rows / "train.jsonl").is_file():
        MAKERS[args.recipe](rows, args.drawings)
    before = MEASURES[args.recipe](api.load(args.checkpoint), rows)
    begun = time.perf_counter()
    choices = json.loads(args.choices)
    saved = api.finetune(args.checkpoint, *args.overrides, data=rows, out=run, earlier=args.earlier, choices=choices)
    minutes = (time.perf_counter() - begun) / 60
    after = MEASURES[args.recipe](api.load(saved), rows)
    guarded = api.guard(saved, earlier=args.earlier)
    for name in before:
        print(f"{name}: {before[name]} -> {after[name]}")
    print(f"{minutes:.1f} minutes; the guard: {', '.join(guarded['regressed']) or 'nothing got worse'}")


if __name__ == "__main__":
    main()
