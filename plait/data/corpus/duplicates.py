"""Near-duplicates and leaks: short signatures of pictures, sound and words that copies share.

A signature is small enough to store for every item; two items are near-duplicates when their signatures are close:

- pictures: a 64-bit perceptual hash (signs of the low frequencies of a cosine transform, Zauner 2010), confirmed by a
  thumbnail's colours, since a red and a green square have one hash;
- sound: signs of the differences between neighbouring bands of a coarse spectrogram and their changes over time (Haitsma
  and Kalker 2002), at a fixed number of moments, so that louder, resampled and re-encoded copies agree;
- words: Unicode's compatibility form, without case, punctuation and doubled blanks.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn

from plait.errors import DataError

PICTURE_BITS, CLIP_BITS = 64, 512  # of which clips use 480
PICTURE_DISTANCE = 16  # bits of 64: a copy of half the size differs in 4, one in a hundred in 18, other drawings in 30
COLOUR_DISTANCE = 3.0  # mean difference of levels (0 to 255) of 8 x 8 thumbnails: of 99 copies in 100 it is below 1.8
CLIP_DISTANCE = 100  # bits: of 99 re-encoded copies in 100 it is below 56, with silence around 74; of other clips 150
MOMENTS, BANDS = 32, 16
ROWS_AT_ONCE, PAIRS_AT_ONCE = 128, 10_000
SHOWN = 5  # leaks that a message names


@dataclass(frozen=True)
class PictureSignature:
    """`bits`: the perceptual hash; `colours`: [192] levels of an 8 x 8 thumbnail."""

    bits: int
    colours: bytes

    def __str__(self) -> str:
        return f"{self.bits:x}:{self.colours.hex()}"

    @classmethod
    def parse(cls, text: str) -> PictureSignature:
        bits, colours = text.split(":")
        return cls(int(bits, 16), bytes.fromhex(colours))


def picture_signature(picture: Image.Image) -> PictureSignature:
    """Signature of a picture on white."""
    canvas = picture.convert("RGB")
    grey = np.asarray(canvas.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    low = dctn(grey, norm="ortho")[:8, :8].ravel()
    low[0] = np.median(low[1:])  # the mean brightness says nothing
    bits = int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
    return PictureSignature(bits, canvas.resize((8, 8), Image.Resampling.BOX).tobytes())


def clip_signature(frames: np.ndarray) -> int:
    """Signature of a clip from its [n, mels] log-mel frames (plait.modalities.audio.mel), CLIP_BITS bits."""
    loud = frames.max(axis=1)
    heard = np.flatnonzero(loud > loud.max() - 7.0)  # nepers: silence at the ends is no part of it
    sound = frames[heard[0] : heard[-1] + 1]
    edges = np.linspace(0, len(sound), MOMENTS + 1)
    moments = np.stack([sound[int(a) : max(int(a) + 1, int(b))].mean(axis=0) for a, b in itertools.pairwise(edges)])
    bands = moments.reshape(MOMENTS, BANDS, -1).mean(axis=2)
    slopes = np.diff(bands, axis=1)
    return int.from_bytes(np.packbits(slopes > np.median(slopes, axis=0)).tobytes(), "big")


def _words(signatures: Sequence[int], bits: int) -> np.ndarray:
    """[n, bits / 64] uint64."""
    joined = b"".join(signature.to_bytes(bits // 8, "little") for signature in signatures)
    return np.frombuffer(joined, np.uint64).reshape(len(signatures), bits // 64)


def _near(left: Sequence[int], right: Sequence[int], bits: int, most: int, rows: int) -> Iterator[np.ndarray]:
    """[n, 2] pairs of `near`, for `rows` of `left` at a time."""
    a, b = _words(left, bits), _words(right, bits)
    for start in range(0, len(a), rows):
        differing = np.zeros((len(a[start : start + rows]), len(b)), np.uint16)
        for word in range(bits // 64):
            differing += np.bitwise_count(a[start : start + rows, word, None] ^ b[None, :, word])
        yield np.argwhere(differing <= most) + np.array([start, 0])


def near(
    left: Sequence[int], right: Sequence[int], bits: int, most: int, rows: int = ROWS_AT_ONCE
) -> list[tuple[int, int]]:
    """Pairs (index in `left`, index in `right`) whose signatures differ in at most `most` bits; memory is bounded by `rows`."""
    return [(i, j) for pairs in _near(left, right, bits, most, rows) for i, j in pairs.tolist()]


def near_pictures(left: Sequence[PictureSignature], right: Sequence[PictureSignature]) -> list[tuple[int, int]]:
    """(left, right) indices of near-duplicate pictures.

    Pairs of equal shape but different colours are far more numerous; they are held for a few rows at a time.
    """
    a, b = _colours(left), _colours(right)
    near_pairs: list[tuple[int, int]] = []
    for pairs in _near([s.bits for s in left], [s.bits for s in right], PICTURE_BITS, PICTURE_DISTANCE, ROWS_AT_ONCE):
        for batch in np.array_split(pairs, max(1, -(-len(pairs) // PAIRS_AT_ONCE))):
            apart = np.abs(a[batch[:, 0]] - b[batch[:, 1]]).mean(axis=1)
            near_pairs += [(i, j) for i, j in batch[apart <= COLOUR_DISTANCE].tolist()]
    return near_pairs


def _colours(signatures: Sequence[PictureSignature]) -> np.ndarray:
    """[n, 192] int16."""
    joined = b"".join(signature.colours for signature in signatures)
    return np.frombuffer(joined, np.uint8).reshape(len(signatures), -1 if signatures else 192).astype(np.int16)


def near_clips(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
    """(left, right) indices of near-duplicate clips."""
    return near(left, right, CLIP_BITS, CLIP_DISTANCE)


class Groups:
    """Keys that belong together, as a union-find forest; near-duplicates must go into one split."""

    def __init__(self) -> None:
        self.parents: dict[Hashable, Hashable] = {}

    def of(self, key: Hashable) -> Hashable:
        """The key that represents a key's group."""
        path = []
        while (parent := self.parents.get(key, key)) != key:
            path.append(key)
            key = parent
        for passed in path:
            self.parents[passed] = key
        return key

    def join(self, first: Hashable, second: Hashable) -> None:
        a, b = sorted((self.of(first), self.of(second)), key=str)
        if a != b:
            self.parents[b] = a


