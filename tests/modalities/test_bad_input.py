"""Bad input gets: what was got, what was expected, how to mend it."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image
from pydantic import ValidationError
from worlds import World, text

from plait import recipes, registry
from plait.contract import Message, Part
from plait.data.rows import dump_row, parse_row, read_rows
from plait.errors import ConfigError, DataError, PlaitError, RowError
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model.transformer import TrunkConfig
from plait.recipes.overrides import override

WORLD = World()
PART = {"type": "text", "text": "hi"}


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ([], "JSON object"),
        ({}, "exactly one of 'messages'"),
        ({"messages": [], "task": "t"}, "at least one message"),
        ({"messages": [{"role": "user", "content": "a"}], "content": "b"}, "exactly one"),
        ({"messages": [{"role": "user", "content": "a"}], "extra": 1}, "extra"),
        ({"messages": ["hello"]}, "'role' and 'content'"),
        ({"messages": [{"role": "boss", "content": "a"}]}, "boss"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": []}]}, "at least one part"),
        ({"messages": [{"role": "user", "content": 3}]}, "at least one part"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "an object such as"),
        ({"messages": [{"role": "user", "content": [{"type": "smell", "smell": 1}]}]}, "smell"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "no value"),
        ({"messages": [{"role": "user", "content": "a"}], "meta": "a note"}, "'meta' is 'a note'; expected an object"),
        ({"messages": [{"role": "user", "content": "a"}], "meta": None}, "'meta' is None"),
        ({"messages": [{"role": "user", "content": "a"}], "task": None}, "'task' is None; expected text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "image": "../../etc/passwd"}]}]},
            "leaves the data folder",
        ),
    ],
)
def test_bad_rows_are_named(tmp_path, raw, named):
    with pytest.raises(RowError, match=named) as error:
        parse_row(raw, tmp_path, WORLD.modalities, "rows.jsonl:7")
    assert "rows.jsonl:7" in str(error.value)


def test_rows_survive_writing_and_reading(tmp_path):
    raw = {
        "task": "t",
        "messages": [{"role": "user", "content": [PART]}, {"role": "assistant", "content": "ok"}],
        "meta": {"a": 1},
    }
    sample = parse_row(raw, tmp_path, WORLD.modalities)
    (tmp_path / "rows.jsonl").write_text(dump_row(sample) + "\n\n")
    assert list(read_rows(tmp_path / "rows.jsonl", WORLD.modalities)) == [sample]
    document = parse_row({"content": "all of it"}, tmp_path, WORLD.modalities)
    assert document.messages[0].role is None


def test_a_line_that_is_no_json_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"content": "ok"}) + "\n{oops\n")
    with pytest.raises(RowError, match=r"rows\.jsonl:2: not JSON"):
        list(read_rows(tmp_path / "rows.jsonl", WORLD.modalities))
    with pytest.raises(DataError, match="build the data first"):
        list(read_rows(tmp_path / "nowhere.jsonl", WORLD.modalities))


def image(path):
    return WORLD.modalities["image"].read(Part("image", str(path)))


def audio(value):
    return WORLD.modalities["audio"].read(Part("audio", value))


def test_broken_media_are_named(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:-900])
    for path in (cut, tmp_path / "missing.png"):
        with pytest.raises(RowError, match=path.name):
            image(path)
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(RowError, match=r"text\.wav"):
        audio(str(tmp_path / "text.wav"))
    with pytest.raises(RowError, match="no samples"):
        audio((np.zeros(0, np.float32), 16_000))
    with pytest.raises(RowError, match="not finite"):
        audio((np.full(100, np.nan, np.float32), 16_000))
    with pytest.raises(RowError, match=r"40\.0 s"):
        audio((np.zeros(40 * 8000, np.float32), 8000))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16", "I", "F", "YCbCr", "HSV"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_mode_is_read(mode, channels):
    modality = registry.build("image", {"patch": 4, "channels": channels, "max_patches": 9})
    base = Image.linear_gradient("L").resize((16, 12))
    picture = (
        Image.fromarray(np.asarray(base, np.uint16) * 257)
        if mode == "I;16"
        else base.convert("RGB").convert(mode)
        if mode in ("HSV", "P")
        else base.convert(mode)
    )
    tokens = modality.read(Part("image", picture)).blocks[0].tokens
    assert tokens.min() >= -1
    assert tokens.max() <= 1
    assert np.ptp(tokens) > 0.5, "the picture lost its contrast"


def test_a_mode_that_cannot_be_converted_is_named():
    with pytest.raises(RowError, match="mode LAB"):
        WORLD.modalities["image"].read(Part("image", Image.new("LAB", (8, 8))))


def test_transparent_pixels_are_white():
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    modality = registry.build("image", {"patch": 4})
    assert (modality.read(Part("image", clear)).blocks[0].tokens == 1).all()


@pytest.mark.parametrize(
    ("size", "grid"), [((8, 8), (2, 2)), ((100, 10), (1, 6)), ((1, 1), (1, 1)), ((5000, 3), (1, 6)), ((12, 8), (2, 3))]
)
def test_pictures_fit_the_patches(size, grid):
    block = WORLD.modalities["image"].read(Part("image", Image.new("L", size))).blocks[0]
    assert block.header[1:] == (f"<rows:{grid[0]}>", f"<cols:{grid[1]}>")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44_100, 2), (16_000, 1)])
def test_sound_of_any_rate_is_one_rate(tmp_path, suffix, rate, channels):
    time = np.arange(rate // 2) / rate
    tone = 0.2 * np.sin(2 * np.pi * 440 * time)
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate)
    samples = WORLD.modalities["audio"].samples(Part("audio", str(path)))
    assert abs(len(samples) - 8000) < 1300  # mp3 pads
    spectrum = np.abs(np.fft.rfft(samples[:4000]))
    assert abs(spectrum.argmax() * 16_000 / 4000 - 440) < 8
    assert 20 * np.log10(np.sqrt((samples**2).mean())) == pytest.approx(-23, abs=1.0)


def test_silence_stays_silence():
    samples = WORLD.modalities["audio"].samples(Part("audio", (np.zeros(1600, np.float32), 16_000)))
    assert not samples.any()


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("steps", "key=value"),
        ("nonsense=1", "nonsense"),
        ("optim.nonsense=1", "nonsense"),
        ("nowhere.lr=1", "nowhere"),
        ("steps=many", "steps"),
        ("steps=0", "greater than or equal to 1"),
        ("sampling.colour=3", "sampling.colour"),
        ("sampling.steps=0", "sampling.steps"),
        ("trunk.num_heads=3", "heads"),
        ("dtype=int8", "dtype"),
    ],
)
def test_bad_overrides_are_named(entry, named):
    with pytest.raises(ConfigError, match=named):
        override(recipes.module("digits").RECIPE, [entry])


def test_good_overrides_are_applied():
    made = override(recipes.module("digits").RECIPE, ["steps=7", "optim.lr=0.01", "modalities.audio.block=4"])
    assert (made.steps, made.optim.lr, made.modalities["audio"]["block"]) == (7, 0.01, 4)


def test_the_vanilla_preset_is_a_trunk():
    made = override(recipes.module("digits").RECIPE, ["trunk=vanilla"])
    assert (made.trunk.norm, made.trunk.positions, made.trunk.feed_forward) == ("post", "sinusoidal", "relu")


def test_unknown_recipe_and_modality():
    with pytest.raises(ConfigError, match=r"expected one of .*digits"):
        recipes.module("nonsense")
    with pytest.raises(ConfigError, match=r"expected one of .*image"):
        registry.build("nonsense")


def test_trunk_refuses_unknown_keys():
    with pytest.raises(ValidationError, match="nonsense"):
        TrunkConfig(nonsense=1)


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"guidance": -1},
        {"guidance": float("inf")},
        {"guidance": float("nan")},
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"max_tokens": 0},
        {"seed": -1},
        {"seed": "a"},
    ],
)
def test_bad_requests_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Request((Message("user", (text("a"),)),), **bad)


def test_an_empty_question_is_refused():
    for parts in ((), (text(""),)):
        with pytest.raises(ConfigError, match="nothing was asked"):
            Request((Message("user", parts),))


def test_files_that_are_not_there_or_no_media(tmp_path):
    (tmp_path / "page.png").write_text("<html>")
    for name, value, named in (
        ("image", tmp_path / "no.png", "is not there"),
        ("audio", tmp_path / "no.wav", "is not there"),
        ("image", tmp_path / "page.png", "is no picture"),
        ("audio", (np.zeros(100, np.float32), 0), "sample rate of 0"),
    ):
        with pytest.raises(RowError, match=named):
            WORLD.modalities[name].read(Part(name, value))


def test_requests_for_what_cannot_be():
    engine = Engine(WORLD.model())
    question = (Message("user", (text("a"),)),)
    wrong = [Request(question, to="smell"), Request(question, to="image", options={"image": {"size": (0, 5)}})]
    smell, size = (answer.error for answer in engine.generate(wrong))
    assert isinstance(smell, ConfigError)
    assert "smell" in str(smell)
    assert isinstance(size, PlaitError)
    assert "size" in str(size)
