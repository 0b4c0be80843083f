"""Collecting a source: once, whole or not at all, and with reasons for what is left out."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
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
