"""Words wrong in what a checkpoint says, by Whisper tiny.en and PocketSphinx, beside the voice that it learned from; how fast, and how soon.

python benchmarks/words_said.py smol --spoken data/smol/spoken --limit 100

`--spoken` is the folder of a build with Piper's clips: its held-out sentences are said, and its clips of them are heard, too.
Seconds of computing for a second of sound are those of one sentence after the other.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import jiwer
import numpy as np
import soundfile

from plait import api, registry
from plait.contract import WORDS, Message, Part
from plait.data.sources import fetch
from plait.eval.external.recogniser import EnglishRecogniser
from plait.eval.external.sphinx import SphinxRecogniser
from plait.infer.events import BlockDone
from plait.infer.numerals import in_words
from plait.infer.request import Request
from plait.infer.spoken import SAY
from plait.runtime.words import plain_words

KIND = "audio"
Clip = tuple[np.ndarray, int]


def sentences(folder: Path, limit: int) -> list[tuple[str, Path]]:
    """Held-out sentences by Piper's voice, and the clips of them."""
    lines = map(json.loads, (folder / "spoken.jsonl").read_text(encoding="utf-8").splitlines())
    chosen = [
        (line["said"], folder / line["file"])
        for line in lines
        if line["split"] == "test" and line["words"] == "sentence" and len(line["said"].split()) >= 4
    ]
    return chosen[:limit]


def requests(model: api.Model, texts: list[str], settings: dict[str, float]) -> list[Request]:
    """A request to say each text."""
    longest = registry.longest(model.network.vocabulary.modalities[KIND])
    asked = model.usual | settings
    return [
        Request(
            (Message("user", (Part(WORDS, SAY.format(text=text)),)),), to=KIND, seed=number, max_tokens=longest,
            options={KIND: {"say": in_words(text)}}, **asked,
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip


def spoken_alone(model: api.Model, request: Request) -> tuple[float, float, float]:
    """Seconds of sound, seconds that it took, and seconds to the first piece of it."""
    begin, first = time.perf_counter(), 0.0
    ticket = model.engine.submit(request, stream=True)
    samples = 0
    while not ticket.done:
        model.engine.step()
        for event in ticket.events:
            if isinstance(event, BlockDone):
                first = first or time.perf_counter() - begin
                samples += len(event.piece.value[0])
                rate = event.piece.value[1]
        ticket.events.clear()
    return samples / rate, time.perf_counter() - begin, first


def main() -> None:
    """Say, listen and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--spoken", type=Path, default=Path("data/smol/spoken"))
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--timed", type=int, default=10, help="sentences that are said one after the other")
    parser.add_argument("--to", type=Path, help="a folder to keep what is said in")
    options = parser.parse_args()
    chosen = sentences(options.spoken, options.limit)
    texts = [text for text, _ in chosen]
    model = api.load(options.checkpoint)
    settings = {name: value for name in ("steps", "guidance") if (value := getattr(options, name)) is not None}
    asked = requests(model, texts, settings)
    begin = time.perf_counter()
    answers = model.generate_all(asked)
    seconds = time.perf_counter() - begin
    if failed := [answer.error for answer in answers if answer.error]:
        raise failed[0]
    said: list[Clip] = [answer.message.parts[0].value for answer in answers]
    length = sum(len(samples) / rate for samples, rate in said)
    print(f"{len(said)} sentences together: {length:.0f} s of sound in {seconds:.0f} s")
    if options.to:
        options.to.mkdir(parents=True, exist_ok=True)
        for number, (samples, rate) in enumerate(said):
            soundfile.write(options.to / f"{number:03}.wav", samples, rate)
    timed = [spoken_alone(model, request) for request in asked[: options.timed]]
    sounds, took, first = (np.array(column) for column in zip(*timed, strict=True))
    print(
        f"one by one: {took.sum() / sounds.sum():.2f} s a second of sound; first sound after {np.median(first):.2f} s (median)"
    )
    recorded: list[Clip] = [soundfile.read(path, dtype="float32") for _, path in chosen]
    reference = [plain_words(text) for text in texts]
    for name, recogniser in (
        ("Whisper tiny.en", EnglishRecogniser(fetch.places())),
        ("PocketSphinx", SphinxRecogniser()),
    ):
        for who, clips in (("the model", said), ("Piper", recorded)):
            heard = [plain_words(text) for text in recogniser.transcribe(clips)]
            print(f"{name} hears {100 * jiwer.wer(reference, heard):.1f} % of the words of {who} wrong")


if __name__ == "__main__":
    main()