@dataclass(frozen=True)
class Fingerprints:
    """What the leak check compares of a split: keys, signatures of media by path, and questions."""

    keys: frozenset[str]
    pictures: Mapping[str, PictureSignature]
    clips: Mapping[str, int]
    words: frozenset[str]  # what is asked in words, however it is asked


def alike(held: Fingerprints, train: Fingerprints) -> list[tuple[str, str, str]]:
    """(kind, held-out medium, training medium) of near-duplicates."""
    pictures = near_pictures([*held.pictures.values()], [*train.pictures.values()])
    clips = near_clips([*held.clips.values()], [*train.clips.values()])
    return [
        *(("picture", list(held.pictures)[i], list(train.pictures)[j]) for i, j in pictures),
        *(("clip", list(held.clips)[i], list(train.clips)[j]) for i, j in clips),
    ]


def leaks(held: Fingerprints, train: Fingerprints, keys: bool = True) -> list[str]:
    """A line for everything that a held-out split shares with training; `keys`: whether keys may not be shared either."""
    lines = [f"key {key!r} is in both" for key in sorted(held.keys & train.keys)] if keys else []
    lines += [
        f"{what} {medium} is like {train_medium} in training" for what, medium, train_medium in alike(held, train)
    ]
    again = sorted(held.words & train.words)
    return lines + [f"question {words!r} is asked in training" for words in again]


def refuse_leaks(split: str, lines: Sequence[str]) -> None:
    """Raises DataError that quotes the first SHOWN of `lines`, if there are any."""
    if lines:
        raise DataError(
            f"split {split!r} leaks into training {len(lines)} times: {'; '.join(lines[:SHOWN])}"
            f"{'; ...' if len(lines) > SHOWN else ''}; expected nothing in common: the keys that splits go by must join these"
        )


def tally(reasons: Iterable[str]) -> dict[str, int]:
    """Counts of reasons, the commonest first."""
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
