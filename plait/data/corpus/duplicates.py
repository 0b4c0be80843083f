"""What makes two things the same although their bytes differ: signatures of pictures, sound and words, and what leaks.

A signature is short enough to be kept for every item, and two items are near-duplicates when their signatures are near:

- pictures: a 64-bit perceptual hash (signs of the low frequencies of a cosine transform, Zauner 2010), confirmed by colours:
  a red and a green square have one hash;
- sound: signs of the differences between neighbouring bands of a coarse spectrogram and their changes over time (Haitsma and
  Kalker 2002), laid out on a fixed number of moments, so that a clip and its louder, resampled or re-encoded copy agree;
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
    whole = frames[heard[0] : heard[-1] + 1]
    places = np.linspace(0, len(whole), MOMENTS + 1)
    moments = np.stack([whole[int(a) : max(int(a) + 1, int(b))].mean(axis=0) for a, b in itertools.pairwise(places)])
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
    """Pairs of near-duplicates among pictures. Of pairs that only look alike in shape, of which there are many times more,
    no more than a few rows' are held."""
    a, b = _colours(left), _colours(right)
    found: list[tuple[int, int]] = []
    for pairs in _near([s.bits for s in left], [s.bits for s in right], PICTURE_BITS, PICTURE_DISTANCE, ROWS_AT_ONCE):
        for some in np.array_split(pairs, max(1, -(-len(pairs) // PAIRS_AT_ONCE))):
            apart = np.abs(a[some[:, 0]] - b[some[:, 1]]).mean(axis=1)
            found += [(i, j) for i, j in some[apart <= COLOUR_DISTANCE].tolist()]
    return found


def _colours(signatures: Sequence[PictureSignature]) -> np.ndarray:
    """[n, 192] int16."""
    joined = b"".join(signature.colours for signature in signatures)
    return np.frombuffer(joined, np.uint8).reshape(len(signatures), -1 if signatures else 192).astype(np.int16)


def near_clips(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of near-duplicates among clips."""
    return near(left, right, CLIP_BITS, CLIP_DISTANCE)


class Groups:
    """Keys that belong together, as a union-find forest: what is near-duplicate goes into one split."""

    def __init__(self) -> None:
        self.parents: dict[Hashable, Hashable] = {}

    def of(self, key: Hashable) -> Hashable:
        """The group's name: the key that stands for it."""
        path = []
        while (parent := self.parents.get(key, key)) != key:
            path.append(key)
            key = parent
        for passed in path:
            self.parents[passed] = key
        return key

    def join(self, one: Hashable, other: Hashable) -> None:
        a, b = sorted((self.of(one), self.of(other)), key=str)
        if a != b:
            self.parents[b] = a


@dataclass(frozen=True)
class Fingerprints:
    """What the leak check compares of a split: where each item is from, and its signature."""

    keys: frozenset[str]
    pictures: Mapping[str, PictureSignature]
    clips: Mapping[str, int]
    words: frozenset[str]  # what is asked in words, however it is asked


def alike(held: Fingerprints, train: Fingerprints) -> list[tuple[str, str, str]]:
    """(what, medium, medium of training) of near-duplicates."""
    pictures = near_pictures([*held.pictures.values()], [*train.pictures.values()])
    clips = near_clips([*held.clips.values()], [*train.clips.values()])
    return [
        *(("picture", list(held.pictures)[i], list(train.pictures)[j]) for i, j in pictures),
        *(("clip", list(held.clips)[i], list(train.clips)[j]) for i, j in clips),
    ]


def leaks(held: Fingerprints, train: Fingerprints, keys: bool = True) -> list[str]:
    """What of a held-out split is in training too, a line each; `keys`: whether those must differ as well."""
    found = [f"key {key!r} is in both" for key in sorted(held.keys & train.keys)] if keys else []
    found += [f"{what} {here} is like {there} in training" for what, here, there in alike(held, train)]
    again = sorted(held.words & train.words)
    return found + [f"question {words!r} is asked in training" for words in again]


def refuse_leaks(split: str, found: Sequence[str]) -> None:
    """Raises DataError that names some of `found`."""
    if found:
        raise DataError(
            f"split {split!r} leaks into training {len(found)} times: {'; '.join(found[:SHOWN])}"
            f"{'; ...' if len(found) > SHOWN else ''}; expected nothing in common: the keys that splits go by must join these"
        )


def tally(reasons: Iterable[str]) -> dict[str, int]:
    """How often each reason was given, the commonest first."""
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
