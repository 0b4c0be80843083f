"""How well voices are told apart: the equal error rate of pairs of clips by people, and what the threshold of /v1/speakers does to them.

python benchmarks/speakers.py --to data/speakers

Recordings of the sources prompts, voices and syllables, of at least a second without silence: most languages have one speaker, so pairs
within one language stand beside all of them. The threshold that is shipped lies where the two rates meet; it was chosen on these
very pairs.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from plait.contract import Part
from plait.data.corpus import build as corpus
from plait.data.corpus.collect import gather
from plait.data.sources import Asset
from plait.errors import RowError
from plait.modalities.audio.measure import waveform
from plait.modalities.audio.mel import RATE
from plait.modalities.audio.voices import THRESHOLD, direction

SOURCES = ("prompts", "voices", "syllables")
CLIPS = 40  # of each speaker


def equal_error_rate(same: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The rate at which as many pairs of one voice are refused as of two are taken for one, and the threshold there."""
    thresholds = np.unique(np.concatenate([same, other]))
    refused = np.searchsorted(np.sort(same), thresholds) / len(same)
    taken = 1 - np.searchsorted(np.sort(other), thresholds) / len(other)
    at = int(np.abs(refused - taken).argmin())
    return float(refused[at] + taken[at]) / 2, float(thresholds[at])


def voices_of(assets: list[Asset]) -> dict[tuple[str, str], np.ndarray]:
    """[n, width] directions of the clips of each (speaker, language)."""
    clips: dict[tuple[str, str], list[Asset]] = defaultdict(list)
    for asset in assets:
        if "speech" in asset.media and asset.facts.get("speaker"):
            clips[asset.facts["speaker"], asset.facts["language"]].append(asset)
    voices: dict[tuple[str, str], np.ndarray] = {}
    for who, of_speaker in sorted(clips.items()):
        directions = []
        for index in np.random.default_rng(0).permutation(len(of_speaker)):
            try:
                directions.append(direction(Part("audio", (waveform(of_speaker[index].part("speech")), RATE))))
            except RowError:
                continue
            if len(directions) == CLIPS:
                break
        if len(directions) > 1:
            voices[who] = np.stack(directions)
    return voices


def pairs(voices: dict[tuple[str, str], np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likenesses of pairs of clips: of one speaker, of two, and of two who speak one language."""
    same, other, within = [], [], []
    for directions in voices.values():
        likeness = directions @ directions.T
        same.append(likeness[np.triu_indices(len(directions), 1)])
    for ((who, language), first), ((someone, tongue), second) in itertools.combinations(voices.items(), 2):
        if who != someone:
            other.append((first @ second.T).ravel())
            if language == tongue:
                within.append(other[-1])
    return tuple(np.concatenate(each) if each else np.zeros(0) for each in (same, other, within))  # type: ignore[return-value]


def main() -> None:
    """Gather, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="folder for what is collected")
    options = parser.parse_args()
    gathered = gather(options.to, SOURCES, print, {})
    voices = voices_of(list(corpus.load(gathered.counts, gathered.folder)))
    same, other, within = pairs(voices)
    for label, against in (("all pairs", other), ("within a language", within)):
        if not len(against):
            continue
        rate, threshold = equal_error_rate(same, against)
        print(
            json.dumps(
                {
                    "pairs": label, "speakers": len({who for who, _ in voices}), "same": len(same), "other": len(against),
                    "equal error rate": round(rate, 4), "at": round(threshold, 3), "threshold": THRESHOLD,
                    "refused": round(float((same < THRESHOLD).mean()), 4), "taken": round(float((against >= THRESHOLD).mean()), 4),
                }
            )
        )  # fmt: skip


if __name__ == "__main__":
    main()
