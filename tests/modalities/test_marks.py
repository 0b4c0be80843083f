"""What a model made is marked, and the mark survives what happens to files (benchmarks/mark_survival.py has the figures)."""

import io

import numpy as np
import pytest
import soundfile
import soxr
from PIL import Image, ImageDraw

from plait import registry
from plait.contract import Part
from plait.errors import RowError
from plait.modalities import PROVENANCE, Provenance
from plait.modalities.audio.mel import RATE


def drawing(seed, side=96, mode="RGB"):
    """Shapes on white, as drawings are."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    for _ in range(5):
        x, y = rng.integers(0, side // 2, 2)
        colour = tuple(int(level) for level in rng.integers(0, 255, 3))
        pen.ellipse((x, y, x + int(rng.integers(side // 6, side // 2)), y + side // 3), fill=colour, outline="black")
    return Part("image", picture.convert(mode))


def humming(seed, seconds=3.0):
    """A voice without words: harmonics of a wavering pitch, louder and softer, in noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(130 + 30 * np.sin(2 * np.pi * rng.uniform(1, 3) * t)) / RATE
    voice = sum(np.sin(n * phase + rng.uniform(0, 6)) / n for n in range(1, 35))
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * t + rng.uniform(0, 6)) ** 2
    samples = 0.1 * loud * voice + 0.02 * rng.standard_normal(len(t))
    return Part("audio", (samples.astype(np.float32), RATE))


def saved(picture, format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def is_marked(kind, value):
    return registry.provenance(Part(kind, value)).is_marked


@pytest.mark.parametrize("seed", range(6))
def test_a_mark_is_found_in_pictures_that_have_it_alone(seed):
    part = drawing(seed)
    marked = registry.marks("image").mark(part)
    difference = np.asarray(marked.value, np.float64) - np.asarray(part.value)
    assert 0 < np.sqrt((difference**2).mean()) < 10  # of 255
    assert marked.value.size == part.value.size
    assert not is_marked("image", part.value)
    assert is_marked("image", marked.value)
    for altered in (
        marked.value.resize((48, 48)),
        marked.value.resize((211, 193)),
        saved(marked.value.resize((384, 384)), "JPEG", quality=60),
        saved(marked.value, "WEBP", quality=95),
    ):
        assert is_marked("image", altered)


def test_a_mark_is_found_in_most_pictures_that_were_cut():
    cut = [registry.marks("image").mark(drawing(seed)).value.crop((3, 8, 92, 90)) for seed in range(12)]
    assert sum(is_marked("image", picture) for picture in cut) >= 8


@pytest.mark.parametrize(("side", "mode"), [(16, "RGB"), (28, "L"), (48, "RGBA"), (5, "RGB"), (1, "RGB")])
def test_any_picture_can_be_marked(side, mode):
    part = Part("image", drawing(1, 48).value.resize((side, side)).convert(mode))
    marked = registry.marks("image").mark(part)
    assert marked.value.size == (side, side)
    assert marked.value.mode == ("L" if mode == "L" else "RGB")
    if side >= 16:
        assert is_marked("image", marked.value)


def test_photographs_and_blank_pictures_have_no_mark():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (60, 80, 3)).astype(np.uint8) for _ in range(20)]
    pictures += [np.full((40, 40, 3), level, np.uint8) for level in (0, 128, 255)]
    pictures += [np.asarray(drawing(seed, int(rng.integers(20, 200))).value) for seed in range(40)]
    assert not any(is_marked("image", pixels) for pixels in pictures)


@pytest.mark.parametrize("seed", range(4))
def test_a_mark_is_found_in_sound_that_has_it_alone(seed):
    part = humming(seed)
    marked = registry.marks("audio").mark(part)
    samples, rate = marked.value
    assert (len(samples), rate) == (len(part.value[0]), RATE)
    assert not is_marked("audio", part.value)
    assert is_marked("audio", marked.value)
    assert is_marked("audio", (samples[RATE // 3 + 17 :], RATE))
    assert is_marked("audio", (soxr.resample(samples, RATE, 22_050), 22_050))
    for container, subtype in (("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16")):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, RATE, format=container, subtype=subtype)
        assert is_marked("audio", buffer.getvalue())


@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_sound_is_marked_piece_by_piece_as_at_once(pieces):
    part = humming(7)
    whole = registry.marks("audio").mark(part).value[0]
    take = registry.marks("audio").marker()
    told = [take(Part("audio", (piece, RATE))) for piece in np.array_split(part.value[0], pieces)]
    told.append(take(None))
    np.testing.assert_array_equal(np.concatenate([piece.value[0] for piece in told]), whole)
    given = sum(len(piece.value[0]) for piece in told[:-1])
    assert given >= len(part.value[0]) - 1024  # it lags behind by a window at most


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1024, 5000])
def test_sound_of_any_length_keeps_it(count):
    samples = humming(3).value[0][:count]
    assert len(registry.marks("audio").mark(Part("audio", (samples, RATE))).value[0]) == count


def test_silence_and_noise_have_no_mark():
    rng = np.random.default_rng(0)
    clips = [np.zeros(RATE), np.zeros(10), *(0.1 * rng.standard_normal(RATE * 2) for _ in range(20))]
    assert not any(is_marked("audio", (clip.astype(np.float32), RATE)) for clip in clips)


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_files_say_who_made_them(kind):
    transfer, marks = registry.transfers(kind), registry.marks(kind)
    part = drawing(2) if kind == "image" else humming(2)
    for format in transfer.formats():
        if format == "pcm":
            continue  # samples alone
        made = transfer.decode(transfer.encode(marks.mark(part), format))
        assert registry.provenance(made).declared == "Plait"
        assert registry.provenance(made).is_marked, format
        other = transfer.decode(transfer.encode(Part(kind, part.value, {PROVENANCE: 'Mö & "Söhne" <1>'}), format))
        assert registry.provenance(other).declared.startswith('Mö & "Söhne"')
        plain = transfer.decode(transfer.encode(part, format))
        assert registry.provenance(plain).declared == ""


def test_what_has_no_mark_of_its_own_is_judged_by_its_file_alone():
    assert registry.provenance(Part("text", "hello")) == Provenance("")
    assert not registry.provenance(Part("text", "hello", {PROVENANCE: "Plait"})).is_marked


def test_stereo_and_other_rates_are_heard_as_one():
    samples = registry.marks("audio").mark(humming(1)).value[0]
    assert is_marked("audio", (np.stack([samples, samples], axis=1), RATE))
    with pytest.raises(RowError, match="samples a second"):
        is_marked("audio", (samples, 1))


def test_large_media_are_looked_at_in_short_time():
    assert not is_marked("image", np.full((3000, 4000, 3), 77, np.uint8))
    assert not is_marked("audio", (np.zeros(RATE * 600, np.float32), RATE))


def test_damaged_media_are_refused():
    for kind in ("image", "audio"):
        with pytest.raises(RowError):
            registry.provenance(Part(kind, b"nothing"))
