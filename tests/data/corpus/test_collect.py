"""Collecting a source: once, whole or not at all, and with reasons for what is left out."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from drawings_and_clips import clip, drawing
from PIL import Image

from plait import registry
from plait.data import sources
from plait.data.corpus import collect
from plait.data.sources import Entry
from plait.errors import DataError
from plait.modalities.audio.mel import RATE

KNOWN = registry.build_all(registry.available())


def entries(folder):
    yield Entry("drawing", "apple", {"picture": drawing(1, 300)}, {"en": "apple"}, {"style": "noto"})
    yield Entry(
        "boxes", "map", {"picture": drawing(2, 640)}, {}, {"boxes": [{"label": "a", "box": [64, 64, 128, 640]}]}
    )
    yield Entry("speech", "apple", {"speech": (clip(1), RATE)}, {"en": "apple"}, {"speaker": "x", "language": "en"})
    yield Entry("speech", "long", {"speech": (clip(1, 9.0), RATE)}, {"en": "long"}, {"speaker": "x", "language": "en"})
    yield Entry("speech", "quiet", {"speech": (np.zeros(RATE, np.float32), RATE)}, {}, {})
    yield Entry("drawing", "paper", {"picture": Image.new("RGB", (50, 50), "white")}, {}, {})
    yield Entry("left out", "no name", facts={"what": "x"})


@pytest.fixture
def fake(monkeypatch):
    calls = Counter()

    def module(name):
        def counted(folder):
            calls[name] += 1
            return entries(folder)

        return SimpleNamespace(entries=counted)

    monkeypatch.setattr(sources, "module", module)
    return calls


def test_sources_are_collected_once_and_what_is_left_out_is_counted(tmp_path, fake):
    done = collect.collect("fake", tmp_path, tmp_path / "collected")
    assert done["items"] == {"drawing": 1, "boxes": 1, "speech": 1}
    assert done["left_out"] == {
        "sound that is too long": 1, "silence, or sound of less than 0.1 s": 1, "a picture of one colour": 1, "no name": 1,
    }  # fmt: skip
    apple, boxed, spoken = collect.assets_of("fake", tmp_path / "collected")
    with Image.open(apple.media["picture"]) as picture:
        assert max(picture.size) == collect.SIDE
    assert boxed.facts["size"] == [320, 320]
    assert boxed.facts["boxes"][0]["box"] == [32, 32, 64, 320]
    assert KNOWN["audio"].read(spoken.part("speech")).blocks
    assert collect.collect("fake", tmp_path, tmp_path / "collected") == done
    assert fake["fake"] == 1
    (tmp_path / "source.json").write_text("other archives")
    collect.collect("fake", tmp_path, tmp_path / "collected")
    assert fake["fake"] == 2, "what other archives hold is collected anew"


def test_a_source_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def broken(folder):
        yield from list(entries(folder))[:2]
        raise DataError("the list ends in the middle")

    monkeypatch.setattr(sources, "module", lambda name: SimpleNamespace(entries=broken))
    with pytest.raises(DataError, match="in the middle"):
        collect.collect("fake", tmp_path, tmp_path / "collected")
    assert not (tmp_path / "collected/fake").exists()
    with pytest.raises(DataError, match="expected the source fake collected"):
        list(collect.assets_of("fake", tmp_path / "collected"))


@pytest.mark.parametrize(
    ("medium", "reason"),
    [
        (b"no picture", "cannot be decoded"),
        (Image.new("RGB", (7, 90), "red"), "less than 8 pixels"),
        (Image.new("RGB", (90, 90), (9, 9, 9)), "one colour"),
    ],
)
def test_a_picture_that_is_not_taken_says_why(tmp_path, medium, reason):
    with pytest.raises(collect._LeftOutError, match=reason):
        collect._picture(medium, tmp_path / "a", collect.SIDE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0, np.float32), "damaged"),
        (np.zeros(RATE, np.float32), "silence"),
        (np.full(800, 0.5, np.float32), "less than 0.1 s"),
        (np.full(9 * RATE, 0.5, np.float32), "too long"),
    ],
)
def test_a_clip_that_is_not_taken_says_why(tmp_path, samples, reason):
    with pytest.raises(collect._LeftOutError, match=reason):
        collect._clip((samples, RATE), tmp_path / "a")


def test_files_of_sound_are_linked_and_samples_become_flac(tmp_path):
    soundfile.write(tmp_path / "a.WAV", clip(3), RATE)
    path, signature = collect._clip(tmp_path / "a.WAV", tmp_path / "linked")
    assert path == tmp_path / "linked.wav"
    assert path.samefile(tmp_path / "a.WAV")
    written, same = collect._clip((clip(3), RATE), tmp_path / "written")
    assert written.suffix == ".flac"
    assert (int(signature, 16) ^ int(same, 16)).bit_count() < 20, "16 bits of a sample change next to nothing"


def test_where_files_cannot_be_linked_they_are_copied(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", clip(3), RATE)
    monkeypatch.setattr(collect.os, "link", lambda *paths: (_ for _ in ()).throw(OSError("another file system")))
    path, _ = collect._clip(tmp_path / "a.wav", tmp_path / "copied")
    assert path.read_bytes() == (tmp_path / "a.wav").read_bytes()
    assert not path.samefile(tmp_path / "a.wav")


def test_one_of_so_many_is_taken(tmp_path, monkeypatch):
    def many(folder):
        for number in range(7):
            yield Entry("exchange", str(number), facts={"question": "?", "answer": "!"})

    monkeypatch.setattr(sources, "module", lambda name: SimpleNamespace(entries=many))
    assert collect.collect("fake", tmp_path, tmp_path / "collected", every=3)["items"] == {"exchange": 3}
    assert [asset.key for asset in collect.assets_of("fake", tmp_path / "collected")] == ["0", "3", "6"]
    assert collect.collect("fake", tmp_path, tmp_path / "collected", every=1)["items"] == {"exchange": 7}, "anew"


def test_a_transparent_drawing_is_put_on_white(tmp_path):
    canvas = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    canvas.paste((255, 0, 0, 255), (10, 10, 30, 30))
    path, _, scale = collect._picture(canvas, tmp_path / "a", collect.SIDE)
    with Image.open(path) as picture:
        assert (picture.mode, picture.getpixel((0, 0)), picture.getpixel((20, 20))) == (
            "RGB",
            (255, 255, 255),
            (255, 0, 0),
        )
    assert scale == 1.0, "small ones are not enlarged"
