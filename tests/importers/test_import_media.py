"""Media are checked as they are taken: what decodes to nothing that can be learned is passed over with the reason."""

import numpy as np
import pytest
import soundfile
from import_sources import WORLD, answers, clip, picture, take
from PIL import Image

from plait.data.importers.core.media import blob_of, embedded, is_medium
from plait.data.importers.core.report import EntryError
from plait.data.validate import check_file
from plait.errors import DataError


def cancelling(path):
    samples = np.random.default_rng(0).normal(0, 0.1, 4000)
    soundfile.write(path, np.stack([samples, -samples], 1), 16_000)


def empty(path):
    soundfile.write(path, np.zeros(0), 16_000)


def not_a_number(path):
    soundfile.write(path, np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cancelling, "audio part: got channels that cancel each other out: their mean is silence"),
        (empty, "audio part: got no samples"),
        (not_a_number, "audio part: got samples that are not finite numbers"),
        (lambda path: path.write_bytes(path.read_bytes()[:20]), "audio part: cannot decode bytes: "),
    ],
)
def test_clips_of_nothing(tmp_path, spoil, reason):
    for label in ("bell", "horn"):
        for n in range(10):
            clip(tmp_path / "s" / label / f"{n}.wav")
    spoil(tmp_path / "s/horn/7.wav")
    _, said = take(tmp_path / "s", tmp_path / "to")
    assert answers(tmp_path / "to") == ["bell"] * 10 + ["horn"] * 9
    (line,) = said[1:]
    assert line.startswith(f"1 passed over: {reason}")
    assert line.endswith("(horn/7.wav)")
    with pytest.raises(DataError, match=r"^horn/7.wav: audio part"):
        take(tmp_path / "s", tmp_path / "strict", strict=True)


def test_pictures_of_nothing(tmp_path):
    for label in ("cat", "dog"):
        for n in range(10):
            picture(tmp_path / "s" / label / f"{n}.png")
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "s/dog/a.tiff")
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "s/dog/b.tiff")
    _, said = take(tmp_path / "s", tmp_path / "to")
    assert answers(tmp_path / "to") == ["cat"] * 10 + ["dog"] * 11
    assert said[1:] == ["1 passed over: image part: got pixels that are not finite numbers (dog/a.tiff)"]


def test_a_long_clip_is_for_whoever_trains(tmp_path):
    for label in ("bell", "horn"):
        clip(tmp_path / "s" / label / "0.wav")
    soundfile.write(tmp_path / "s/horn/long.wav", np.random.default_rng(0).normal(0, 0.1, 45 * 8000), 8000)
    take(tmp_path / "s", tmp_path / "to", strict=True)
    assert answers(tmp_path / "to") == ["bell", "horn", "horn"]


def test_what_is_imported_is_what_the_validator_takes(tmp_path):
    """A file without an ending, and one whose ending is not its own."""
    for n in range(12):
        picture(tmp_path / "s" / "cat" / f"{n}.png")
        picture(tmp_path / "s" / "dog" / f"{n}.png").rename(tmp_path / "s/dog" / f"{n}.jpg")
    counts, _ = take(tmp_path / "s", tmp_path / "to", strict=True)
    for split in counts:
        assert check_file(tmp_path / "to" / f"{split}.jsonl", WORLD.modalities, print).bad_lines.tolist() == []


def test_the_ending_that_belongs_to_bytes():
    assert blob_of(b"\x89PNG...", "a.jpg", "image").suffix == ".png"
    assert blob_of(b"RIFF0000WEBP", "a", "image").suffix == ".webp"
    assert blob_of(b"RIFF0000WAVE", "", "audio").suffix == ".wav"
    assert blob_of(b"?", "a.PNG", "image").suffix == ".png"
    assert embedded({"bytes": None, "path": "a.png"}, "image") is None
    assert embedded("a.png", "image") is None
    assert embedded(b"GIF89a", "image").suffix == ".gif"
    with pytest.raises(EntryError, match="not base64"):
        embedded("data:image/png;base64,%%", "image")


def test_names_of_media():
    assert all(map(is_medium, ["a.png", "b/c.WAV", "x.mp4", "a.heic"]))
    assert not any(map(is_medium, ["a", "a.txt", "see a.png\nfor more", "v1.5"]))
