"""Photographs of clothing: Fashion-MNIST (Xiao et al. 2017), 70,000 grey pictures of 28 x 28 in ten kinds, from Debian."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from plait.data.importers import idx
from plait.data.sources import Entry, Source
from plait.data.sources.fetch import Package
from plait.errors import DataError

LABELS = (
    "t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
PACKAGE = Package(
    "apt", "dataset-fashion-mnist", "0.0~git20200523.55506a9-1",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)  # fmt: skip
SOURCE = Source(
    name="clothes",
    what="70,000 photographs of clothing of ten kinds (Fashion-MNIST)",
    packages=(PACKAGE,),
    licence="MIT",
    attribution="Fashion-MNIST by Zalando SE",
    public="https://github.com/zalandoresearch/fashion-mnist",
    size=31,
)


def pictures(folder: Path) -> Path:
    """The folder of the four IDX files in the unpacked package."""
    return folder / PACKAGE.folder / "usr/share/datasets/fashion-mnist"


def entries(folder: Path) -> Iterator[Entry]:
    """Photographs in the official splits. Raises DataError for damaged files."""
    idx_folder = pictures(folder)
    for part, split in (("train", "train"), ("t10k", "test")):
        files = {what: sorted(idx_folder.glob(f"{part}-{what}-idx*")) for what in ("images", "labels")}
        if not all(files.values()):
            raise DataError(
                f"{idx_folder} lacks {part}-images or {part}-labels; expected the four IDX files: fetch it anew"
            )
        levels, labels = (idx.load(files[what][0]) for what in ("images", "labels"))
        if len(levels) != len(labels) or labels.max(initial=0) >= len(LABELS):
            raise DataError(
                f"{idx_folder} has {len(levels)} {part} pictures and {len(labels)} labels up to {labels.max(initial=0)}; "
                f"expected equal numbers and labels up to {len(LABELS) - 1}: fetch it anew"
            )
        for number, (picture, label) in enumerate(zip(levels, labels, strict=True)):
            facts = {"category": LABELS[label]}
            yield Entry("photo", f"{split} {number}", {"picture": Image.fromarray(picture)}, {}, facts, split)
