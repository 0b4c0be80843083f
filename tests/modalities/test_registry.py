"""Modalities and what they offer are found by being there: by name, by value, by suffix; what is absent is none, what is broken
says why."""

import sys

import numpy as np
import pytest
from PIL import Image as Pictures

from plait import modalities, registry
from plait.contract import Modality
from plait.errors import ConfigError, MissingError

LOOK_UPS = (registry.augments, registry.suggests, registry.measures, registry.judged, registry.renders)


@pytest.fixture
def folder_of_more(tmp_path, monkeypatch):
    """A second folder that is searched, forgotten afterwards."""

    def forget():
        registry.available.cache_clear()
        registry._optional.cache_clear()

    monkeypatch.setattr(modalities, "__path__", [*modalities.__path__, str(tmp_path)])
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()
    for name in [name for name in sys.modules if name.startswith("plait.modalities.smell")]:
        del sys.modules[name]


def write(folder, **files):
    package = folder / "smell"
    package.mkdir()
    for name, content in {"__init__": "MODALITY = dict", **files}.items():
        (package / f"{name}.py").write_text(content)


def test_folders_are_modalities():
    names = registry.available()
    assert names == tuple(sorted(names))
    assert {"text", "image", "audio"} <= set(names)
    for name in names:
        modality = registry.build(name)
        assert isinstance(modality, Modality)
        assert modality.name == name


def test_modalities_are_built_in_the_order_of_their_names():
    """Whoever asks: ids and weights follow from it."""
    assert list(registry.build_all(["text", "audio", "image"])) == ["audio", "image", "text"]
    built = registry.build_all({"text": {"vocab_size": 300}, "image": {"patch": 4}})
    assert list(built) == ["image", "text"]
    assert (built["image"].patch, built["text"].vocab_size) == (4, 300)
    assert registry.build_all({}) == {}


@pytest.mark.parametrize("name", ["smell", "", "Image", "image.codec", "../text"])
def test_an_unknown_name_lists_those_that_are_known(name):
    with pytest.raises(ConfigError, match=r"expected one of .*image"):
        registry.build(name)


@pytest.mark.parametrize("settings", [{"patches": 3}, {"patch": "wide"}])
def test_unknown_and_impossible_settings_are_named(settings):
    with pytest.raises(ConfigError, match=r"modality 'image' got settings.*patch"):
        registry.build("image", settings)


@pytest.mark.parametrize("look_up", LOOK_UPS)
@pytest.mark.parametrize("name", ["smell", "", "IMAGE"])
def test_an_unknown_modality_offers_nothing(look_up, name):
    assert look_up(name) is None
    assert registry.suffixes(name) == ()


def test_what_a_folder_does_not_have_is_none():
    assert registry.judged("text") is None
    assert registry.judged("image") is not None
    assert registry.suffixes("text") == ()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("words", "text"),
        ("", "text"),
        (Pictures.new("L", (1, 1)), "image"),
        ((np.zeros(3), 16_000), "audio"),
        (3, None),
        (None, None),
        (b"words", None),
        ([1, 2], None),
        ((1, 2), None),
    ],
)
def test_a_value_is_of_the_modality_that_takes_it(value, kind):
    assert registry.kind_of(value) == kind


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".png", "image"), (".PNG", "image"), (".Jpeg", "image"), (".AVIF", "image"), (".FLAC", "audio"), (".Mp3", "audio"),
        (".txt", None), ("", None), ("png", None), (".svg", None), (".eps", None), (".pdf", None),
    ],
)  # fmt: skip
def test_a_file_is_of_the_modality_that_reads_it_in_whatever_case(suffix, kind):
    assert registry.kind_of_file(suffix) == kind


def test_no_suffix_is_claimed_twice():
    claimed = [suffix for name in registry.available() for suffix in registry.suffixes(name)]
    assert len(claimed) == len(set(claimed))
    assert all(suffix.startswith(".") for suffix in claimed)


def test_a_folder_with_a_codec_alone_is_enough(folder_of_more):
    write(folder_of_more)
    assert "smell" in registry.available()
    assert registry.build("smell", {"rose": 1}) == {"rose": 1}
    assert [look_up("smell") for look_up in LOOK_UPS] == [None] * len(LOOK_UPS)
    assert registry.kind_of("words") == "text", "what has no render.py is passed over"


def test_files_beside_the_codec_are_found(folder_of_more):
    rendering = "reads_files = lambda: ('.smell',)\naccepts = lambda value: value == 'a rose'\n"
    write(folder_of_more, render=rendering, augment="")
    assert registry.kind_of_file(".SMELL") == "smell"
    assert registry.kind_of("a rose") == "smell"
    assert registry.augments("smell") is not None
    assert registry.measures("smell") is None


@pytest.mark.parametrize("file", ["__init__", "measure"])
def test_a_package_that_is_missing_is_named_with_how_to_get_it(folder_of_more, file):
    write(folder_of_more, **{file: "import nose_of_nobody"})
    with pytest.raises(MissingError, match=r"'smell' needs the package 'nose_of_nobody'.*pip install nose_of_nobody"):
        registry.build("smell") if file == "__init__" else registry.measures("smell")
    assert registry.build("text").name == "text", "the others go on"


def test_transforms_are_those_of_the_tasks():
    assert callable(registry.transform("boxes.move"))
    with pytest.raises(ConfigError, match=r"expected MODULE\.NAME"):
        registry.transform("boxes.TRANSFORMS")
